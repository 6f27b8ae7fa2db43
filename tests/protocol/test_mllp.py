"""MLLP: acknowledgement after the write, TLS, and peers that are slow, silent, too large or no peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from certificates import Authority
from digital_twins import StorageError
from digital_twins.hl7v2 import HL7Error, Message, MllpClient, MllpLimits, MllpServer, parse, start_mllp
from hl7_messages import TYPES, oru

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

VT, END = b"\x0b", b"\x1c\r"


def served(
    work: Callable[[MllpServer, list[Message]], Awaitable[None]],
    *,
    error: Exception | None = None,
    limits: MllpLimits | None = None,
) -> list[Message]:
    """Run `work` beside a port that keeps what it takes, or raises `error`."""
    kept: list[Message] = []

    async def handler(message: Message) -> None:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        kept.append(message)

    async def main() -> None:
        server = await start_mllp(handler, limits=limits)
        try:
            async with asyncio.timeout(20):
                await work(server, kept)
        finally:
            await server.close()
        assert server.connections == 0

    asyncio.run(main())
    return kept


def original(data: bytes) -> bytes:
    """The message without MSH-15 and MSH-16."""
    return data.replace(b"|AL|NE|", b"|||")


def test_messages_are_acknowledged_after_the_handler_in_their_order() -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        async with MllpClient("127.0.0.1", server.port) as client:
            for number, data in enumerate(TYPES.values(), start=1):
                answer = await client.send(parse(original(data)))
                assert (answer["MSA-1"], answer["MSA-2"]) == ("AA", "C1")
                assert len(kept) == number
        assert [each.to_bytes() for each in kept] == [original(data) for data in TYPES.values()]

    assert len(served(work)) == len(TYPES)


@pytest.mark.parametrize(
    ("error", "code", "number"),
    [
        (HL7Error("W.", "Y.", "F.", code="101", location="PID^1^3"), "AE", "101"),
        (HL7Error("W.", "Y.", "F.", code="200"), "AR", "200"),
        (StorageError("Full.", "Y.", "F."), "AE", "207"),
        (ValueError("SECRET"), "AE", "207"),
    ],
)
def test_refusals(error: Exception, code: str, number: str) -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        async with MllpClient("127.0.0.1", server.port) as client:
            for _ in range(2):
                answer = await client.send(parse(original(oru())))
                assert (answer["MSA-1"], answer["ERR-3"]) == (code, number)
                assert b"SECRET" not in answer.to_bytes()

    assert served(work, error=error) == []


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [("AL", "NE", ["CA"]), ("AL", "AL", ["CA", "AA"]), ("NE", "AL", ["AA"]), ("SU", "ER", ["CA"])],
)
def test_enhanced_mode(accept: str, application: str, codes: list[str]) -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        data = oru().replace(b"|AL|NE|", f"|{accept}|{application}|".encode())
        writer.write(VT + data + END)
        for code in codes:
            assert parse((await reader.readuntil(END))[1:-2])["MSA-1"] == code
        writer.close()

    served(work)


async def raw(server: MllpServer, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    if end:
        writer.write_eof()
    try:
        found = await reader.read()
    except ConnectionResetError:
        found = b""
    writer.close()
    return found


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (VT + b"x" * 200_000, True),
        (VT + b"MSH|^~\\&|half", False),
        (b"", False),
    ],
    ids=["garbage", "oversized", "stalled", "silent"],
)
def test_bad_peers_are_ended_and_others_served(data: bytes, answered: bool) -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        found = await raw(server, data)
        if answered and found:  # a reset may overtake the answer when unread bytes are left
            assert parse(found[1:-2])["MSA-1"] == "AR"
        async with MllpClient("127.0.0.1", server.port) as client:
            assert (await client.send(parse(original(oru()))))["MSA-1"] == "AA"

    limits = MllpLimits(max_message_bytes=100_000, idle_s=0.5, message_s=0.5)
    assert len(served(work, limits=limits)) == 1


def test_a_half_open_peer_is_ended() -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        assert await raw(server, VT + b"MSH|^~\\&|half", end=True) == b""

    served(work)


def test_a_frame_without_a_message_is_rejected_and_the_connection_stays() -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(VT + b"PID|1||SECRET" + END + VT + original(oru()) + END)
        first = parse((await reader.readuntil(END))[1:-2])
        second = parse((await reader.readuntil(END))[1:-2])
        assert (first["MSA-1"], first["MSA-2"], first["ERR-3"]) == ("AR", "", "100")
        assert second["MSA-1"] == "AA"
        assert b"SECRET" not in first.to_bytes()
        writer.close()

    served(work)


def test_connections_beyond_the_limit_are_closed() -> None:
    async def work(server: MllpServer, kept: list[Message]) -> None:
        async with MllpClient("127.0.0.1", server.port) as client:
            await client.send(parse(original(oru())))
            assert await raw(server, VT + oru() + END) == b""
            assert (await client.send(parse(original(oru()))))["MSA-1"] == "AA"

    assert len(served(work, limits=MllpLimits(max_connections=1))) == 2


def test_an_answer_for_another_message_and_no_answer_are_errors() -> None:
    async def main() -> None:
        async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(END)
            writer.write(VT + b"MSH|^~\\&|A\rMSA|AA|other\r" + END)
            await reader.readuntil(END)
            writer.close()

        server = await asyncio.start_server(liar, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with MllpClient("127.0.0.1", port, timeout_s=5) as client:
            with pytest.raises(HL7Error, match="another message"):
                await client.send(parse(oru()))
            with pytest.raises(HL7Error, match="closed the connection"):
                await client.send(parse(oru()))
        server.close()
        await server.wait_closed()
        with pytest.raises(HL7Error, match="could not be opened"):
            async with MllpClient("127.0.0.1", port, timeout_s=5):
                pass

    asyncio.run(main())


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        async def handler(message: Message) -> None:
            assert message["PID-3"] == "4711"

        server = await start_mllp(handler, tls=authority.tls("server").server())
        async with MllpClient("127.0.0.1", server.port, tls=authority.tls("client").client()) as client:
            assert (await client.send(parse(original(oru()))))["MSA-1"] == "AA"
        with pytest.raises(HL7Error):
            async with MllpClient("127.0.0.1", server.port, timeout_s=5) as client:
                await client.send(parse(oru()))
        await server.close()

    asyncio.run(main())
