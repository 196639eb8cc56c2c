"""Eight hundred faulty files and their good twins through scan and decode, by the user's door."""

import contextlib
import csv
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.ndimage import zoom

from medssl.cli import main
from robust import malformed
from robust.malformed import PARTS, Tree
from robust.malformed_bytes import picture

SIZE = 32
LEAST_FAULTY, LEAST_GOOD = 200, 40
MOST_SECONDS = 120
LEAST_REASON = 8
ALIKE = 0.98
RULES = {
    "good": lambda v: v.state == "indexed" and v.stored,
    "aside": lambda v: v.state == "quarantined",
    "skipped": lambda v: v.state == "skipped" and v.code.startswith("S-"),
    "refused": lambda v: v.state in {"quarantined", "skipped"},
    "any": lambda v: v.state in {"indexed", "quarantined", "skipped"},
}


@dataclass(frozen=True)
class Verdict:
    """What the accounts say of one entry, and whether its picture is in the store."""

    state: str
    code: str
    reason: str
    image_id: str
    stored: bool


@dataclass(frozen=True)
class Outcome:
    """What scan and decode left behind."""

    tree: Tree
    cohort: Path
    exits: tuple[int, int]
    said: str
    seconds: float
    verdicts: dict[str, list[Verdict]]
    strangers: tuple[str, ...]

    def of(self, expected: str) -> list[tuple[str, Verdict]]:
        """Return fault and verdict of every planted file of a class."""
        files = [f for f in self.tree.files if f.expected == expected]
        return [(f.fault, v) for f in files for v in self.verdicts.get(f.name, [])]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def index_of(cohort: Path) -> list[dict]:
    (index,) = cohort.glob("store/*/index.parquet")
    return pq.read_table(index).to_pylist()


def verdicts_of(cohort: Path, tree: Tree) -> tuple[dict[str, list[Verdict]], tuple[str, ...]]:
    """Return the verdicts by planted name, and the paths that nobody planted.

    The one place that knows the columns of ``private/files.csv``.
    """
    stored = {row["image_id"] for row in index_of(cohort)}
    found, strangers = defaultdict(list), []
    for row in table(cohort / "private" / "files.csv"):
        planted = tree.find(row["file"])
        if planted is None:
            strangers.append(row["file"])
            continue
        verdict = Verdict(row["verdict"], row["code"], row["reason"], row["image_id"],
                          row["image_id"] in stored)  # fmt: skip
        found[planted.name].append(verdict)
    return dict(found), tuple(strangers)


@contextlib.contextmanager
def everything_said(path: Path) -> Iterator[None]:
    """Send what this process and its children write to stderr into a file."""
    with path.open("w") as out, contextlib.redirect_stderr(out):
        before = os.dup(2)
        os.dup2(out.fileno(), 2)
        try:
            yield
        finally:
            out.flush()
            os.dup2(before, 2)
            os.close(before)


def remove(root: Path) -> None:
    """Remove the tree with its closed folder, which pytest would stumble over."""
    for closed in root.glob("case-*/closed"):
        closed.chmod(0o700)
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def outcome(tmp_path_factory) -> Iterator[Outcome]:
    """The tree, scanned and decoded at once."""
    base = tmp_path_factory.mktemp("malformed")
    tree = malformed.build(base / "tree")
    begun = time.monotonic()
    with everything_said(base / "stderr.txt"):
        scanned = main(["scan", str(tree.root), "--site", "robust", "--out", str(base / "cohort")])
        decoded = (
            main(["decode", str(base / "cohort"), "--size", str(SIZE)]) if scanned == 0 else -1
        )
    seconds = time.monotonic() - begun
    said = (base / "stderr.txt").read_text(errors="replace")
    if decoded != 0:
        remove(tree.root)
        pytest.fail(f"scan ended with {scanned}, decode with {decoded}: {said[-600:]}")
    found, strangers = verdicts_of(base / "cohort", tree)
    yield Outcome(tree, base / "cohort", (scanned, decoded), said, seconds, found, strangers)
    remove(tree.root)


def test_the_tree_is_rich_enough(outcome):
    counts = outcome.tree.counts
    assert sum(counts.values()) - counts["good"] >= LEAST_FAULTY
    assert counts["good"] >= LEAST_GOOD
    assert len({f.name for f in outcome.tree.files}) == len(outcome.tree.files)


def test_the_import_ends_well(outcome):
    assert outcome.exits == (0, 0)


def test_every_entry_is_accounted_for(outcome):
    silent = [f.fault for f in outcome.tree.files if f.name not in outcome.verdicts]
    assert not silent
    assert not outcome.strangers


def test_every_refusal_has_a_code_and_a_reason(outcome):
    refused = [v for found in outcome.verdicts.values() for v in found if v.state != "indexed"]
    assert refused
    assert all(v.code and len(v.reason) > LEAST_REASON for v in refused)


def test_the_public_list_holds_every_refusal(outcome):
    """``quarantine.csv`` and the private accounts agree, and only one of them has paths."""
    public = table(outcome.cohort / "quarantine.csv")
    private = table(outcome.cohort / "private" / "files.csv")
    refused = {row["file_id"]: row["code"] for row in private if row["verdict"] != "indexed"}
    assert {row["file_id"]: row["code"] for row in public} == refused
    assert not any("case-" in cell for row in public for cell in row.values())


@pytest.mark.parametrize("expected", sorted(RULES))
def test_verdicts_are_the_expected_ones(outcome, expected):
    wrong = [(f, v.state, v.code) for f, v in outcome.of(expected) if not RULES[expected](v)]
    assert not wrong, f"{len(wrong)} of {len(outcome.of(expected))}: {wrong}"


def test_good_files_show_their_own_picture(outcome):
    """Seen through medssl, a twin is the picture that was planted, not merely some picture."""
    (store,) = outcome.cohort.glob("store/*")
    rows = {row["image_id"]: row for row in index_of(outcome.cohort)}
    shown = [f for f in outcome.tree.files if f.shows is not None and f.name in outcome.verdicts]
    assert len(shown) >= LEAST_GOOD
    for planted in shown:
        row = rows[outcome.verdicts[planted.name][0].image_id]
        plane = np.load(store / f"pixels-{row['shard']:03d}.npy", mmap_mode="r")[row["offset"]]
        top, left, height, width = row["box"]
        whole = picture(planted.shows).astype(float)
        wanted = zoom(whole, (height / whole.shape[0], width / whole.shape[1]), order=1)
        seen = plane[top : top + height, left : left + width].astype(float)
        alike = np.corrcoef(seen.ravel(), wanted.ravel())[0, 1]
        assert alike > ALIKE, (planted.fault, alike)


def test_nothing_hangs_and_nothing_raves(outcome):
    assert "Traceback" not in outcome.said
    assert "panicked" not in outcome.said
    assert outcome.seconds < MOST_SECONDS


def test_nothing_received_is_executed(outcome):
    places = (Path(), outcome.cohort, outcome.tree.root)
    assert not [p for place in places for p in place.glob("*canary*")]


def test_the_same_seed_plants_the_same_bytes():
    def bytes_of(seed: int) -> list[bytes | str]:
        groups = malformed.groups(np.random.default_rng(seed), PARTS[:1])
        return [s.data for group in groups for s in group if isinstance(s.data, bytes)]

    assert bytes_of(0) == bytes_of(0) != bytes_of(1)


def test_a_wrong_verdict_would_be_seen():
    """The rules above bite."""
    taken = Verdict("indexed", "", "", "i", stored=True)
    assert [name for name, rule in RULES.items() if rule(taken)] == ["good", "any"]
    lost = Verdict("indexed", "", "", "i", stored=False)
    assert not RULES["good"](lost)
    quiet = Verdict("found", "", "", "", stored=False)
    assert not any(rule(quiet) for rule in RULES.values())
