"""How a command ends: a sentence and one of the house's exit codes, never a raw traceback."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from medssl.errors import MedsslError


def run(command: Callable[..., Any], arguments: list[str] | None) -> int:
    """Run a command line; return the exit code that the house promises."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
        signal.signal(signal.SIGUSR1, _terminate)  # what a batch system sends ahead of its limit
    try:
        code = command(arguments, standalone_mode=False)
    except MedsslError as error:
        typer.echo(str(error), err=True)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return _unexpected(error)
        typer.echo(
            "The disk is full; what stood before is intact. Free some space. [E-DISK]", err=True
        )
        return 6
    except Exception as error:  # noqa: BLE001  the last door: a sentence, never a raw traceback
        return _unexpected(error)
    return _interrupted() if code == INTERRUPTED else int(code or 0)


def _terminate(number: int, _: Any) -> None:
    """SIGTERM: the scheduler wants the machine back; unwind like an interruption, exit 143."""
    _received.append(number)
    raise KeyboardInterrupt


_received: list[int] = []
INTERRUPTED, TERMINATED = 130, 143


def _interrupted() -> int:
    ended = "Ended by SIGTERM" if _received else "Interrupted"
    words = (
        "pretrain and finetune go on with --resume, scan and decode when called again; other verbs "
        "start anew with another --out"
    )
    typer.echo(f"{ended}; what was written is intact: {words}.", err=True)
    return TERMINATED if _received else INTERRUPTED


def _unexpected(error: Exception) -> int:
    """Tell usage errors of the parser as they are, and anything else without its values."""
    if type(error).__module__.startswith(("click", "typer")):
        error.show()  # type: ignore[attr-defined]
        return int(getattr(error, "exit_code", 2))
    if os.environ.get("MEDSSL_TRACEBACK"):
        raise error
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    typer.echo(
        f"Stopped by an unexpected {type(error).__name__} at {where}; what was written is intact. Its "
        "message may hold identifiers and is not shown: set MEDSSL_TRACEBACK=1 to see it. [E-UNEXPECTED]",
        err=True,
    )
    return 1
