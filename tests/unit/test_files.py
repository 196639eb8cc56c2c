"""Tables are text, files are whole, cells are harmless."""

import csv
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl import files
from medssl.errors import DiskError, UsageError

LIKE_NUMBERS = ("007", "7", "1e5", "100000", "NA", "null", "TRUE", "True", "2024-01-02")


def test_identifiers_stay_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("patient_id\n" + "\n".join(LIKE_NUMBERS) + "\n")
    assert [r["patient_id"] for r in files.read_table(path)] == list(LIKE_NUMBERS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings(tmp_path, delimiter, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(f"patient_id{delimiter}ü\nP1{delimiter}x y\n\n".encode(encoding))
    assert files.read_table(path) == [{"patient_id": "P1", "ü": "x y"}]


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "empty"),
        (b"a,a\n1,2\n", "stands twice"),
        (b"a,b\n1\n", "line 2: 1 cells"),
        (b"\xff\x00\xfa,b\n", "UTF-8"),
    ],
)
def test_broken_tables(tmp_path, raw, part):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=part):
        files.read_table(path)


@given(st.text(max_size=40))
def test_no_cell_is_live(text):
    cell = files.safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\0"))
    assert "\x1b" not in cell


def test_numbers_are_not_quoted(tmp_path):
    files.write_csv(tmp_path / "n.csv", ["a"], [[-1.5], ["-1.5"]])
    with (tmp_path / "n.csv").open() as stream:
        assert [r[0] for r in csv.reader(stream)] == ["a", "-1.5", "'-1.5"]


def test_old_or_new_never_half(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_text(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskError, match="disk is full"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_mode(tmp_path):
    files.write_text(tmp_path / "secret", "x", 0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
