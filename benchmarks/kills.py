"""A run that is killed at random moments and resumed until it is done, against one that was left alone.

Command: python benchmarks/kills.py [--kills N] [--each N] [--seed N] [--epochs N] [--fork] [--out FILE.md]
Kills are spread over the runs, half SIGKILL and half SIGTERM, each at a random moment after the resumed run has
logged a step; one in five comes earlier, while the process still starts, and is counted apart. ``lost`` are
steps that were logged and had to be done again. A run has survived when its encoder is the same, byte for byte,
and its log has the same steps and losses. With --fork processes are forked from one that has imported
everything: the same code and the same signals, without the seconds that a start takes. Nothing is asserted;
the exit code is 1 where a run differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sheet import Sheet, middle, spread

ROOT = Path(__file__).resolve().parent.parent
SIZE = 32
EARLY = 0.2  # share of the kills that come while a process starts
PATIENCE_S = 300.0
TERMINATED = 143


@dataclass
class Setting:
    """The cohort and the words of the run."""

    data: Path
    epochs: int
    seed: int

    def words(self, out: Path) -> list[str]:
        """Return the command line of one start."""
        config = ROOT / "configs" / "pretrain" / "micle-cxr.yaml"
        small = [
            f"decode.size={SIZE}",
            "encoder.name=resnet10t",
            "method.hidden=32",
            "method.out=16",
        ]
        long = ["batch=8", f"duration={{epochs: {self.epochs}}}", "log_every=1"]
        places = ["--data", str(self.data), "--out", str(out), "--resume"]
        return ["pretrain", str(config), *small, *long, f"seed={self.seed}", *places]


class Started:
    """A process that trains, of its own or forked."""

    def __init__(self, words: list[str], errors: Path, *, fork: bool) -> None:
        self.errors = errors
        self.begun = time.monotonic()
        self.pid = _started(words, errors, fork=fork)
        self.code: int | None = None

    def ended(self) -> bool:
        """Return whether it has ended; its exit code is then known."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        while not self.ended():
            time.sleep(0.005)
            if time.monotonic() - self.begun > PATIENCE_S:
                os.kill(self.pid, signal.SIGKILL)
                raise SystemExit(f"A run hangs: {self.errors.read_text()[-2000:]}")
        assert self.code is not None
        return self.code


def _started(words: list[str], errors: Path, *, fork: bool) -> int:
    """Return the id of a child that runs the command line, in this interpreter's copy or a fresh one."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if not fork:
            os.execv(sys.executable, [sys.executable, "-m", "medssl.cli", *words])
        from medssl.cli import main as command_line

        code = command_line(words)
    finally:
        os._exit(code)


class Steps:
    """Whether a started run has logged a step of its own yet.

    A resumed run first writes its log anew, without what lies beyond its checkpoint: another file under
    the same name. What is added after that is a step.
    """

    def __init__(self, run: Path) -> None:
        self.log = run / "log.jsonl"
        self.before = self._seen()
        self.base = 0 if self.before is None else -1

    def _seen(self) -> tuple[int, int] | None:
        try:
            found = self.log.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size

    def any(self) -> bool:
        """Return whether a step was logged since."""
        now = self._seen()
        if now is None:
            return False
        if self.base < 0:
            if self.before is not None and now[0] != self.before[0]:
                self.base = now[1]
            return False
        return now[1] > self.base


def logged(run: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's log that tell of steps; a line cut by a kill is left out."""
    found = []
    if (run / "log.jsonl").is_file():
        for text in (run / "log.jsonl").read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            found += [line] if "loss" in line else []
    return found


def last_step(run: Path) -> int:
    """Return the last step that was logged."""
    return max((line["step"] for line in logged(run)), default=0)


def saved_step(run: Path) -> int:
    """Return the step of the newest checkpoint, which is whole once it has its name."""
    names = (p.stem for p in (run / "checkpoints").glob("step-*.ckpt"))
    return max((int(name.split("-")[1]) for name in names), default=0)


def same(straight: Path, run: Path) -> bool:
    """Return whether encoder, steps and losses are the same."""
    weights = [(p / "encoder.safetensors").read_bytes() for p in (straight, run)]
    curves = [[(x["step"], x["loss"]) for x in logged(p)] for p in (straight, run)]
    return weights[0] == weights[1] and curves[0] == curves[1]


@dataclass
class Account:
    """What happened to one run."""

    kills: dict[str, int] = field(default_factory=lambda: {"SIGKILL": 0, "SIGTERM": 0})
    early: int = 0
    resumes: int = 0
    lost: list[int] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)


class Killer:
    """Starts, waits for a random moment, kills, and starts again."""

    def __init__(
        self, setting: Setting, reach: tuple[float, float], stream: random.Random, *, fork: bool
    ) -> None:
        self.setting, self.stream, self.fork = setting, stream, fork
        self.start, self.pace = reach

    def run(self, out: Path, kills: int) -> Account:
        """Kill a run some times, then let it finish."""
        told, errors = Account(), out.parent / f"{out.name}.txt"
        signals = [signal.SIGKILL, signal.SIGTERM] * (kills // 2 + 1)
        self.stream.shuffle(signals)
        for which in signals[:kills]:
            if self._once(out, errors, which, told):
                break
        process = Started(self.setting.words(out), errors, fork=self.fork)
        code = process.wait()
        if code not in {0, 4}:  # 4: it was already finished
            raise SystemExit(f"A resumed run ended with {code}: {errors.read_text()[-2000:]}")
        return told

    def _once(self, out: Path, errors: Path, which: signal.Signals, told: Account) -> bool:
        """Start and kill once; return whether the run was done before the kill."""
        steps = Steps(out)
        early = self.stream.random() < EARLY
        process = Started(self.setting.words(out), errors, fork=self.fork)
        while not (early or steps.any() or process.ended()):
            time.sleep(0.002)
        self._sleep(process, self.stream.uniform(0, self.start if early else self.pace), steps)
        if process.ended():
            self._check(process, {0, 4})  # 4: a kill before came after the last step
            return True
        reached, stepped, asked = last_step(out), steps.any(), time.monotonic()
        os.kill(process.pid, which)
        code = process.wait()
        if code == 0:  # the last step was done when the signal came
            return True
        self._check(process, {-which} | ({TERMINATED} if which is signal.SIGTERM else set()))
        told.resumes += 1
        if not stepped:
            told.early += 1
            return False
        told.kills[which.name] += 1
        told.lost.append(max(reached, last_step(out)) - saved_step(out))
        if which is signal.SIGTERM:
            told.exits.append(time.monotonic() - asked)
            told.codes.append(code)
        return False

    def _check(self, process: Started, expected: set[int]) -> None:
        if process.code not in expected:
            words = process.errors.read_text()[-2000:]
            raise SystemExit(f"A run ended with {process.code} by itself: {words}")

    def _sleep(self, process: Started, seconds: float, steps: Steps) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not process.ended():
            steps.any()  # so that the moment is seen in which the log is written anew
            time.sleep(0.002)


def prepare(work: Path) -> Path:
    """Scan, decode and split the sample hospital."""
    os.environ["MEDSSL_KEYS"] = str(work / "keys")
    source, out = ROOT / "sample_data" / "hospital_a", work / "cohort"
    (work / "keys").mkdir()
    for words in (
        ["scan", str(source), "--site", "a", "--out", str(out)],
        ["decode", str(out), "--size", str(SIZE)],
        ["split", str(out), "--seed", "0"],
    ):
        done = subprocess.run([sys.executable, "-m", "medssl.cli", *words], check=False,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
    return out


def straight_run(setting: Setting, out: Path, *, fork: bool) -> tuple[float, float]:
    """Leave one run alone; return the seconds to its first step, and from there to its end."""
    process = Started(setting.words(out), out.parent / "straight.txt", fork=fork)
    first = None
    while not process.ended():
        if first is None and last_step(out):
            first = time.monotonic()
        time.sleep(0.01)
    if process.code:
        raise SystemExit((out.parent / "straight.txt").read_text()[-2000:])
    first = process.begun if first is None else first
    return first - process.begun, time.monotonic() - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=20, help="after a step, over all runs together"
    )
    parser.add_argument(
        "--each", type=int, default=5, help="kills of one run, before it is let finish"
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--fork", action="store_true", help="many kills in little time")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.fork:
        import medssl.train.pretrain  # noqa: F401  before any thread exists
    sheet, stream = Sheet("Kills survived", args.out), random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        setting = Setting(prepare(work), args.epochs, 0)
        start, seconds = straight_run(setting, work / "straight", fork=args.fork)
        steps = last_step(work / "straight")
        sheet.say(
            f"Synthetic hospital A, ResNet-10t, {SIZE} px, batch 8, {args.epochs} epochs, {steps} steps, "
            f"{seconds:.1f} s of steps when left alone; {'forked' if args.fork else 'fresh'} processes; "
            f"seed {args.seed}.\n"
        )
        killer = Killer(setting, (start, seconds / args.each), stream, fork=args.fork)
        told = run_all(killer, work, args.kills, args.each, sheet)
        totals(told, sheet)
    sheet.write()
    if not all(x["identical"] == "yes" for x in sheet.facts["runs"]):
        raise SystemExit(1)


def run_all(killer: Killer, work: Path, kills: int, each: int, sheet: Sheet) -> list[Account]:
    """Kill run after run until there were kills enough; compare each, and print a line."""
    told: list[Account] = []
    sheet.head(
        "run", "SIGKILL", "SIGTERM", "before a step", "resumes", "steps lost, most", "identical"
    )
    while (done := sum(sum(a.kills.values()) for a in told)) < kills:
        number = len(told)
        out = work / f"run{number}"
        account = killer.run(out, min(each, kills - done))
        told.append(account)
        verdict = "yes" if same(work / "straight", out) else "**no**"
        sheet.row(number, account.kills["SIGKILL"], account.kills["SIGTERM"], account.early,
                  account.resumes, max(account.lost, default=0), verdict)  # fmt: skip
    sheet.end("runs")
    return told


def totals(told: list[Account], sheet: Sheet) -> None:
    """Print the sums and the times from SIGTERM to the end."""
    kills = sum(sum(a.kills.values()) for a in told)
    lost, exits = [x for a in told for x in a.lost], [x for a in told for x in a.exits]
    codes = sorted({c for a in told for c in a.codes})
    sheet.say(
        f"{kills} kills after a step and {sum(a.early for a in told)} before one, "
        f"{sum(a.resumes for a in told)} resumes; {sum(lost)} steps done twice"
        + (f" (median {middle(lost):g} a kill)" if lost else "")
        + (
            f". SIGTERM to exit: median {middle(exits):.2f} s ({spread(exits)}), exit codes {codes}."
            if exits
            else "."
        )
    )
    sheet.facts["totals"] = {
        "kills": kills,
        "early": sum(a.early for a in told),
        "lost": lost,
        "seconds_from_sigterm": exits,
        "codes": codes,
    }


if __name__ == "__main__":
    main()
