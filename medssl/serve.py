"""Start the review page on loopback, quiet and closed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import medssl
from medssl import runs
from medssl.errors import NothingUsableError, RefusedError, UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.maxUploadSize": "1",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "theme.base": "dark",
}


def page() -> Path:
    """Return the app's script, installed in the package or beside it in a clone."""
    package = Path(medssl.__file__).parent
    places = [root / "apps" / "clinician" / "app.py" for root in (package, package.parent)]
    return next(p for p in places if p.is_file())


def command(root: Path, port: int, address: str) -> list[str]:
    """Return the command line that serves the page.

    Raises:
        RefusedError: an address that others could reach.
        UsageError: streamlit is not installed.
        NothingUsableError: no finished evaluation below ``root``.
    """
    if address not in LOOPBACK:
        words = f"Refused to listen on {address} without sign-in. Use 127.0.0.1."
        raise RefusedError(words, "E-OPEN-DOOR")
    if find_spec("streamlit") is None:
        raise UsageError("The app needs its extra: pip install 'medssl[app]'.", "E-EXTRA")
    if not runs.find(root, "evaluate"):
        words = f"{root}: no finished evaluation below it. Run: medssl evaluate RUN --data COHORT --out {root}/NAME"
        raise NothingUsableError(words, "E-NORUN")
    given = {**OPTIONS, "server.address": address, "server.port": str(port)}
    flags = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "-m", "streamlit", "run", str(page()), *flags]


def serve(root: Path, port: int, address: str) -> int:
    """Serve the page until it is stopped; return the exit code of the server."""
    words = command(root, port, address)
    environment = {**os.environ, "MEDSSL_RUNS": str(root.resolve())}
    return subprocess.call(words, env=environment)
