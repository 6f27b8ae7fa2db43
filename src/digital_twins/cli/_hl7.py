"""``twin hl7``: send HL7 v2 files over MLLP, and show what they become."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins._errors import InputError
from digital_twins.cli._options import Json

if TYPE_CHECKING:
    from digital_twins.hl7v2 import Message

_File = Annotated[Path, typer.Argument(metavar="FILE", help="HL7 v2 messages: one, several, or a batch.")]


def register(app: typer.Typer) -> None:
    """Add the command and its parts."""
    hl7 = typer.Typer(no_args_is_help=True, help="HL7 v2 messages.")
    hl7.command("send")(send)
    hl7.command("parse")(parse)
    app.add_typer(hl7, name="hl7")


def send(
    file: _File,
    *,
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="Where the receiver listens.")],
    as_json: Json = False,
) -> int:
    """Send every message of a file over MLLP, in order; stops at the first that is not accepted."""
    import asyncio

    from digital_twins.cli import _output
    from digital_twins.hl7v2 import MllpClient

    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError("The receiver is not usable.", "--to is not HOST:PORT.", "Give e.g. 127.0.0.1:2575.")
    messages = _messages(file)

    async def run() -> list[dict[str, str]]:
        answers: list[dict[str, str]] = []
        async with MllpClient(host, int(port)) as client:
            for message in messages:
                answer = await client.send(message)
                code = answer["MSA-1"]
                answers.append(
                    {
                        "control_id": answer["MSA-2"],
                        "code": code,
                        "error": answer["ERR-3"],
                        "text": answer["ERR-8"],
                    }
                )
                if code not in {"AA", "CA"}:
                    break
        return answers

    answers = asyncio.run(run())
    if as_json:
        _output.write_json(answers)
    else:
        _output.write_lines(" ".join(filter(None, answer.values())) for answer in answers)
    return 0 if all(answer["code"] in {"AA", "CA"} for answer in answers) else 1


def parse(
    file: _File,
    *,
    fhir: Annotated[
        bool, typer.Option("--fhir", help="Write the FHIR transactions that the messages become.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the segments and fields of a file, or the FHIR transactions that its messages become."""
    from digital_twins.cli import _output
    from digital_twins.hl7v2 import bundle_of

    messages = _messages(file)
    if fhir:
        _output.write_json([bundle_of(message) for message in messages])
    elif as_json:
        _output.write_json([_tree(message) for message in messages])
    else:
        _output.write_lines(
            f"{segment.name}-{number} {segment.raw(number)}"
            for message in messages
            for segment in message.lines
            for number in range(1, len(segment.fields))
            if segment.raw(number)
        )


def _tree(message: "Message") -> list[dict[str, Any]]:
    return [
        {
            "segment": each.name,
            "fields": {str(n): each.repetitions(n) for n in range(1, len(each.fields)) if each.raw(n)},
        }
        for each in message.lines
    ]


def _messages(file: Path) -> "list[Message]":
    from digital_twins.hl7v2 import parse_batch

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            "The file cannot be read.",
            f"The system answered: {error.strerror or type(error).__name__}.",
            "Give a file of HL7 v2 messages.",
        ) from None
    return parse_batch(data).messages
