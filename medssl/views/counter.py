"""Random words by counter: each is a function of a key and its own number, on every device alike."""

import torch
from torch import Tensor

# Additive step of Weyl's sequence (2**32 / golden ratio) and the two multipliers of a 32-bit
# integer hash found by search (github.com/skeeto/hash-prospector), as signed numbers.
STEP, FIRST, SECOND = -1640531527, 0x21F0AAAD, -0x2CA5D269


def words(key: Tensor, count: int) -> Tensor:
    """Return random words, the better bits high.

    Integers alone: no rounding, so the same on every processor; products wrap at 32 bits.

    Args:
        key: int32 ``[N, 2]``, one of each row.
        count: words of a row.

    Returns:
        int32 ``[N, count]``.
    """
    number = torch.arange(count, dtype=torch.int32, device=key.device) * STEP
    word = number ^ key[:, :1]
    word ^= word >> 16
    word *= FIRST
    word ^= key[:, 1:]
    word ^= word >> 15
    word *= SECOND
    return word
