"""Foreign torch files are opened in a child process under limits, which hands on tensors only.

The child never runs what the file asks for (``weights_only``, and no way around it). It writes
safetensors, so that even a child that a hostile file took over can lie about numbers, not run code
in the parent.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save_file
from torch import Tensor

from medssl.errors import DiskError, RefusedError

STARTUP_S = 120.0
DEADLINE_S = 10.0
SECONDS_PER_MB = 1.0
MIB = 1 << 20
# Beyond what torch itself takes: the file, its tensors, their copy for writing, and some room.
COPIES = 3
ROOM_BYTES = 512 * MIB
SHARED = 2
DEPTH = 4
MOST_ENTRIES = 100_000
PROGRAMS = ("_instantiator", "_class_path")
BOOT = "import sys; from medssl.models import unpack; unpack.serve(sys.argv[1], sys.argv[2])"
WAY_OUT = "Ask the sender for safetensors."


def tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a torch file, tables inside tables under dotted names.

    Raises:
        RefusedError: the file asks for a program to be run (``E-FOREIGN-CODE``), is damaged or holds
            no tensors (``E-WEIGHTS``), declares more than it holds (``E-BOMB``), or its child
            crashed or took too long.
        DiskError: no room in the temporary folder.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "tensors.safetensors"
        code, sentence = _ask(path, out)
        if code:
            kind = DiskError if code == "E-DISK" else RefusedError
            raise kind(f"{path.name}: {sentence}", code)
        try:
            found: dict[str, Tensor] = parse_tensors(out.read_bytes())
        except (SafetensorError, OSError) as error:
            words = f"{path.name}: its reader left no tensors. {WAY_OUT}"
            raise RefusedError(words, "E-CRASH") from error
        return found


def _ask(path: Path, out: Path) -> tuple[str, str]:
    """Run the child; return code and sentence, both empty when it went well."""
    places = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    allowed = DEADLINE_S + SECONDS_PER_MB * path.stat().st_size / 1e6
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", BOOT, str(path), str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Torch quotes the file in what it writes there.
            stderr=subprocess.DEVNULL,
            env=os.environ | threads | {"PYTHONPATH": places},
            timeout=STARTUP_S + allowed,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "E-DEADLINE", f"took longer than {allowed:.0f} s to read; refused. {WAY_OUT}"
    try:
        answer = json.loads(done.stdout.decode())
        return str(answer["code"]), str(answer["sentence"])
    except (ValueError, KeyError, TypeError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else "no answer"
        return "E-CRASH", f"its reader crashed on this file ({how}); refused. {WAY_OUT}"


def serve(path: str, out: str) -> None:
    """Read one file in a child process, write its tensors, and say in JSON how it went."""
    size = Path(path).stat().st_size
    _limit(size)
    code = sentence = ""
    try:
        save_file(read(Path(path)), out)
    except RefusedError as error:
        code, sentence = error.code, error.problems[0]
    except MemoryError:
        code, sentence = "E-MEMORY", f"needs more memory than its {size} bytes may take; refused."
    except (OSError, SafetensorError):
        code = "E-DISK"
        sentence = "its tensors found no room in the temporary folder (TMPDIR). Free some space."
    sys.stdout.write(json.dumps({"code": code, "sentence": sentence}))


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a torch file, each in memory of its own; for the child process.

    Raises:
        RefusedError: as ``tensors`` says, without the file's name.
        MemoryError: it needs more than the process may take.
    """
    size = path.stat().st_size
    if size == 0:
        raise RefusedError("is empty. Copy it again.", "E-WEIGHTS")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001  damaged files raise whatever their bytes spell
        raise _refused(error) from None
    found = _flatten(data)
    total = sum(t.numel() * t.element_size() for t in found.values())
    if total > SHARED * size + MIB:
        words = f"declares {total} bytes of tensors in a file of {size} bytes; refused. {WAY_OUT}"
        raise RefusedError(words, "E-BOMB")
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in found.items()}


def _refused(error: BaseException) -> RefusedError:
    """Say why torch did not load a file, quoting of it no more than the name of what it asks for."""
    text = str(error)
    asked = re.search(r"GLOBAL (?:torch\.)?([\w.]{1,80})", text)
    if asked is not None or "TorchScript" in text:
        what = "a TorchScript program" if asked is None else f"{asked[1]} to be run"
        words = (
            f"asks for {what}; a file from outside may carry programs, so only plain tensors are "
            f"read. {WAY_OUT}"
        )
        return RefusedError(words, "E-FOREIGN-CODE")
    if "not enough memory" in text or "can't allocate" in text:
        return RefusedError("declares more than its bytes can hold; refused.", "E-BOMB")
    words = (
        f"could not be read as a torch file ({type(error).__name__}); it is damaged, cut off, or of "
        "another kind. Copy it again."
    )
    return RefusedError(words, "E-WEIGHTS")


def _flatten(data: Any) -> dict[str, Tensor]:
    """Collect tensors from tables inside tables; ``a.b`` is entry b of table a."""
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any, int]] = [("", data, 0)]
    seen = 0
    while waiting:
        prefix, table, depth = waiting.pop()
        if not isinstance(table, dict) or depth > DEPTH:
            continue
        seen += len(table)
        if seen > MOST_ENTRIES:
            words = f"holds more than {MOST_ENTRIES} entries; this is no network. Refused."
            raise RefusedError(words, "E-BOMB")
        for key, value in table.items():
            if key in PROGRAMS:
                words = f"names a class to be built ({key}); only plain tensors are read. {WAY_OUT}"
                raise RefusedError(words, "E-FOREIGN-CODE")
            if isinstance(value, Tensor):
                found[f"{prefix}{key}"] = _plain(f"{prefix}{key}", value)
            elif isinstance(key, str):
                waiting.append((f"{prefix}{key}.", value, depth + 1))
    if not found:
        raise RefusedError(f"holds no table of tensors. {WAY_OUT}", "E-WEIGHTS")
    return found


def _plain(name: str, tensor: Tensor) -> Tensor:
    kinds = (tensor.layout == torch.strided, tensor.device.type == "cpu", not tensor.is_quantized)
    if not all(kinds) or tensor.is_complex():
        short = re.sub(r"[^\w.]", "?", name)[:80]
        words = f"tensor {short} is sparse, quantised, complex or without data; refused. {WAY_OUT}"
        raise RefusedError(words, "E-WEIGHTS")
    return tensor


def _limit(size: int) -> None:
    """Cap memory and written bytes by the size of the file, and forbid core files, where possible."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = SHARED * size + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    if os.uname().sysname == "Linux":
        memory = _address_space() + COPIES * size + ROOM_BYTES
        with contextlib.suppress(ValueError):  # the system's own limit is lower still
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _address_space() -> int:
    """Return the bytes of address space that this process takes already (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
