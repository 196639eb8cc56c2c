"""A tiny OpenID provider on loopback, and the app served behind it with the door to the net shut."""

import base64
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, PASSWORD = "medssl-review", "a client's password"
GUARD = """
import os, sys
def _watch(event, args):
    place = args[1] if event == "socket.connect" else args
    if event in {"socket.connect", "socket.getaddrinfo"} and isinstance(place, tuple):
        host = str(place[0])
        with open(os.environ["CALLS"], "a") as out:
            out.write(host + "\\n")
        if host not in {"127.0.0.1", "localhost", "::1", "None"}:
            raise OSError("this test keeps the server at home")
sys.addaudithook(_watch)
"""


@dataclass
class Provider:
    """What the provider knows.

    Attributes:
        people: claims of every person by name on the page; ``sub`` is set from the name.
        grants: code to person, nonce and challenge, each good once.
        ended: how often somebody signed out here.
    """

    people: dict[str, dict[str, Any]]
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}))
    grants: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ended: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/jwks",
            "end_session_endpoint": f"{self.address}/end",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Return a page with one link per person; each leads back with a code."""
        assert asked["client_id"] == CLIENT
        links = []
        for person in self.people:
            code = secrets.token_urlsafe(16)
            self.grants[code] = person, asked["nonce"], asked.get("code_challenge", "")
            back = urlencode({"code": code, "state": asked["state"]})
            links.append(f'<a href="{escape(asked["redirect_uri"])}?{escape(back)}">{person}</a>')
        return "<!doctype html><title>Who?</title>" + "<br>".join(links)

    def token(self, given: dict[str, str], basic: str) -> dict[str, Any] | None:
        """Return tokens for a code; None where the client, the code or its verifier is wrong."""
        right = base64.b64encode(f"{CLIENT}:{PASSWORD}".encode()).decode()
        quoted = base64.b64encode(f"{CLIENT}:{PASSWORD.replace(' ', '+')}".encode()).decode()
        person, nonce, challenge = self.grants.pop(given.get("code", ""), ("", "", ""))
        verifier = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if basic not in {right, quoted} or not person or proof != challenge:
            return None
        now = int(time.time())
        claims = {
            "iss": self.address, "aud": CLIENT, "sub": person, "nonce": nonce,
            "iat": now, "exp": now + 300, **self.people[person],
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.key)
        return {
            "id_token": token, "access_token": secrets.token_urlsafe(8), "token_type": "Bearer",
            "expires_in": 300,
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """What the provider answers over HTTP."""

    provider: Provider

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        asked = {k: v[0] for k, v in parse_qs(place.query).items()}
        self.provider.asked.append(place.path)
        if place.path == "/.well-known/openid-configuration":
            self._json(self.provider.discovery())
        elif place.path == "/jwks":
            self._json({"keys": [self.provider.key.as_dict(private=False)]})
        elif place.path == "/authorize":
            self._answer(200, self.provider.authorize(asked).encode(), "text/html")
        elif place.path == "/end":
            self.provider.ended += 1
            self.send_response(302)
            self.send_header("Location", asked["post_logout_redirect_uri"])
            self.end_headers()
        else:
            self._answer(404, b"", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        given = {k: v[0] for k, v in parse_qs(body).items()}
        basic = self.headers.get("Authorization", "").removeprefix("Basic ")
        tokens = self.provider.token(given, basic)
        if tokens is None:
            self._json({"error": "invalid_grant"}, 400)
        else:
            self._json(tokens)

    def _json(self, data: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(data).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


def start(people: dict[str, dict[str, Any]]) -> tuple[Provider, ThreadingHTTPServer]:
    """Serve a provider on a free loopback port; the caller shuts the server down."""
    provider = Provider(people)

    handler = type("Handler", (Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    provider.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return provider, server


@dataclass(frozen=True)
class Sitting:
    """A served app, its provider, and where it writes."""

    address: str
    port: int
    provider: Provider
    feedback: Path
    log: Path
    calls: Path


def free_port() -> int:
    """Return a loopback port that nobody holds."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def is_up(port: int) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as got:
            return bool(got.status == 200)
    except OSError:
        return False


def wait(until: Any, told: str = "", seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, told
        time.sleep(0.1)


def status(there: Sitting, path: str, **headers: str) -> int:
    """Return the status of a plain request."""
    try:
        asked = urllib.request.Request(there.address + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=10) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        return error.code


def sign_in_file(folder: Path, port: int, provider: Provider) -> Path:
    """Write the file that tells the app of a provider."""
    file = folder / "sign-in.toml"
    file.write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\n'
        f'cookie_secret = "{"c" * 40}"\nclient_id = "{CLIENT}"\n'
        f'client_secret = "{PASSWORD}"\n'
        f'server_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
        '[medssl]\nroles_claim = "realm_access.roles"\n'
    )
    file.chmod(0o600)
    return file


@contextmanager
def sitting(root: Path, folder: Path, people: dict[str, dict[str, Any]]) -> Iterator[Sitting]:
    """Serve the app by its command, behind a provider, in a process that cannot reach outside."""
    provider, server = start(people)
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    port = free_port()
    there = Sitting(
        f"http://127.0.0.1:{port}", port, provider, folder / "f" / "feedback.sqlite",
        folder / "log", folder / "calls",
    )  # fmt: skip
    paths = [str(folder / "guard"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "CALLS": str(there.calls),
        "MEDSSL_FEEDBACK": str(there.feedback),
    }
    words = [sys.executable, "-m", "medssl.cli", "app", str(root), "--port", str(port)]
    words += ["--sign-in", str(sign_in_file(folder, port, provider))]
    with there.log.open("w") as out:
        child = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
    try:
        wait(lambda: is_up(port), "the app did not start")
        yield there
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        server.shutdown()
        server.server_close()
