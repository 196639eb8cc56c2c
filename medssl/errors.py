"""The house's errors: a sentence with a way out, and the exit code it ends with."""

from collections.abc import Iterable


class MedsslError(Exception):
    """A failure told in sentences: what, where, the value seen, what to do.

    Args:
        problems: one sentence, or all sentences of one input at once.
        code: stable code such as ``E-LEAK``, for scripts and searches.
    """

    exit_code = 1

    def __init__(self, problems: str | Iterable[str], code: str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.code = code
        super().__init__(f"{chr(10).join(self.problems)} [{code}]")


class UsageError(MedsslError):
    """Wrong usage or settings."""

    exit_code = 2


class NothingUsableError(MedsslError):
    """The input holds nothing that this verb can use."""

    exit_code = 3


class RefusedError(MedsslError):
    """Refused for safety: a leak, a lock, a mismatch of digests."""

    exit_code = 4


class NumericalStopError(MedsslError):
    """A number that is not finite; stopped before it did harm."""

    exit_code = 5


class DiskError(MedsslError):
    """No room, or a file that could not be written."""

    exit_code = 6


class StoppedError(MedsslError):
    """Asked to stop by a signal; what was done is saved.

    Args:
        words: the sentence.
        signal: number of the signal; SIGINT (2) ends with 130, others with 143.
    """

    def __init__(self, words: str, signal: int) -> None:
        super().__init__(words, "E-STOPPED")
        self.exit_code = 130 if signal == 2 else 143
