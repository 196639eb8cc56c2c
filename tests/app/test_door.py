"""The door: known names only, headers on every answer, and nothing asked of another machine."""

import http.client
import importlib
import logging
import sys

import provider as rooms
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from medssl import serve

APP = serve.page().parent
if str(APP) not in sys.path:
    sys.path.insert(0, str(APP))
door = importlib.import_module("door")

pytestmark = pytest.mark.filterwarnings("default")
NAMES = frozenset({"127.0.0.1", "localhost", "::1", "review.hospital.example"})


@pytest.fixture
def behind():
    def page(_):
        return PlainTextResponse("a case")

    app = Starlette(routes=[Route("/", page), Route(door.HEALTH, page)])
    return TestClient(door.Door(app, NAMES))


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8501", None, 200),
        ("localhost", "http://localhost:8501", 200),
        ("[::1]:8501", "http://[::1]:8501", 200),
        ("review.hospital.example", "https://review.hospital.example", 200),
        ("127.0.0.1:8501", "http://evil.example", 403),
        ("evil.example:8501", None, 403),
        ("evil.example", "http://127.0.0.1", 403),
        ("127.0.0.1.evil.example", None, 403),
        ("127.0.0.1", "null", 403),
        ("127.0.0.1", "http://[", 403),
        ("", None, 403),
    ],
)
def test_known_names_only(behind, host, origin, status):
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    got = behind.get("/", headers=headers)
    assert got.status_code == status
    assert ("a case" in got.text) == (status == 200)
    assert "default-src 'self'" in got.headers["Content-Security-Policy"]
    assert got.headers["Referrer-Policy"] == "no-referrer"


def test_health_is_asked_under_any_name(behind):
    assert behind.get(door.HEALTH, headers={"Host": "10.0.0.7:8501"}).status_code == 200


def test_errors_are_not_quoted():
    door.quiet()
    assert logging.getLogger("streamlit.error_util").disabled


def upgrade(port, host, origin):
    """Return the status that a websocket handshake gets."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    line.putrequest("GET", "/_stcore/stream", skip_host=True)
    told = {"Host": host, "Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "streamlit"}  # fmt: skip
    for name, value in told.items():
        line.putheader(name, value)
    line.endheaders()
    status = line.getresponse().status
    line.close()
    return status


def test_a_foreign_page_makes_the_server_ask_nobody(tmp_path):
    """Without the door Streamlit would ask a machine outside for its own address."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "run.json").write_text('{"verb": "pretrain", "status": "done"}')
    (tmp_path / "s").mkdir()
    with rooms.sitting(tmp_path / "runs", tmp_path / "s", {}) as there:
        own = f"127.0.0.1:{there.port}"
        assert upgrade(there.port, own, f"http://{own}") == 101
        assert upgrade(there.port, own, "http://evil.example") == 403
        assert upgrade(there.port, "evil.example", "http://evil.example") == 403
        calls = there.calls.read_text().split() if there.calls.exists() else []
        assert set(calls) <= {"127.0.0.1", "localhost", "::1", "None"}
        assert "evil" not in there.log.read_text()
