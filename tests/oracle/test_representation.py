"""Figures of embeddings and probes against loops, known spectra, scikit-learn and lightly."""

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from medssl.stats import probes, representation
from medssl.stats.bootstrap import Patients
from medssl.stats.delong import clustered_auroc
from medssl.stats.readable import same_patient

pytestmark = pytest.mark.filterwarnings("error")


def with_spectrum(values, rows, columns, seed=0):
    """Rows [n, d] whose centred matrix has exactly these singular values."""
    g = np.random.default_rng(seed)
    left = g.normal(size=(rows, len(values)))
    left, _ = np.linalg.qr(left - left.mean(axis=0))
    right, _ = np.linalg.qr(g.normal(size=(columns, len(values))))
    return left @ np.diag(values) @ right.T


@pytest.mark.parametrize("shape", [(40, 9), (12, 30)])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 2.0, 2.0, 2.0], 4.0),
        ([5.0], 1.0),
        ([3.0, 1.0], math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))),
        ([6.0, 3.0, 1.0], math.exp(-sum(p * math.log(p) for p in (0.6, 0.3, 0.1)))),
    ],
)
def test_effective_rank_of_known_spectra(values, expected, shape):
    rows = with_spectrum(values, *shape)
    assert representation.effective_rank(rows) == pytest.approx(expected, abs=1e-5)
    assert representation.effective_rank(7 * rows + 3) == pytest.approx(expected, abs=1e-5)


def test_rows_alike_but_for_rounding_have_one_direction():
    g = np.random.default_rng(1)
    row = g.normal(size=(1, 64)).astype(np.float32) + 5
    rounded = np.repeat(row, 200, 0) + g.choice([0, 5e-7], (200, 64)).astype(np.float32)
    assert np.ptp(rounded, axis=0).max() > 0
    assert representation.effective_rank(rounded) == 1.0
    assert representation.effective_rank(np.repeat(row, 5, 0)) == 1.0
    assert representation.effective_rank(np.zeros((4, 3))) == 1.0


def loops(rows, who):
    """Uniformity and alignment as written in the paper."""
    unit = [r / np.linalg.norm(r) for r in rows]
    far, near = [], {}
    for i in range(len(rows)):
        for j in range(i):
            square = float(((unit[i] - unit[j]) ** 2).sum())
            far.append(math.exp(-2 * square))
            if who[i] == who[j]:
                near.setdefault(who[i], []).append(square)
    return math.log(np.mean(far)), np.mean([np.mean(v) for v in near.values()])


def test_uniformity_and_alignment_equal_loops(monkeypatch):
    g = np.random.default_rng(2)
    who = np.array(["a", "b", "a", "c", "d", "b", "a", "e", "e"])
    rows = g.normal(size=(9, 5)) * g.uniform(0.1, 9, (9, 1)) + 0.5
    even, close = loops(rows, who)
    monkeypatch.setattr(representation, "BLOCK", 20)
    assert representation.uniformity(rows) == pytest.approx(even, abs=1e-12)
    assert representation.alignment(rows, who) == pytest.approx(close, abs=1e-12)
    assert representation.alignment(rows, np.arange(9)) is None
    assert representation.alignment(np.ones((4, 3)), [0, 0, 1, 1]) == pytest.approx(0, abs=1e-12)
    assert representation.uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-12)


def test_uniform_rows_reach_the_expected_value():
    """On a sphere of many dimensions two rows are at a right angle: exp(-4)."""
    rows = np.random.default_rng(3).normal(size=(400, 256))
    assert representation.uniformity(rows) == pytest.approx(-4 + 8 / 256, abs=0.01)
    assert representation.spread(rows) == pytest.approx(1, abs=0.01)


def test_spread_equals_lightly():
    import torch
    from lightly.utils.debug import std_of_l2_normalized

    rows = np.random.default_rng(4).normal(size=(50, 16)) + 0.7
    known = float(std_of_l2_normalized(torch.from_numpy(rows)))
    assert representation.spread(rows) == pytest.approx(known * 4, abs=1e-12)
    assert representation.spread(np.ones((5, 16))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("figure", ["effective_rank", "uniformity", "spread"])
def test_one_row_or_no_number_is_refused(figure):
    with pytest.raises(ValueError, match="Two rows"):
        getattr(representation, figure)(np.ones((1, 3)))
    with pytest.raises(ValueError, match="NaN"):
        getattr(representation, figure)(np.full((3, 3), np.nan))


def bank(seed=0, patients=24, width=12, classes=3):
    """Labelled rows with one to three per patient."""
    g = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), g.integers(1, 4, patients))
    codes = (who % classes).astype(np.int64)
    centres = g.normal(size=(classes, width))
    mine = g.normal(size=(patients, width))
    rows = centres[codes] + mine[who] + 0.5 * g.normal(size=(len(who), width))
    return rows * g.uniform(0.1, 30, width) + 4, codes, who


@pytest.mark.parametrize("width", [12, 90])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", [1e-4, 0.1, 30.0])
def test_ridge_equals_scikit_learn(penalty, classes, width):
    rows, codes, who = bank(width=width, classes=classes)
    new = bank(1, width=width, classes=classes)[0]
    found = probes.fit_ridge(rows, codes, who, classes, (penalty,))
    scale = StandardScaler().fit(rows)
    alpha = penalty * len(rows)
    target = np.where(codes[:, None] == np.arange(classes), 1.0, -1.0)
    model = Ridge(alpha=alpha, solver="svd").fit(scale.transform(rows), target)
    expected = model.predict(scale.transform(new))
    np.testing.assert_allclose(found.scores(new), expected, atol=1e-7)
    named = RidgeClassifier(alpha=alpha, solver="svd").fit(scale.transform(rows), codes)
    decision = named.decision_function(scale.transform(new))
    shown = found.scores(new)[:, 1] if classes == 2 else found.scores(new)
    np.testing.assert_allclose(shown, decision, atol=1e-7)


@pytest.mark.parametrize("width", [12, 90])
def test_the_penalty_is_the_one_that_predicts_left_out_patients(width):
    """Every patient really left out, one fit each: the same error, and so the same choice."""
    rows, codes, who = bank(5, width=width)
    scaled = StandardScaler().fit_transform(rows)
    target = np.where(codes[:, None] == np.arange(3), 1.0, -1.0)
    penalties = (1e-3, 0.03, 1.0, 10.0)
    errors = []
    for penalty in penalties:
        error = 0.0
        for patient in np.unique(who):
            out = who == patient
            model = Ridge(alpha=penalty * len(rows), solver="svd").fit(scaled[~out], target[~out])
            error += ((model.predict(scaled[out]) - target[out]) ** 2).sum()
        errors.append(error)
    parts = probes._decompose(rows)
    known = parts.left.T @ (target - target.mean(axis=0))
    groups = Patients.of(who)
    found = [probes._left_out_error(parts, target, known, groups, p * len(rows)) for p in penalties]
    np.testing.assert_allclose(found, errors, rtol=1e-7)
    chosen = probes.fit_ridge(rows, codes, who, 3, penalties).penalty
    assert chosen == penalties[int(np.argmin(errors))]
    assert chosen not in (penalties[0], penalties[-1])


def test_ridge_of_constant_columns_and_of_nothing():
    rows, codes, who = bank()
    rows[:, 3] = 7.0
    scores = probes.fit_ridge(rows, codes, who, 3).scores(rows)
    assert np.isfinite(scores).all()
    blank = probes.fit_ridge(np.full((6, 4), 2.0), [0, 0, 0, 1, 1, 1], np.arange(6), 2)
    np.testing.assert_allclose(blank.scores(np.full((2, 4), 2.0)), 0, atol=1e-12)
    with pytest.raises(ValueError, match="one patient's"):
        probes.fit_ridge(rows[:4], codes[:4], np.zeros(4), 3)
    with pytest.raises(ValueError, match="class code"):
        probes.fit_ridge(rows, codes, who, 2)


def test_nearest_neighbours_equal_scikit_learn():
    rows, codes, _ = bank(7, patients=60)
    new = bank(8)[0]
    model = KNeighborsClassifier(
        20, metric="cosine", weights=lambda far: np.exp(-far / 0.1), algorithm="brute"
    )
    expected = model.fit(rows, codes).predict_proba(new)
    np.testing.assert_allclose(probes.knn_scores(rows, codes, 3, new), expected, atol=1e-9)
    few = probes.knn_scores(rows[:9], codes[:9], 3, new, 20)
    assert set(np.unique(few)) <= {0.0, 1.0}  # one neighbour: a fifth of nine


def test_macro_auroc_and_its_error():
    rows, codes, who = bank(9, patients=200)
    scores = probes.fit_ridge(rows[:200], codes[:200], who[:200], 3).scores(rows)
    macro = np.mean([roc_auc_score(codes == k, scores[:, k]) for k in range(3)])
    assert probes.macro(codes, scores) == pytest.approx(macro, abs=1e-12)
    two = codes < 2
    pair, who = scores[two][:, :2], who[two]
    assert probes.macro(codes[two], pair) == pytest.approx(roc_auc_score(codes[two], pair[:, 1]))
    groups = Patients.of(who)
    found = probes.standard_error(probes.macro_statistic(codes[two], pair, groups), groups)
    theory = clustered_auroc(codes[two], pair[:, 1], who).se
    assert found == pytest.approx(theory, rel=0.2)
    alone = Patients.of(np.zeros(4))
    none = probes.macro_statistic(np.zeros(4, int), np.zeros((4, 2)), alone)
    assert probes.standard_error(none, alone) is None


def test_chance_of_retrieval_by_simulation():
    who = np.repeat(np.arange(12), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 8])
    g = np.random.default_rng(10)
    shares = []
    for _ in range(300):
        found = same_patient(g.normal(size=(len(who), 6)), who, resamples=1)
        shares.append(found.share.value)
    assert np.mean(shares) == pytest.approx(found.chance, abs=0.012)
