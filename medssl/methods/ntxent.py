"""NT-Xent with a patient mask (Chen et al. 2020, eq. 1; the mask is ours)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def ntxent(first: Tensor, second: Tensor, bag: Tensor, temperature: float, *, mask: bool) -> Tensor:
    """Return the normalised temperature-scaled cross entropy.

    Args:
        first, second: projections ``[N, d]``; row i of each is a positive pair.
        bag: patient codes, int64 ``[N]``.
        temperature: divides the cosine similarities.
        mask: leave every non-positive pair of one patient out of the denominator.

    Returns:
        Scalar float32 mean over the 2N anchors. Identical projections give log(2N - 1) without
        equal codes.
    """
    hidden, partner = _hidden(bag, mask=mask)
    # Autocast would take the product in bf16, whose steps of 0.004 the temperature makes larger.
    with torch.autocast(first.device.type, enabled=False):
        z = F.normalize(torch.cat([first, second]).float(), dim=1)
        similarity = z @ z.T / temperature
        return F.cross_entropy(similarity.masked_fill(hidden, float("-inf")), partner)


def collapsed_loss(bag: Tensor, *, mask: bool) -> Tensor:
    """Return the loss of equal projections: the mean log of every anchor's candidates, float32.

    Without the mask, or with different codes, log(2N - 1).
    """
    hidden, _ = _hidden(bag, mask=mask)
    return (~hidden).sum(1).float().log().mean()


def _hidden(bag: Tensor, *, mask: bool) -> tuple[Tensor, Tensor]:
    """Return which pairs are no candidates, bool ``[2N, 2N]``, and every anchor's partner."""
    n = len(bag)
    places = torch.arange(2 * n, device=bag.device)
    partner = (places + n) % (2 * n)
    hidden = torch.eye(2 * n, dtype=torch.bool, device=bag.device)
    if mask:
        code = torch.cat([bag, bag])
        hidden = hidden | (code[:, None] == code[None, :])
    hidden[places, partner] = False
    return hidden, partner
