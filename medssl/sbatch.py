"""A SLURM batch script for a pretraining: saved, requeued and resumed until it is done."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import RefusedError, UsageError
from medssl.files import atomic

NOTICE_S = 120
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,@+-]*")
TIME = re.compile(r"\d+|\d+:\d{2}|\d+:\d{2}:\d{2}|\d+-\d+(:\d{2}){0,2}")
MEMORY = re.compile(r"\d+[KMGT]?")


@dataclass(frozen=True)
class Wanted:
    """What to ask the scheduler for.

    Attributes:
        nodes: machines.
        gpus: GPUs of each node, one task per GPU; 0 is one task per node, on its CPU.
        cpus: cores of each task.
        time: limit of one stretch, as SLURM writes it; the job is requeued beyond it.
        partition, account, memory: as the site names them; None leaves a place to fill in.
    """

    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    memory: str | None = None


def write(path: Path, words: Sequence[str], wanted: Wanted) -> None:
    """Write the script; nothing is submitted.

    Raises:
        RefusedError: the file exists.
        UsageError: see ``script``.
    """
    text = script(words, wanted)
    if path.exists():
        raise RefusedError(f"{path}: exists; remove it, or name another --sbatch file.", "E-EXISTS")
    with atomic(path, 0o755) as out:
        out.write(text.encode(errors="surrogateescape"))


def script(words: Sequence[str], wanted: Wanted) -> str:
    """Return the batch script that runs ``medssl`` with these words until it is done.

    Args:
        words: the command without the program: the verb, its config, overrides and options;
            ``--resume`` is added. It must name ``--out``.
        wanted: the resources.

    Raises:
        UsageError: no ``--out``, or a resource that SLURM would not understand; all at once.
    """
    out = _option(words, "--out")
    problems = _problems(wanted)
    if out is None:
        problems.append("--out is required with --sbatch: the job goes on in that folder.")
    if any("\0" in word for word in words):
        problems.append("A word of the command holds a NUL character.")
    if problems or out is None:
        raise UsageError(problems, "E-SBATCH")
    resumed = [*words] if "--resume" in words else [*words, "--resume"]
    command = "\n".join(f"  {shlex.quote(word)}" for word in ["medssl", *resumed])
    return BODY.format(
        head="\n".join(_head(wanted, out)),
        out=shlex.quote(out),
        command=command,
    )


def _option(words: Sequence[str], name: str) -> str | None:
    for place, word in enumerate(words):
        if word == name and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _problems(wanted: Wanted) -> list[str]:
    found = []
    for name, low in (("nodes", 1), ("gpus", 0), ("cpus", 1)):
        if getattr(wanted, name) < low:
            found.append(f"--{name} {getattr(wanted, name)}: must be at least {low}.")
    shapes = (("time", TIME), ("partition", NAME), ("account", NAME), ("memory", MEMORY))
    for name, shape in shapes:
        value = getattr(wanted, name)
        if value is not None and shape.fullmatch(value) is None:
            found.append(f"--{name} {value!r}: not as SLURM writes it (see man sbatch).")
    return found


def _head(wanted: Wanted, out: str) -> list[str]:
    """Return the lines that the scheduler reads."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", Path(out).name).strip("-.") or "run"
    lines = [
        f"--job-name=medssl-{name[:60]}",
        f"--nodes={wanted.nodes}",
        f"--ntasks-per-node={max(1, wanted.gpus)}",
    ]
    lines += [f"--gpus-per-node={wanted.gpus}"] if wanted.gpus else []
    lines += [
        f"--cpus-per-task={wanted.cpus}",
        f"--time={wanted.time}",
        "--output=%x-%j.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=USR1@{NOTICE_S}",
    ]
    asked = {"partition": wanted.partition, "account": wanted.account, "mem": wanted.memory}
    head = [f"#SBATCH {line}" for line in lines]
    head += [f"#SBATCH --{k}={v}" for k, v in asked.items() if v is not None]
    # A second # keeps SLURM from reading a line that a person has not filled in.
    return head + [f"##SBATCH --{k}=FILL-IN" for k, v in asked.items() if v is None]


BODY = """\
#!/bin/bash
{head}

# Written by medssl pretrain --sbatch. Submit it from the folder in which the paths below hold:
#   sbatch THIS-FILE
# {notice} s before the time limit every rank is told (USR1), saves and exits 143; then the job is
# requeued under its number, and goes on where it was (--resume), in the same log.

# FILL IN what makes medssl known on a compute node, if anything (a module, an environment):
# source /path/to/.venv/bin/activate

set -u
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
out={out}
command=(
{command}
)

saved() {{
  ls -l --time-style=full-iso -- "$out/checkpoints" "$out"/*/checkpoints 2>/dev/null
}}

# A signal meant for the steps must not end this script before it has seen how they ended.
trap : TERM USR1
before=$(saved)
# srun does not take over the cores per task from sbatch; one failing rank ends all.
srun --kill-on-bad-exit=1 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" "${{command[@]}}"
code=$?

if [ "$code" -eq 0 ]; then
  echo "medssl: done."
  exit 0
fi
if [ "$code" -ne 143 ]; then
  echo "medssl: failed with exit code $code; not requeued. The reason stands above." >&2
  exit "$code"
fi
case "$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null)" in
  *JobState=CANCELLED* | *JobState=PREEMPTED*)
    echo "medssl: saved; cancelled or preempted, so the scheduler decides what follows." >&2
    exit 143
    ;;
esac
if [ "$before" = "$(saved)" ]; then
  echo "medssl: interrupted before anything was saved; not requeued, since it would not come further." >&2
  echo "medssl: look for a failing rank above, or ask for more --time or a smaller save_minutes." >&2
  exit 143
fi
if scontrol requeue "$SLURM_JOB_ID"; then
  echo "medssl: saved; requeued."
  exit 0
fi
echo "medssl: saved, but the scheduler refused to requeue; submit this script again to go on." >&2
exit 143
""".replace("{notice}", str(NOTICE_S))
