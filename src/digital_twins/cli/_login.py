"""`twin login`, `logout`, `whoami` and `token`: who you are at a node that is reached over the network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli._options import ConfigFile, Json

if TYPE_CHECKING:
    from digital_twins.cli._sign_ins import SignIn

Url = Annotated[
    str | None, typer.Argument(metavar="[URL]", help="Address of the node. [that of the newest sign-in]")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (login, logout, whoami, token):
        app.command(command.__name__)(command)


def login(
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="Address of the node. [that of the settings]")
    ] = None,
    *,
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="Show an address for a browser anywhere, and ask for its code."),
    ] = False,
    authority: Annotated[
        Path | None, typer.Option("--authority", help="ca.pem of the node's authority.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the browser.")] = 300.0,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Sign in to a node in the browser; commands that talk to it then do so as you."""
    from digital_twins.cli import _output
    from digital_twins.cli._browser_sign_in import by_browser, by_code, discover
    from digital_twins.cli._sign_ins import SignIns
    from digital_twins.config import load_settings

    if url is None:
        settings = load_settings(config_file=config_file)
        url = settings.public_url or f"http://{settings.host}:{settings.http_port}"
    trusted = str(authority.absolute()) if authority is not None else None
    node = discover(url, trusted)
    if no_browser:
        made = by_code(node, trusted, show=_show_address, ask=_ask_code)
    else:
        made = by_browser(node, trusted, show=_open_browser, timeout_s=timeout)
    SignIns().keep(made)
    _tell(made, _person(made.url), as_json=as_json)
    if not as_json:
        _output.write_progress("Run 'twin logout' when you leave this machine.")


def logout(url: Url = None, *, as_json: Json = False) -> None:
    """Sign out of a node: it takes the tokens back, and they leave this machine."""
    import httpx

    from digital_twins.cli import _output
    from digital_twins.cli._sign_ins import CLIENT_ID, SignIns, unreachable

    store = SignIns()
    held = store.find(url)
    store.drop(held.url)
    form = {"token": held.refresh_token, "client_id": CLIENT_ID}
    try:
        with held.http() as client:
            client.post(held.revocation_endpoint, data=form).raise_for_status()
    except httpx.HTTPError as error:
        failed = unreachable(error)
        failed.what = "The tokens left this machine, but the node did not take them back."
        failed.fix = (
            "They end 12 hours after the sign-in; 'twin auth user password' at the node ends them now."
        )
        raise failed from None
    if as_json:
        _output.write_json({"url": held.url, "signed_in": False})
    else:
        _output.write_lines([f"signed out of {held.url}"])


def whoami(url: Url = None, *, as_json: Json = False) -> None:
    """Ask the node who you are there, and what you may do; exit code 1 when the sign-in ended."""
    from digital_twins.cli._sign_ins import SignIns

    held = SignIns().find(url)
    _tell(held, _person(held.url), as_json=as_json)


def token(url: Url = None, *, as_json: Json = False) -> None:
    """Print an access token, good for some minutes, e.g. for curl: a secret, so mind where it goes."""
    from digital_twins.cli import _output
    from digital_twins.cli._sign_ins import SignIns

    store = SignIns()
    found = store.access_token(store.find(url).url)
    if as_json:
        _output.write_json({"access_token": found, "until": store.find(url).until})
    else:
        _output.write_lines([found])


def _person(url: str) -> dict[str, Any]:
    """Return what the node says about who is signed in."""
    import httpx

    from digital_twins.cli._sign_ins import SignedIn, SignIns, refused, unreachable

    store = SignIns()
    held = store.find(url)
    try:
        with held.http() as client:
            answer = client.get(held.userinfo_endpoint, auth=SignedIn(held, store))
            found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise unreachable(error) from None
    if answer.status_code != httpx.codes.OK or not isinstance(found, dict) or "sub" not in found:
        raise refused(f"It answered {answer.status_code}: the sign-in ended or was revoked.")
    return found


def _tell(held: "SignIn", person: dict[str, Any], *, as_json: bool) -> None:
    from digital_twins.cli import _output

    if as_json:
        _output.write_json({"url": held.url, "signed_in": True, **person})
        return
    roles = ", ".join(str(role) for role in person.get("roles", ()))
    lines = [f"{person['sub']} ({person.get('name', '')}) at {held.url}", f"roles: {roles}"]
    _output.write_lines([*lines, f"may: {person.get('scope', '')}"])


def _open_browser(address: str) -> None:
    import webbrowser

    from digital_twins.cli import _output

    _output.write_progress(f"If no browser opens, open this address on this machine:\n{address}")
    webbrowser.open(address)


def _show_address(address: str) -> None:
    from digital_twins.cli import _output

    _output.write_progress(f"Open this address in a browser, sign in, and copy the code:\n{address}")


def _ask_code() -> str:
    """Return the code that was copied; it is no echo, so that it is not left on the screen."""
    import sys

    if sys.stdin.isatty():
        return str(typer.prompt("Code", hide_input=True, err=True))
    return sys.stdin.readline()
