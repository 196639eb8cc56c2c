"""The command that starts the app: what it refuses, and what it hands to the server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import provider as rooms
import pytest

from medssl import serve
from medssl.cli import main
from medssl.errors import NothingUsableError, RefusedError, UsageError

SECRET = "s" * 32
GOOD = {
    "redirect_uri": "https://review.hospital.example/oauth2callback",
    "cookie_secret": SECRET,
    "client_id": "medssl",
    "client_secret": "given by the provider",
    "server_metadata_url": "https://id.hospital.example/.well-known/openid-configuration",
}


@pytest.fixture
def root(tmp_path):
    """A folder whose only run is a finished pretraining."""
    return a_run(tmp_path / "runs" / "simclr", "pretrain")


def a_run(folder, verb, status="done"):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"verb": verb, "status": status}))
    return folder.parent


@pytest.fixture
def file_of(tmp_path):
    """Write a sign-in file of given tables."""

    def write(auth, own=None, mode=0o600):
        path = tmp_path / "sign-in.toml"
        tables = {"auth": auth} | ({} if own is None else {"medssl": own})
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
        path.write_text("\n".join(lines))
        path.chmod(mode)
        return path

    return write


def problems_of(file):
    with pytest.raises(UsageError) as caught:
        serve.read_sign_in(file)
    assert caught.value.code == "E-SIGN-IN"
    return caught.value.problems


def flags_of(line):
    given = [w.removeprefix("--").partition("=") for w in line if w.startswith("--")]
    found = {}
    for name, _, value in given:
        found.setdefault(name, []).append(value)
    return found


def test_quiet_and_closed(root):
    flags = flags_of(serve.command(root, 8599, "127.0.0.1"))
    wanted = {
        "server.address": "127.0.0.1", "server.port": "8599", "server.headless": "true",
        "server.fileWatcherType": "none", "server.enableXsrfProtection": "true",
        "server.enableCORS": "true", "server.enableStaticServing": "false",
        "server.enableAgentApi": "false", "server.maxMessageSize": "200",
        "browser.gatherUsageStats": "false", "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none", "client.showErrorLinks": "false", "theme.base": "dark",
    }  # fmt: skip
    assert {k: flags[k] for k in wanted} == {k: [v] for k, v in wanted.items()}
    assert set(flags["server.allowedHosts"]) == {"127.0.0.1", "localhost", "::1"}
    assert "secrets.files" not in flags


def test_flags_are_streamlits(root):
    """Every flag is one that this Streamlit knows, with a value of the right kind."""
    from streamlit import config

    known = set(config._config_options_template)
    assert set(flags_of(serve.command(root, 1, "::1"))) <= known


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "127.0.0.1.evil.example", ""])
def test_open_door(root, address):
    with pytest.raises(RefusedError, match="without sign-in") as caught:
        serve.command(root, 8501, address)
    assert caught.value.code == "E-OPEN-DOOR"


def test_sign_in_opens_the_door(root, file_of):
    file = file_of(GOOD, {"roles_claim": "realm_access.roles", "session_hours": 8})
    found = serve.read_sign_in(file)
    flags = flags_of(serve.command(root, 8501, "0.0.0.0", found))
    assert flags["server.address"] == ["0.0.0.0"]
    assert flags["secrets.files"] == [str(file)]
    assert flags["browser.serverAddress"] == ["review.hospital.example"]
    assert "review.hospital.example" in flags["server.allowedHosts"]


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate"])
def test_any_finished_run_will_do(tmp_path, verb):
    assert serve.command(a_run(tmp_path / "r" / "a", verb), 8501, "localhost")


@pytest.mark.parametrize(("verb", "status"), [("pretrain", "running"), ("scan", "done")])
def test_no_run(tmp_path, verb, status):
    with pytest.raises(NothingUsableError, match="no finished run") as caught:
        serve.command(a_run(tmp_path / "r" / "a", verb, status), 8501, "127.0.0.1")
    assert caught.value.code == "E-NORUN"


def test_all_problems_at_once(file_of):
    wrong = {"redirect_uri": "http://review.hospital.example/back", "cookie_secret": "short",
             "server_metadata_url": "ftp://x", "expose_tokens": ["id"]}  # fmt: skip
    said = "\n".join(problems_of(file_of(wrong, {"roles_claim": "", "hours": 1}, mode=0o644)))
    for part in ("mode 644", "chmod 600", "client_id: absent", "client_secret: absent", "5 characters",
                 "/oauth2callback", "in the clear", "ftp://x is no address", "expose_tokens",
                 "hours: unknown", "roles_claim: '' is"):  # fmt: skip
        assert part in said, part
    assert len(said.splitlines()) == 10
    assert "short" not in said


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"cookie_secret": "s" * 31}, "31 characters"),
        ({"client_secret": 7}, "client_secret: absent or empty"),
        ({"redirect_uri": GOOD["redirect_uri"] + "/x"}, "/oauth2callback"),
        ({"redirect_uri": "https://h.example/app/oauth2callback"}, "at the root"),
        ({"server_metadata_url": "http://id.example/x"}, "in the clear"),
        ({"server_metadata_url": "https://"}, "no address"),
    ],
)
def test_each_problem(file_of, change, part):
    (said,) = problems_of(file_of(GOOD | change))
    assert part in said


@pytest.mark.parametrize("hours", [0, 169, 1.5, True, "12"])
def test_session_hours(file_of, hours):
    (said,) = problems_of(file_of(GOOD, {"session_hours": hours}))
    assert "session_hours" in said


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o777])
def test_a_file_open_to_everybody(file_of, mode):
    (said,) = problems_of(file_of(GOOD, mode=mode))
    assert f"mode {mode:o}" in said


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_of_its_own(file_of, mode):
    assert serve.read_sign_in(file_of(GOOD, mode=mode)).host == "review.hospital.example"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.toml", "[auth"), ("a.toml", ""), ("a.toml", "auth = 1"), ("a.txt", "[auth]"), ("", "")],
)
def test_not_a_sign_in_file(tmp_path, name, content):
    path = tmp_path / name if name else tmp_path / "absent.toml"
    if name:
        path.write_text(content)
        path.chmod(0o600)
    assert problems_of(path)


def test_loopback_may_go_in_the_clear(file_of):
    local = GOOD | {"redirect_uri": "http://127.0.0.1:8501/oauth2callback",
                    "server_metadata_url": "http://localhost:9/x"}  # fmt: skip
    assert serve.read_sign_in(file_of(local)).host == "127.0.0.1"


def test_by_the_users_door(root, file_of, capsys):
    assert main(["app", str(root), "--address", "0.0.0.0"]) == 4
    assert "E-OPEN-DOOR" in capsys.readouterr().err
    assert main(["app", str(root), "--sign-in", str(file_of({}))]) == 2
    said = capsys.readouterr().err
    assert "client_id" in said
    assert "cookie_secret" in said


def test_stopping_the_command_stops_the_server(root, tmp_path):
    port = rooms.free_port()
    words = [sys.executable, "-m", "medssl.cli", "app", str(root), "--port", str(port)]
    log = tmp_path / "log"
    environment = {**os.environ, "MEDSSL_FEEDBACK": str(tmp_path / "feedback.sqlite")}
    with log.open("w") as out:
        server = subprocess.Popen(words, stdout=out, stderr=out, env=environment, cwd=Path.cwd())
    try:
        rooms.wait(lambda: rooms.is_up(port))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    rooms.wait(lambda: not rooms.is_up(port), seconds=10)
