"""Sign-in, roles, habits and audit: by rules, by the page, and in a real browser."""

import csv
import hashlib
import importlib
import io
import json
import shutil
import sqlite3
import sys
from urllib.parse import urlsplit

import provider as rooms
import pytest
from streamlit.testing.v1 import AppTest

from medssl import serve

APP = serve.page().parent
if str(APP) not in sys.path:
    sys.path.insert(0, str(APP))
who = importlib.import_module("who")
journal = importlib.import_module("journal")
audit = importlib.import_module("settings.audit")
choices = importlib.import_module("settings.choices")

pytestmark = pytest.mark.filterwarnings("default")
CHROMIUM = shutil.which("chromium")
SURNAME, SUBJECT = "Zyxwvut", "subject-of-"
PEOPLE = {
    "reader": {"name": f"Reader {SURNAME}", "sub": f"{SUBJECT}reader",
               "realm_access": {"roles": ["clinician", "offline_access"]}},
    "chief": {"name": f"<b>Chief</b> {SURNAME}", "sub": f"{SUBJECT}chief",
              "realm_access": {"roles": ["admin"]}},
    "visitor": {"name": f"Visitor {SURNAME}", "sub": f"{SUBJECT}visitor",
                "realm_access": {"roles": ["Clinician", "superuser"]}},
}  # fmt: skip


# --- rules ---


@pytest.mark.parametrize(
    ("claims", "claim", "roles"),
    [
        ({"roles": ["clinician", "research"]}, "roles", {"clinician", "research"}),
        ({"roles": "clinician  admin other"}, "roles", {"clinician", "admin"}),
        ({"realm_access": {"roles": ["evaluation"]}}, "realm_access.roles", {"evaluation"}),
        ({"https://h.example/roles": ["admin"]}, "https://h.example/roles", {"admin"}),
        ({"a": {"b": {"c": "research"}}}, "a.b.c", {"research"}),
        ({"roles": ["Clinician", "clinicians", 7, None, ["admin"]]}, "roles", set()),
        ({"roles": {"admin": True}}, "roles", set()),
        ({"roles": "clinician,admin"}, "roles", set()),
        ({"roles": None}, "roles", set()),
        ({"realm_access": ["admin"]}, "realm_access.roles", set()),
        ({}, "roles", set()),
    ],
)
def test_roles_from_the_claim(claims, claim, roles):
    assert who.of_claims({"iss": "i", "sub": "s", **claims}, claim).roles == roles


def test_a_reader_is_issuer_and_subject():
    """Two providers may give the same subject to two people."""
    one = who.of_claims({"iss": "a", "sub": "1", "name": "N"}, "roles")
    other = who.of_claims({"iss": "b", "sub": "1", "name": "N"}, "roles")
    assert one.code != other.code
    assert one.code == "oidc:" + hashlib.sha256(b"a\n1").hexdigest()[:16]


@pytest.mark.parametrize(
    ("issued", "stale"),
    [(1000, False), (1000 - 7199, False), (1000 - 7201, True), (1000 + 200, False),
     (1000 + 400, True), (None, True), ("1000", True), (True, True), (float("nan"), True)],
)  # fmt: skip
def test_a_sign_in_grows_old(issued, stale):
    assert who.is_stale({"iat": issued}, 2.0, 1000.0) is stale


def test_audit_hides_the_answers_of_others():
    at = "2026-01-02T03:04:05.678+00:00"
    events = [
        journal.Event(1, at, "local:a", "m", ("img", 3), "read", {"answer": "yes"}),
        journal.Event(2, at, "local:b", "m", ("img", -1), "feedback", {"note": "=1+1", "box": False}),
        journal.Event(3, at, "local:a", "", ("", -1), "signed in", {"roles": ["admin", "research"]}),
    ]  # fmt: skip
    found = audit.rows(events, "local:b", "the banner")
    assert [r["number"] for r in found] == [3, 2, 1]
    assert "yes" not in json.dumps(found)
    assert "=1+1" in found[1]["details"]
    assert [audit.shown(r)["Case"] for r in found] == ["", "img", "img / 4"]
    assert audit.shown(found[0])["Time (UTC)"] == "2026-01-02 03:04:05"
    assert [audit.shown(r)["Details"] for r in found] == [
        "roles: admin, research",
        "note: =1+1; box: no",
        "not shown",
    ]
    table = list(csv.DictReader(io.StringIO(audit.as_csv(found))))
    assert {r["note"] for r in table} == {"the banner"}
    assert not any(v.startswith(("=", "+", "-", "@")) for r in table for v in r.values())


@pytest.mark.parametrize(
    "data", [{}, {"drag": "fly", "read_first": 1}, {"drag": ["pan"], "read_first": None}]
)
def test_odd_habits_are_the_usual_ones(data):
    assert choices.of_event(data) == choices.Habits("window", read_first=True)


# --- the page, headless ---


def settings_page(folder, code="local:ab", roles=("clinician",)):
    """The page alone, on a journal of its own."""

    def script(folder, code, roles):
        from pathlib import Path

        import frame
        import who
        from journal import Journal
        from settings import habits

        reader = who.Reader(code, "AB", frozenset(roles), signed_in=False)
        journal = Journal(Path(folder) / "feedback.sqlite")
        who.arrived(reader, journal)
        who.way_out(reader)
        habits.show(frame.Desk(reader, Path(folder), journal))

    return AppTest.from_function(script, args=(str(folder), code, roles), default_timeout=60).run()


def kinds(folder):
    return [(e.user, e.kind) for e in journal.Journal(folder / "feedback.sqlite").events()]


def test_habits_are_remembered(tmp_path):
    page = settings_page(tmp_path)
    assert not page.exception
    page.radio(key="pick_drag").set_value("pan").run()
    page.toggle(key="pick_read_first").set_value(False).run()
    page.run()
    assert not page.exception
    assert kinds(tmp_path) == [("local:ab", "signed in"), *[("local:ab", "habit")] * 2]
    later = settings_page(tmp_path)
    assert later.session_state["habit_drag"] == "pan"
    assert later.session_state["habit_read_first"] is False
    assert later.radio(key="pick_drag").value == "pan"
    assert later.toggle(key="pick_read_first").value is False
    other = settings_page(tmp_path, "local:cd")
    assert other.radio(key="pick_drag").value == "window"


def test_audit_is_ones_own_unless_admin(tmp_path):
    settings_page(tmp_path, "local:ab")
    own = settings_page(tmp_path, "local:cd")
    assert set(own.dataframe[0].value["Reader"]) == {"local:cd"}
    assert "audit_everybody" not in {t.key for t in own.toggle}
    chief = settings_page(tmp_path, "local:ef", ("admin",))
    chief.toggle(key="audit_everybody").set_value(True).run()
    assert not chief.exception
    assert set(chief.dataframe[0].value["Reader"]) == {"local:ab", "local:cd", "local:ef"}


def test_local_says_it_is_no_password(tmp_path):
    page = settings_page(tmp_path)
    assert "No password" in " ".join(c.value for c in page.sidebar.caption)
    page.sidebar.button(key="sign_out").click().run()
    assert kinds(tmp_path) == [("local:ab", "signed in")] * 2


def test_a_lost_file_shuts_the_door(monkeypatch, tmp_path):
    """Started with sign-in and its file gone since: nobody becomes a local reader."""
    monkeypatch.setenv("MEDSSL_SIGN_IN", "required")
    monkeypatch.setenv("MEDSSL_RUNS", str(tmp_path))
    page = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    page.session_state["reader_name"] = "AB"
    page.run()
    assert not page.exception
    assert "Nobody can sign in" in page.header[0].value
    assert not page.sidebar.button


# --- in a browser ---


@pytest.fixture(scope="module")
def sitting(report_run, tmp_path_factory):
    with rooms.sitting(report_run.parent, tmp_path_factory.mktemp("sitting"), PEOPLE) as there:
        yield there


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: sign-in was not walked through; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, sitting):
    """A fresh browser profile; at the end, every address it asked was one of ours."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.set_default_timeout(30_000)
    yield page
    context.close()
    ours = {f"127.0.0.1:{sitting.port}", f"127.0.0.1:{sitting.provider.port}"}
    strange = [u for u in asked if urlsplit(u).scheme not in {"data", "blob"}
               and urlsplit(u).netloc not in ours]  # fmt: skip
    assert asked
    assert not strange
    assert not [u for u in asked if SURNAME in u or SUBJECT in u]


def enter(tab, sitting, person):
    tab.goto(sitting.address)
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_role("link", name=person).click()
    tab.wait_for_url(f"{sitting.address}/**")


@pytest.mark.browser
def test_a_stranger_sees_no_case(tab, sitting):
    for place in ("/case", "/pairs?run=12345678"):
        tab.goto(sitting.address + place)
        tab.get_by_role("button", name="Sign in").wait_for()
        said = tab.locator("body").inner_text()
        assert "Research use only. Not for diagnosis." in said
        assert "Worklist" not in said
        assert "Which evaluation" not in said
    assert rooms.status(sitting, "/planes/x/0") in {404, 410}
    forged = {"Cookie": "_streamlit_user=eyJzdWIiOiAieCJ9"}
    assert rooms.status(sitting, "/planes/x/0", **forged) in {404, 410}
    tab.context.add_cookies(
        [{"name": "_streamlit_user", "value": "forged", "url": sitting.address}]
    )
    tab.goto(sitting.address)
    tab.get_by_role("button", name="Sign in").wait_for()


@pytest.mark.browser
def test_a_clinician_signs_in_and_out(tab, sitting):
    enter(tab, sitting, "reader")
    tab.get_by_text(f"Reading as Reader {SURNAME}").wait_for()
    tab.get_by_role("link", name="Habits and audit").wait_for()
    assert tab.get_by_role("link", name="Worklist").count() == 1
    for name in ("Data check", "Positive pairs", "Runs"):
        assert tab.get_by_role("link", name=name, exact=True).count() == 0
    tab.goto(f"{sitting.address}/pairs")
    tab.get_by_text(f"Reading as Reader {SURNAME}").wait_for()
    assert tab.get_by_role("heading", name="Positive pairs").count() == 0
    tab.goto(f"{sitting.address}/habits")
    tab.get_by_role("heading", name="What was recorded").wait_for()
    assert tab.get_by_text("Show all readers").count() == 0
    before = sitting.provider.ended
    tab.get_by_role("button", name="Sign out").click()
    tab.get_by_role("button", name="Sign in").wait_for()
    assert sitting.provider.ended == before + 1
    tab.goto(f"{sitting.address}/habits")
    tab.get_by_role("button", name="Sign in").wait_for()
    nothing_was_told(sitting)


def nothing_was_told(sitting):
    """Events under a code; a log without names or tokens; no call beyond loopback."""
    issuer = sitting.provider.address
    codes = {"oidc:" + hashlib.sha256(f"{issuer}\n{SUBJECT}{p}".encode()).hexdigest()[:16]
             for p in ("reader", "chief")}  # fmt: skip
    with sqlite3.connect(sitting.feedback) as base:
        rows = base.execute("SELECT user, data FROM events WHERE kind = 'signed in'").fetchall()
    assert {user for user, _ in rows} <= codes
    assert rows
    assert SURNAME not in str(rows)
    assert sitting.feedback.stat().st_mode & 0o077 == 0
    log = sitting.log.read_text()
    for word in (SURNAME, SUBJECT, "/planes/", "code=", "id_token"):
        assert word not in log, log
    assert set(sitting.calls.read_text().split()) <= {"127.0.0.1", "localhost", "::1", "None"}


@pytest.mark.browser
def test_an_admin_sees_all_pages_and_markup_is_text(tab, sitting):
    enter(tab, sitting, "chief")
    tab.get_by_text(f"Reading as <b>Chief</b> {SURNAME}").wait_for()
    tab.get_by_role("link", name="Habits and audit").wait_for()
    for name in ("Worklist", "Data check", "Positive pairs", "Habits and audit"):
        assert tab.get_by_role("link", name=name, exact=True).count() == 1
    tab.get_by_role("link", name="Habits and audit").click()
    tab.get_by_text("Show all readers").click()
    tab.get_by_text("not what they answered").wait_for()


@pytest.mark.browser
def test_no_role_no_page(tab, sitting):
    enter(tab, sitting, "visitor")
    tab.get_by_role("heading", name="Your account has no role here").wait_for()
    assert tab.get_by_role("link", name="Worklist").count() == 0
    tab.get_by_role("button", name="Sign out").click()
    tab.get_by_role("button", name="Sign in").wait_for()
