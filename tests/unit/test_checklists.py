"""The checklists: official numbers, our words, and who answers what."""

import re
from dataclasses import FrozenInstanceError, replace

import pytest
import yaml

from medssl.errors import UsageError
from medssl.evaluate.report import checklists as room

# Letters per item of TRIPOD+AI; the other items of 1 to 27 have none.
LETTERS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}
SENTENCE = re.compile(r"[A-Z][^.!?;]*\.")


def item(section="data", filled_by="tool"):
    return room.Item("1", "t", "Text.", section, filled_by, checked=True)


def test_tripod_has_the_official_numbers():
    expected = []
    for number in range(1, 28):
        letters = "abcdefg"[: LETTERS.get(number, 0)]
        expected += [f"{number}{letter}" for letter in letters] or [str(number)]
    found = room.load("tripod-ai")
    assert [i.id for i in found.items] == expected
    assert len(expected) == 52
    by = {i.id: i for i in found.items}
    for number in ("7", "11", "12a", "12d", "12e", "16", "20a", "20c", "21", "23a", "24"):
        assert by[number].filled_by == "tool", number
    for number in ("3c", "5b", "17", "19", "25", "27a", "27b", "27c"):
        assert by[number].filled_by == "person", number
    assert by["20b"].filled_by == "both"


def test_claim_has_the_official_numbers():
    found = room.load("claim-2024")
    assert [i.id for i in found.items] == [str(n) for n in range(1, 45)]
    by = {i.id: i for i in found.items}
    for number in ("9", "11", "29", "33", "37", "38"):
        assert by[number].filled_by == "tool", number
    for number in ("19", "20", "26", "36"):
        assert by[number].filled_by == "both", number
    for number in ("14", "15", "16", "18", "41"):
        assert by[number].filled_by == "person", number


@pytest.mark.parametrize("name", room.names())
def test_every_item_is_whole(name):
    found = room.load(name)
    for one in found.items:
        assert SENTENCE.fullmatch(one.text), (one.id, one.text)
        assert one.link == found.link
        assert one.link.startswith("https://doi.org/")
        assert one.checked
        assert (one.section is None) == (one.filled_by == "person")
    assert len({one.text for one in found.items}) == len(found.items)


@pytest.mark.parametrize("name", room.names())
def test_files_read_the_same_by_plain_yaml(name):
    raw = yaml.safe_load((room.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    for given, one in zip(raw["items"], room.load(name).items, strict=True):
        assert given == {k: getattr(one, k) for k in given}


def test_names():
    assert room.names() == ("claim-2024", "tripod-ai")
    with pytest.raises(ValueError, match="no checklist 'stard'; choose one of claim-2024"):
        room.load("stard")
    with pytest.raises(ValueError, match=r"no checklist '\.\./tripod-ai'"):
        room.load("../tripod-ai")


@pytest.mark.parametrize(
    ("section", "filled_by", "present", "state", "words"),
    [
        ("data", "tool", {"data": True}, "filled", "filled: section data"),
        ("data", "tool", {"data": False}, "not run", "not run in this report"),
        ("data", "tool", {}, "not run", "not run in this report"),
        ("data", "both", {"data": True}, "part",
         "filled in part: section data; a person must write the rest"),
        ("data", "both", {"model": True}, "not run",
         "not run in this report; a person must write this"),
        (None, "person", {"data": True}, "person", "a person must write this"),
    ],
)  # fmt: skip
def test_states(section, filled_by, present, state, words):
    (row,) = room.status([item(section, filled_by)], present)
    assert (row.state, row.words) == (state, words)


def test_a_section_of_dashes_fills_nothing():
    rows = room.status([item(), item("model")], {"data": True, "model": True}, {"data"})
    assert [r.state for r in rows] == ["person", "filled"]
    assert rows[0].words == "section data knows nothing of it here; a person must write this"
    (absent,) = room.status([item()], {"data": False}, {"data"})
    assert absent.state == "not run"


@pytest.mark.parametrize("name", room.names())
def test_status_of_a_whole_and_of_an_empty_report(name):
    items = room.load(name).items
    whole = room.status(items, dict.fromkeys(room.SECTIONS, True))
    empty = room.status(items, {})
    assert [r.item for r in whole] == list(items)
    expected = {"tool": "filled", "both": "part", "person": "person"}
    assert [r.state for r in whole] == [expected[i.filled_by] for i in items]
    assert [r.state for r in empty] == ["person" if i.section is None else "not run" for i in items]
    assert room.status([], {}) == ()


def test_a_section_that_no_report_has_is_refused():
    with pytest.raises(ValueError, match=r"sections \['modle'\]; known are answer, context"):
        room.status([item()], {"modle": True})


@pytest.mark.parametrize(
    ("section", "filled_by"), [(None, "tool"), (None, "both"), ("data", "person")]
)
def test_writer_and_section_must_agree(section, filled_by):
    with pytest.raises(ValueError, match="name a section exactly where the tool has a part"):
        item(section, filled_by)
    with pytest.raises(FrozenInstanceError):
        item().id = "2"


GOOD = """name: n
source: s
link: https://doi.org/x
items:
  - {id: "1", title: t, text: T., section: data, filled_by: tool, checked: true}
"""


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.replace("data", "dota"), UsageError, "section"),
        (lambda t: t.replace("tool", "robot"), UsageError, "filled_by"),
        (lambda t: t.replace("tool", "person"), UsageError, "name a section exactly where"),
        (lambda t: t.replace("title: t, ", ""), UsageError, "title: required"),
        (lambda t: t.replace("title: t", "title: t, tilte: u"), UsageError, "tilte"),
        (lambda t: t + t.splitlines()[-1], ValueError, r"2 items, of which stand twice: \['1'\]"),
        (lambda t: t[: t.index("items:")] + "items: []\n", ValueError, "0 items"),
        (lambda t: t + "items: &a []\n", UsageError, "twice"),
    ],
)
def test_a_broken_file_is_told(tmp_path, monkeypatch, change, error, words):
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    path = tmp_path / "x.yaml"
    path.write_text(GOOD)
    assert room.load("x").items == (replace(item(), text="T.", link="https://doi.org/x"),)
    path.write_text(change(GOOD))
    with pytest.raises(error, match=words):
        room.load("x")


def test_an_item_may_have_its_own_link(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    own = GOOD.replace("checked: true", "checked: false, link: https://doi.org/y")
    (tmp_path / "x.yaml").write_text(own)
    (one,) = room.load("x").items
    assert (one.link, one.checked) == ("https://doi.org/y", False)
