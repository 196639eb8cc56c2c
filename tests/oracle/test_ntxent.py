"""NT-Xent against loops, lightly, and closed forms."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss

from medssl.methods.ntxent import ntxent


def by_loops(a, b, bag, temperature, mask):
    """The definition, one anchor at a time."""
    z = torch.cat([a, b]).double()
    z = z / z.norm(dim=1, keepdim=True)
    n, code = len(a), torch.cat([bag, bag])
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        below = 0.0
        for k in range(2 * n):
            same = code[k] == code[i] and k != partner
            if k == i or (mask and same):
                continue
            below += math.exp(float(z[i] @ z[k]) / temperature)
        total -= math.log(math.exp(float(z[i] @ z[partner]) / temperature) / below)
    return total / (2 * n)


def sample(n=6, d=8):
    torch.manual_seed(0)
    return torch.randn(n, d, dtype=torch.float64), torch.randn(n, d, dtype=torch.float64)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("codes", [(0, 1, 2, 3, 4, 5), (0, 0, 1, 2, 3, 4), (0, 0, 0, 1, 1, 2)])
def test_equals_loops(codes, temperature, mask):
    a, b = sample()
    bag = torch.tensor(codes)
    ours = ntxent(a, b, bag, temperature, mask=mask)
    assert float(ours) == pytest.approx(by_loops(a, b, bag, temperature, mask), abs=1e-4)


def test_reference_values():
    a, b = sample()
    plain = ntxent(a, b, torch.arange(6), 0.1, mask=True)
    masked = ntxent(a, b, torch.tensor([0, 0, 1, 2, 3, 4]), 0.1, mask=True)
    assert float(plain) == pytest.approx(7.9418, abs=1e-3)
    assert float(masked) == pytest.approx(7.4577, abs=1e-3)
    assert float(plain) == pytest.approx(float(NTXentLoss(0.1)(a.float(), b.float())), abs=1e-4)


def test_collapse_constants():
    same = torch.ones(6, 4)
    assert float(ntxent(same, same, torch.arange(6), 0.5, mask=True)) == pytest.approx(
        2.39790, abs=1e-4
    )
    codes = torch.tensor([0, 0, 1, 2, 3, 4])
    wanted = (8 * math.log(11) + 4 * math.log(9)) / 12
    assert float(ntxent(same, same, codes, 0.5, mask=True)) == pytest.approx(wanted, abs=1e-4)
    perfect = torch.eye(8)
    assert float(ntxent(perfect, perfect, torch.arange(8), 0.1, mask=True)) == pytest.approx(
        0.000636, abs=1e-5
    )


def test_finite_where_exponentials_overflow():
    a, b = sample()
    assert math.isfinite(float(ntxent(a.float(), b.float(), torch.arange(6), 0.005, mask=True)))


def test_masked_pairs_get_no_gradient_from_each_other():
    """Moving one image of a patient must not push another of theirs away."""
    a, b = (t.float().requires_grad_() for t in sample(2))
    loss = ntxent(a, b, torch.tensor([7, 7]), 0.1, mask=True)
    assert float(loss.detach()) == pytest.approx(
        0.0, abs=1e-6
    )  # the only candidate left is the positive
