"""Where a classifier looked: a planted place is found, and what says nothing is said to say nothing."""

import numpy as np
import pytest
import torch

from medssl import infer, looked
from medssl.errors import NothingUsableError
from medssl.store import open_store


class Patch(torch.nn.Module):
    """An encoder that sees the brightness of one corner, and of nothing else."""

    width = 1

    def forward(self, images):
        return images[:, :, :12, :16].mean((1, 2, 3), keepdim=True).flatten(1)


@pytest.fixture(scope="module")
def model(classifier_run):
    return infer.load(classifier_run)


@pytest.fixture(scope="module")
def picture(model, cohorts):
    store = open_store(cohorts / "hospital_a", model.card.decode)
    return store.planes(np.array([0]))[0]


def planted(model, weight=4.0):
    from dataclasses import replace

    from medssl.models.heads import LinearHead

    head = LinearHead(1, 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[0.0], [weight]]))
        head.linear.bias.zero_()
    return replace(model, encoder=Patch(), head=head)


def test_the_planted_corner_is_found(model):
    g = np.random.default_rng(0)
    picture = g.integers(0, 20000, (32, 32), dtype=np.uint16)
    picture[:12, :16] = 60000
    one = planted(model)
    hidden = looked._hidden(picture)
    whole, odds = looked._odds(one, one.encoder, hidden, 1)
    values = np.abs(odds - whole).reshape(looked.GRID, looked.GRID)
    side = 32 / looked.GRID
    inside = np.zeros_like(values, dtype=bool)
    for at in range(looked.GRID**2):
        i, j = divmod(at, looked.GRID)
        inside[i, j] = (i - 0.5) * side < 12 and (j - 0.5) * side < 16
    assert values[inside].min() > 0
    assert values[~inside].max() == pytest.approx(0, abs=1e-6)


def test_against_plain_loops(model, picture):
    """One square after another, hidden by hand, through the model's own door."""
    found = looked.look(model, picture, model.classes[1])
    unit = torch.from_numpy(picture.astype(np.float32) / 65535)

    def log_odds(plane):
        images = ((plane - model.card.mean) / model.card.std)[None, None]
        with torch.inference_mode():
            logits = model.head.double()(model.encoder(images).double())[0] / model.temperature
        return float(logits[1] - logits[0])

    whole, step, side = log_odds(unit), 32 / looked.GRID, 32
    moved = []
    for i in range(looked.GRID):
        for j in range(looked.GRID):
            copy = unit.clone()
            top, left = (i - 0.5) * step, (j - 0.5) * step
            rows = slice(max(0, round(top)), min(side, round(top + 2 * step)))
            columns = slice(max(0, round(left)), min(side, round(left + 2 * step)))
            copy[rows, columns] = unit.mean()
            moved.append(abs(log_odds(copy) - whole))
    expected = np.array(moved).reshape(looked.GRID, looked.GRID)
    np.testing.assert_allclose(found.values, expected / expected.max(), atol=1e-4)
    assert -1 <= found.change <= 1


def test_a_model_of_random_weights_fails_its_own_check(model, picture):
    """Adebayo's check: a map that random weights give as well is recognised."""
    from dataclasses import replace

    from medssl.models.encoder import build

    untrained = build(
        model.card.encoder, model.card.decode.size, whole=False, seed=looked.RANDOM_SEED
    )
    found = looked.look(replace(model, encoder=untrained.eval()), picture, model.classes[1])
    assert found.random == pytest.approx(1.0)
    assert not found.own


def test_nothing_matters(model, picture):
    one = planted(model, weight=0.0)
    hidden = looked._hidden(picture)
    whole, odds = looked._odds(one, one.encoder, hidden, 1)
    assert np.ptp(np.append(odds, whole)) == 0
    assert looked._rank_correlation(np.zeros(9), np.arange(9.0)) is None


def test_whole_volumes_have_no_map(model):
    with pytest.raises(NothingUsableError, match="whole volumes"):
        looked.look(model, np.zeros((8, 8, 8), np.uint16), model.classes[1])
