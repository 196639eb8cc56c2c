"""Adjusted p-values against their definitions and reference values."""

import numpy as np
import pytest

from medssl.stats.multiplicity import adjust

P = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]


def holm_by_hand(p):
    """The smallest level at which the step-down test rejects each."""
    order = sorted(range(len(p)), key=p.__getitem__)
    out, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (len(p) - rank) * p[i])
        out[i] = min(1.0, largest)
    return out


def bh_by_hand(p):
    """The smallest n p / rank over all p at least as large."""
    return [
        min(1.0, *(len(p) * q / sum(r <= q for r in p) for q in p if q >= own), 1.0) for own in p
    ]


def test_reference_values():
    assert adjust(P, "bh") == pytest.approx(
        [0.008, 0.032, 0.0672, 0.0672, 0.0672, 0.08, 0.0846, 0.205], abs=5e-5
    )
    assert adjust(P, "holm") == pytest.approx([0.008, 0.056, *[0.234] * 5, 0.234], abs=5e-4)


def test_equals_definitions_in_any_order_with_ties():
    p = np.round(np.random.default_rng(81).random(12) ** 2, 2).tolist()
    assert adjust(p, "holm") == pytest.approx(holm_by_hand(p))
    assert adjust(p, "bh") == pytest.approx(bh_by_hand(p))


@pytest.mark.parametrize("method", ["holm", "bh"])
def test_what_was_not_computable_is_no_member(method):
    found = adjust([None, 0.01, None, 0.04], method)
    assert (found[0], found[2]) == (None, None)
    assert [found[1], found[3]] == adjust([0.01, 0.04], method)
    assert adjust([None], method) == [None]
    assert adjust([], method) == []
    assert adjust([0.3], method) == [0.3]


def test_refusals_are_sentences():
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjust([0.5, 1.2], "holm")
    with pytest.raises(ValueError, match="Pass None"):
        adjust([0.5, float("nan")], "bh")
    with pytest.raises(ValueError, match="holm or bh"):
        adjust([0.5], "bonferroni")
