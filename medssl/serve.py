"""Start the review app: on loopback, or behind a hospital's sign-in; quiet and closed."""

import os
import stat
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import medssl
from medssl import runs
from medssl.errors import NothingUsableError, RefusedError, UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
VERBS = ("evaluate", "finetune", "pretrain")
CALLBACK = "/oauth2callback"
SECRET_LENGTH = 32
MAX_HOURS = 168
AUTH_KEYS = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.enableAgentApi": "false",
    "server.maxUploadSize": "1",
    "server.maxMessageSize": "200",
    "browser.gatherUsageStats": "false",
    "logger.enableRich": "false",
    "client.toolbarMode": "viewer",
    "client.disableDataExport": "true",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "theme.base": "dark",
    "theme.primaryColor": "#56B4E9",
}


@dataclass(frozen=True)
class SignIn:
    """A hospital's sign-in, read from a file and found in order.

    Attributes:
        file: the secrets file that the server reads, absolute.
        host: the name under which browsers reach the server.
    """

    file: Path
    host: str


def page() -> Path:
    """Return the app's server, installed in the package or beside it in a clone."""
    package = Path(medssl.__file__).parent
    places = [root / "apps" / "review" / "server.py" for root in (package, package.parent)]
    return next(p for p in places if p.is_file())


def read_sign_in(file: Path) -> SignIn:
    """Read and check the file that tells where people sign in.

    Args:
        file: TOML with ``[auth]`` (OpenID Connect) and an optional ``[medssl]``.

    Raises:
        UsageError: every problem of the file, one sentence each.
    """
    if file.suffix != ".toml" or not file.is_file():
        words = f"--sign-in {file}: no .toml file there. docs/sign-in.md has one to fill in."
        raise UsageError(words, "E-SIGN-IN")
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        words = f"{file}: not readable as TOML ({type(error).__name__}). docs/sign-in.md has one to fill in."
        raise UsageError(words, "E-SIGN-IN") from error
    auth, own = told.get("auth"), told.get("medssl", {})
    problems = _mode(file)
    problems += _auth(auth) if isinstance(auth, dict) else ["[auth]: the table is absent."]
    problems += _own(own) if isinstance(own, dict) else ["[medssl]: is no table."]
    if problems:
        raise UsageError([f"{file}: {p}" for p in problems], "E-SIGN-IN")
    return SignIn(file.resolve(), str(urlsplit(told["auth"]["redirect_uri"]).hostname))


def _mode(file: Path) -> list[str]:
    """Say whether others on this machine may read the file, which holds passwords."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if not mode & 0o007:
        return []
    return [f"everybody on this machine may open it (mode {mode:o}). Run: chmod 600 {file}"]


def _auth(auth: dict[str, Any]) -> list[str]:
    given = {k: auth.get(k) for k in AUTH_KEYS}
    problems = [
        f"auth.{k}: absent or empty; it must be text."
        for k, v in given.items()
        if not isinstance(v, str) or not v
    ]
    good = {k: v for k, v in given.items() if isinstance(v, str) and v}
    secret = good.get("cookie_secret")
    if secret is not None and len(secret) < SECRET_LENGTH:
        problems.append(
            f"auth.cookie_secret: {len(secret)} characters; it must have at least {SECRET_LENGTH}. "
            "Make one: openssl rand -base64 48"
        )
    back = good.get("redirect_uri")
    if back is not None and urlsplit(back).path != CALLBACK:
        problems.append(f"auth.redirect_uri: {back} must end in the path {CALLBACK}, at the root.")
    for key in ("redirect_uri", "server_metadata_url"):
        problems += _address(key, good[key]) if key in good else []
    if auth.get("expose_tokens"):
        problems.append("auth.expose_tokens: leave it out; the app needs no token of a person.")
    return problems


def _address(key: str, address: str) -> list[str]:
    """Say what is wrong with an address; only loopback may go without encryption."""
    parts = urlsplit(address)
    if parts.scheme not in {"https", "http"} or parts.hostname is None:
        return [f"auth.{key}: {address} is no address; it begins with https://."]
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return [f"auth.{key}: {address} would travel in the clear; use https://."]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own(own: dict[str, Any]) -> list[str]:
    problems = [
        f"medssl.{k}: unknown; known are roles_claim and session_hours."
        for k in own
        if k not in {"roles_claim", "session_hours"}
    ]
    claim, hours = own.get("roles_claim", "roles"), own.get("session_hours", 1)
    if not isinstance(claim, str) or not claim:
        problems.append(f"medssl.roles_claim: {claim!r} is no name of a claim.")
    if isinstance(hours, bool) or not isinstance(hours, int) or not 1 <= hours <= MAX_HOURS:
        problems.append(f"medssl.session_hours: {hours!r}; a whole number from 1 to {MAX_HOURS}.")
    return problems


def command(root: Path, port: int, address: str, sign_in: SignIn | None = None) -> list[str]:
    """Return the command line that serves the app.

    Raises:
        RefusedError: an address that others could reach, without sign-in.
        UsageError: streamlit is not installed.
        NothingUsableError: no finished run below ``root``.
    """
    if sign_in is None and address not in LOOPBACK:
        words = (
            f"Refused to listen on {address} without sign-in: whoever reaches this machine could "
            "read patients' images. Use 127.0.0.1, or give --sign-in FILE.toml (docs/sign-in.md)."
        )
        raise RefusedError(words, "E-OPEN-DOOR")
    if find_spec("streamlit") is None:
        raise UsageError("The app needs its extra: pip install 'medssl[app]'.", "E-EXTRA")
    if not runs.find(root, *VERBS):
        words = (
            f"{root}: no finished run below it. Pretrain, finetune or evaluate first; for cases to "
            f"review: medssl evaluate RUN --data COHORT --out {root}/NAME"
        )
        raise NothingUsableError(words, "E-NORUN")
    host = address if sign_in is None else sign_in.host
    given = {
        **OPTIONS,
        "server.address": address,
        "server.port": str(port),
        "browser.serverAddress": host,
    }
    flags = [f"--{name}={value}" for name, value in given.items()]
    flags += [f"--server.allowedHosts={name}" for name in dict.fromkeys((*LOOPBACK, host))]
    flags += [] if sign_in is None else [f"--secrets.files={sign_in.file}"]
    return [sys.executable, "-m", "streamlit", "run", str(page()), *flags]


def serve(root: Path, port: int, address: str, sign_in: Path | None = None) -> NoReturn:
    """Become the server: a signal to this process stops the page, nothing is left listening.

    Args:
        root: folder of finished runs.
        port: TCP port.
        address: where to listen; beyond loopback only with ``sign_in``.
        sign_in: secrets file with the identity provider; see ``read_sign_in``.
    """
    found = None if sign_in is None else read_sign_in(sign_in)
    words = command(root, port, address, found)
    environment = {**os.environ, "MEDSSL_RUNS": str(root.resolve())}
    environment["MEDSSL_SIGN_IN"] = "" if found is None else "required"
    os.execve(words[0], words, environment)  # noqa: S606  no shell is wanted
