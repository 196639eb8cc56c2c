"""The malformed tree of tests/robust through the command line, as a table of what became of it.

Command: python benchmarks/malformed.py [--seed N] [--workers N] [--hide FAULT ...]. Nothing is asserted.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from robust import malformed  # noqa: E402  tests/ is no package of medssl

SIZE = 32
HANG_SECONDS = 600
POLL_SECONDS = 0.02
RESTARTS = ("E-CRASH", "E-DEADLINE", "E-MEMORY")


@dataclass(frozen=True)
class Ended:
    """How one command ended: exit code (None where it hung), seconds, peak MiB of it and a child."""

    verb: str
    code: int | None
    seconds: float
    own_mib: float
    child_mib: float


def parents() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return found


def family(pid: int) -> Iterator[int]:
    """The children of a process, and theirs."""
    known = parents()
    for child in known:
        above = known[child]
        while above and above != pid:
            above = known.get(above, 0)
        if above == pid:
            yield child


def peak_mib(pid: int) -> float:
    """The largest resident size a process has had; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), 0.0)


def run(verb: str, words: list[str], keys: Path) -> Ended:
    """Run one command and watch its memory, and that of its children, until it ends."""
    begun = time.monotonic()
    environment = os.environ | {"MEDSSL_KEYS": str(keys), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "medssl.cli", verb, *words]
    process = subprocess.Popen(command, env=environment, cwd=keys, stderr=subprocess.DEVNULL)
    own, child, done = 0.0, 0.0, threading.Event()

    def watch() -> None:
        nonlocal own, child
        while not done.wait(POLL_SECONDS):
            own = max(own, peak_mib(process.pid))
            child = max([child, *map(peak_mib, family(process.pid))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code: int | None = process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = None
    done.set()
    watcher.join()
    return Ended(verb, code, time.monotonic() - begun, own, child)


def judged(cohort: Path, tree: malformed.Tree) -> list[tuple[malformed.Planted, str, str]]:
    """Planted file, verdict and code; the verdict ``lost`` is an indexed one that is not stored."""
    stored = set()
    for index in cohort.glob("store/*/index.parquet"):
        stored |= set(pq.read_table(index, columns=["image_id"]).column(0).to_pylist())
    out = []
    with (cohort / "private" / "files.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            planted = tree.find(row["file"])
            verdict = row["verdict"]
            if verdict == "indexed" and row["image_id"] not in stored:
                verdict = "lost"
            if planted is not None:
                out.append((planted, verdict, row["code"]))
    return out


def right(expected: str, verdict: str) -> bool:
    """Whether a verdict is one of those expected."""
    wanted = {"good": {"indexed"}, "aside": {"quarantined"}, "skipped": {"skipped"},
              "refused": {"quarantined", "skipped"}}  # fmt: skip
    return verdict in wanted.get(expected, {"indexed", "quarantined", "skipped"})


def report(tree: malformed.Tree, cohort: Path, ends: list[Ended]) -> None:
    """Print the table, and below it every file judged otherwise than expected."""
    found = judged(cohort, tree)
    codes = Counter(code for _, _, code in found)
    good = [verdict for planted, verdict, _ in found if planted.expected == "good"]
    wrong = [(p, v, c) for p, v, c in found if not right(p.expected, v)]
    named = {planted.name for planted, _, _ in found}
    silent = [planted for planted in tree.files if planted.name not in named]
    rows = {
        "files fed": len(tree.files),
        "accounted for": len(tree.files) - len(silent),
        "deaths of the main process": sum((e.code or 0) < 0 for e in ends),
        "commands that ended with another code than 0": sum(e.code not in (0, None) for e in ends),
        "hangs": sum(e.code is None for e in ends),
        "good files kept": f"{good.count('indexed')} of {tree.counts['good']}",
        "judged as expected": f"{len(tree.files) - len({p.name for p, _, _ in wrong})} of {len(tree.files)}",
        **{f"worker restarts and caps: {code}": codes[code] for code in RESTARTS},
        **{f"peak of the main process, {e.verb}": f"{e.own_mib:.0f} MiB" for e in ends},
        **{f"peak of its largest child, {e.verb}": f"{e.child_mib:.0f} MiB" for e in ends},
        **{f"seconds, {e.verb}": f"{e.seconds:.1f}" for e in ends},
    }
    print("| what | figure |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    lines = [f"| {p.fault} | {p.expected} | none |" for p in silent]
    lines += [f"| {p.fault} | {p.expected} | {v} {c} |" for p, v, c in wrong]
    if lines:
        print("\n| fault | expected | verdict |\n|---|---|---|")
        print("\n".join(line.encode("ascii", "backslashreplace").decode() for line in lines))


def without(tree: malformed.Tree, faults: set[str]) -> malformed.Tree:
    """The tree without the files of some faults, which are removed."""
    for planted in (f for f in tree.files if f.fault in faults):
        place = tree.root / planted.name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    return replace(tree, files=tuple(f for f in tree.files if f.fault not in faults))


def main() -> None:
    """Build, scan, decode, report, and remove what was built."""
    words = argparse.ArgumentParser()
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--hide", nargs="*", default=[], help="faults to leave out")
    asked = words.parse_args()
    base = Path(tempfile.mkdtemp(prefix="malformed-"))
    begun = time.monotonic()
    tree = malformed.build(base / "tree", asked.seed)
    tree = without(tree, set(asked.hide))
    print(f"seed {asked.seed}, {tree.counts}, built in {time.monotonic() - begun:.1f} s\n")
    cohort = base / "cohort"
    many = ["--workers", str(asked.workers)]
    (base / "keys").mkdir()
    scan = [str(tree.root), "--site", "robust", "--out", str(cohort), *many]
    ends = [run("scan", scan, base / "keys")]
    if ends[0].code == 0:
        ends.append(run("decode", [str(cohort), "--size", str(SIZE), *many], base / "keys"))
    if (cohort / "private" / "files.csv").is_file():
        report(tree, cohort, ends)
    else:
        print(f"scan ended with {ends[0].code} and left no accounts")
    for closed in tree.root.glob("case-*/closed"):
        closed.chmod(0o700)
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
