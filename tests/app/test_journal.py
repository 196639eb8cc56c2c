"""What readers said: nothing lost, nothing changed, nobody sees another's."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import journal
from journal import Journal, Status, as_csv, as_json, export, fold

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(journal.__file__).parent)}
KEYS = [("i_a", -1), ("i_b", -1), ("i_b", 3)]


@pytest.fixture
def book(tmp_path):
    return Journal(tmp_path / "review" / "review.sqlite")


def test_a_case_from_reading_to_undo(book):
    key = KEYS[0]
    book.add("ab", "read", {"answer": "present", "confidence": 3}, model="m", key=key)
    book.add("ab", "revealed", {}, model="m", key=key)
    number = book.add("ab", "feedback", {"verdict": "agree"}, model="m", key=key)
    status = book.standing("ab", "m")[key]
    assert status.read["answer"] == "present"
    assert status.revealed
    assert status.feedback["verdict"] == "agree"
    assert status.feedback["number"] == number
    book.add("ab", "undo", {"event": number}, model="m")
    assert book.standing("ab", "m")[key].feedback is None
    assert book.standing("ab", "m")[key].read is not None
    assert len(book.events()) == 4


def test_readers_and_models_are_apart(book):
    book.add("ab", "read", {"answer": "present", "confidence": 5}, model="m", key=KEYS[0])
    assert book.standing("cd", "m") == {}
    assert book.standing("ab", "other") == {}


def test_events_cannot_be_changed_or_removed(book):
    book.add("ab", "flag", {"on": True}, model="m", key=KEYS[0])
    base = sqlite3.connect(book.file)
    for words in ("DELETE FROM events", "UPDATE events SET user = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="events are kept"):
            base.execute(words)
    base.close()
    assert book.events()[0].user == "ab"


def test_private_file_and_unknown_kind(book):
    assert book.file.stat().st_mode & 0o777 == 0o600
    assert book.file.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ValueError, match="no kind of event"):
        book.add("ab", "guess", {})


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ab", "cd"]),
        st.sampled_from(KEYS),
        st.sampled_from(["read", "revealed", "feedback", "flag", "changed", "undo", "opened"]),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_standing_against_plain_replay(tmp_path_factory, steps):
    """The sum of events equals a replay that leaves out what was undone, for every reader."""
    book = Journal(tmp_path_factory.mktemp("j") / "a.sqlite")
    kept = []
    for user, key, kind, k in steps:
        mine = [e for e in kept if e[1] == user and e[3] != "undo"]
        if kind == "undo":
            if not mine:
                continue
            data = {"event": mine[k % len(mine)][0]}
        else:
            data = {
                "read": {"answer": "present", "confidence": k},
                "feedback": {"verdict": "agree", "note": str(k)},
                "flag": {"on": bool(k % 2)},
                "changed": {"changed": bool(k % 2)},
            }.get(kind, {})
        number = book.add(user, kind, data, model="m", key=key if kind != "undo" else ("", -1))
        kept.append((number, user, key, kind, data))
    for user in ("ab", "cd"):
        undone = {d["event"] for _, u, _, kind, d in kept if kind == "undo" and u == user}
        stand = [e for e in kept if e[1] == user and e[0] not in undone and e[3] != "undo"]
        found = book.standing(user, "m")
        for key in KEYS:
            mine = [e for e in stand if e[2] == key]
            status = found.get(key, Status())
            for kind, value in (
                ("read", None if status.read is None else status.read["confidence"]),
                ("feedback", None if status.feedback is None else status.feedback["note"]),
                ("flag", status.flagged),
                ("changed", status.changed),
                ("revealed", bool(status.revealed)),
            ):
                seen = [e[0] for e in mine if e[3] == "revealed"]
                first = min(seen, default=10**9)
                last = [e[4] for e in mine if e[3] == kind and (kind != "read" or e[0] < first)]
                expected = {
                    "read": last[-1]["confidence"] if kind == "read" and last else None,
                    "feedback": last[-1]["note"] if kind == "feedback" and last else None,
                    "flag": bool(last and last[-1].get("on")),
                    "changed": last[-1]["changed"] if kind == "changed" and last else None,
                    "revealed": bool(last),
                }[kind]
                assert value == expected


def test_two_writers_at_once_lose_nothing(tmp_path):
    file = tmp_path / "a.sqlite"
    Journal(file)
    code = (
        "import sys, pathlib\n"
        "from journal import Journal\n"
        "book = Journal(pathlib.Path(sys.argv[1]))\n"
        "for k in range(60):\n"
        "    book.add(sys.argv[2], 'flag', {'on': True, 'k': k}, model='m', key=(f'i{k}', -1))\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(file), user], env=ENVIRONMENT)
        for user in ("ab", "cd")
    ]
    assert [c.wait(120) for c in children] == [0, 0]
    book = Journal(file)
    for user in ("ab", "cd"):
        assert [e.data["k"] for e in book.events(user)] == list(range(60))


def test_what_was_answered_survives_a_kill(tmp_path):
    """Every number that the writer printed is there after kill -9."""
    file = tmp_path / "a.sqlite"
    code = (
        "import sys, pathlib\n"
        "from journal import Journal\n"
        "book = Journal(pathlib.Path(sys.argv[1]))\n"
        "while True:\n"
        "    print(book.add('ab', 'flag', {'on': True}, model='m', key=('i', -1)), flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    said = [int(child.stdout.readline()) for _ in range(5)]
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    child.stdout.close()
    said += [int(w) for w in rest]
    kept = [e.number for e in Journal(file).events()]
    assert set(said) <= set(kept)
    assert len(kept) - len(said) <= 1


def test_export_carries_the_banner_and_no_formula(book):
    key = KEYS[2]
    said = {"verdict": "disagree", "corrected": "0", "reasons": ["false alarm"], "note": "=1+1"}
    book.add("ab", "feedback", {**said, "box": {"x0": 1}}, model="m", key=key)
    rows = export({("ab", "m", key, "1"): book.standing("ab", "m")[key]}, "Research use only.")
    text = as_csv(rows)
    assert "Research use only." in text
    assert "'=1+1" in text
    assert "\n=1+1" not in text
    told = json.loads(as_json(rows))
    assert told[0]["comment"] == "=1+1"
    assert told[0]["slice"] == 3
    assert told[0]["box"] == {"x0": 1}


def test_fold_of_nothing():
    assert fold([]) == {}
