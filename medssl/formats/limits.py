"""How much one file may take; each cap can be raised for large objects by an environment variable."""

import os

MIB = 1 << 20


def memory_bytes() -> int:
    """Return the address space of one child process (``MEDSSL_WORKER_MIB``, default 2048)."""
    return _mib("MEDSSL_WORKER_MIB", 2048)


def declared_bytes() -> int:
    """Return how many bytes of pixels one DICOM file may declare (``MEDSSL_FILE_MIB``, default 256)."""
    return _mib("MEDSSL_FILE_MIB", 256)


def _mib(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return (int(text) if text.isdigit() and int(text) > 0 else default) * MIB
