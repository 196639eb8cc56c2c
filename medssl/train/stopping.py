"""Being asked to stop: finish the step, save, leave; the scheduler gets its machine back."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medssl.errors import StoppedError

ASKS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Asked:
    """The signal that asked this process to stop; 0 until then."""

    def __init__(self) -> None:
        self.signal = 0

    def take(self, number: int, _: Any) -> None:
        """Remember a signal; Ctrl-C twice leaves at once."""
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def listen(self) -> None:
        """Take the signals from whoever has them now; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in ASKS:
                signal.signal(number, self.take)


@contextmanager
def listening(asked: Asked) -> Iterator[None]:
    """Take the signals that ask to stop, and give them back at the end."""
    before = {number: signal.getsignal(number) for number in ASKS}
    asked.listen()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def leave(number: int, step: int, place: str) -> StoppedError:
    """Return the error that ends a run which was asked to stop and has saved."""
    name = signal.Signals(number).name
    words = (
        f"Stopped by {name} after step {step}; saved as {place}. Go on with the same command and "
        "--resume."
    )
    return StoppedError(words, number)
