"""Statistics on draw counts against the plain ones on the rows that the draws stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medssl.stats import calibration as cal
from medssl.stats import counted, metrics
from medssl.stats.bootstrap import Patients, by_rows, difference, draws, intervals

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def r3():
    """Clustered reference set R3: patient, y, s with four images a patient."""
    g = np.random.default_rng(2)
    u = g.normal(0, 1, 200)
    yp = (g.random(200) < expit(-0.5 + 1.5 * u)).astype(int)
    s = (u[:, None] + g.normal(0, 0.7, (200, 4))).ravel()
    return np.repeat(np.arange(200), 4), np.repeat(yp, 4), s


def cohort(seed, patients=30, tied=False, prevalence=0.4):
    g = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), g.integers(1, 5, patients))
    who = g.permutation(who)
    y = (g.random(who.size) < prevalence).astype(int)
    p = expit(g.normal(0.8 * y - 0.5, 1))
    return who, y, np.round(p, 1) if tied else p


CASES = [(0, False, 0.4), (1, True, 0.4), (2, True, 0.8), (3, False, 0.05), (4, True, 0.95)]


@pytest.mark.parametrize(("seed", "tied", "prevalence"), CASES)
def test_each_equals_its_plain_namesake(seed, tied, prevalence):
    who, y, p = cohort(seed, tied=tied, prevalence=prevalence)
    groups = Patients.of(who)
    flagged = p >= 0.5
    pairs = {
        "auroc": (counted.auroc(y, p, groups), lambda r: metrics.auroc(y[r], p[r])),
        "ap": (
            counted.average_precision(y, p, groups),
            lambda r: metrics.average_precision(y[r], p[r]),
        ),
        "slope": (counted.slope(y, p, groups), lambda r: cal.slope(y[r], p[r])),
        "sensitivity": (
            counted.ratio(flagged & (y == 1), y == 1, groups),
            lambda r: metrics.operating(y[r], p[r], 0.5).sensitivity,
        ),
        "large": (
            counted.intercept_in_the_large(y, p, groups),
            lambda r: cal.intercept_in_the_large(y[r], p[r]),
        ),
        "oe": (counted.ratio(y, p, groups), lambda r: cal.oe_ratio(y[r], p[r])),
        "brier": (
            counted.ratio((p - y) ** 2, np.ones(y.size), groups),
            lambda r: metrics.brier(y[r], p[r]),
        ),
    }
    for name, (fast, plain) in pairs.items():
        one = draws({name: fast}, groups, resamples=60, seed=5)[name]
        two = draws({name: by_rows(plain, groups)}, groups, resamples=60, seed=5)[name]
        np.testing.assert_allclose(
            one,
            two,
            rtol=1e-12 if name in ("auroc", "ap", "sensitivity", "oe", "brier") else 1e-6,
            err_msg=name,
        )


def test_auroc_to_the_last_digit(r3):
    patient, y, s = r3
    groups = Patients.of(patient)
    one = draws({"a": counted.auroc(y, s, groups)}, groups, resamples=50, seed=1)["a"]
    two = by_rows(lambda r: metrics.auroc(y[r], s[r]), groups)
    assert one.tolist() == draws({"a": two}, groups, resamples=50, seed=1)["a"].tolist()


def test_bca_reference(r3):
    patient, y, s = r3
    groups = Patients.of(patient)
    found = intervals({"a": counted.auroc(y, s, groups)}, groups, seed=7, method="bca")["a"]
    assert found.value == pytest.approx(0.768665, abs=5e-7)
    assert (found.lower, found.upper) == pytest.approx((0.7161, 0.8159), abs=5e-5)
    plain = intervals({"a": counted.auroc(y, s, groups)}, groups, seed=7)["a"]
    assert (plain.lower, plain.upper) == pytest.approx((0.7171, 0.8174), abs=5e-5)


def test_bca_against_scipy():
    """With one row a patient and the same resampling theory, scipy's BCa is an oracle."""
    from scipy.stats import bootstrap

    x = np.random.default_rng(0).exponential(size=80)
    groups = Patients.of(np.arange(80))
    mine = intervals(
        {"m": counted.ratio(x, np.ones(80), groups)}, groups, resamples=20000, method="bca"
    )["m"]
    theirs = bootstrap((x,), np.mean, n_resamples=20000, method="BCa", rng=1).confidence_interval
    assert (mine.lower, mine.upper) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_grouped_jackknife_moves_bca_little(monkeypatch):
    from medssl.stats import bootstrap as room

    who, y, p = cohort(9, patients=400)
    groups = Patients.of(who)

    def run():
        return intervals({"a": counted.auroc(y, p, groups)}, groups, method="bca")["a"]

    exact = run()
    monkeypatch.setattr(room, "JACKKNIFE_GROUPS", 60)
    grouped = run()
    assert grouped.lower == pytest.approx(exact.lower, abs=3e-3)
    assert grouped.upper == pytest.approx(exact.upper, abs=3e-3)


def test_bca_says_when_it_cannot():
    y = np.repeat([0, 1], 20)
    groups = Patients.of(np.arange(40))
    found = intervals(
        {"a": counted.auroc(y, y.astype(float), groups)}, groups, resamples=100, method="bca"
    )["a"]
    assert found.value == 1.0
    assert found.note != ""


def test_many_statistics_see_the_same_draws(r3):
    patient, y, s = r3
    groups = Patients.of(patient)
    auroc = counted.auroc(y, s, groups)
    both = draws({"a": auroc, "b": counted.weighted_sum([(2.0, auroc)])}, groups, resamples=20)
    np.testing.assert_allclose(both["b"], 2 * both["a"])
    apart = difference(auroc, auroc, groups, resamples=20)
    assert (apart.interval.value, apart.p) == (0.0, 1.0)


def test_blocks_do_not_change_the_draws(r3, monkeypatch):
    from medssl.stats import bootstrap as room

    patient, y, s = r3
    groups = Patients.of(patient)
    statistics = {"a": counted.auroc(y, s, groups)}
    whole = draws(statistics, groups, resamples=30, seed=3)["a"]
    monkeypatch.setattr(room, "BLOCK", 700)
    assert draws(statistics, groups, resamples=30, seed=3)["a"].tolist() == whole.tolist()


def test_one_class_gives_no_number():
    groups = Patients.of([0, 0, 1, 2])
    y, p = np.zeros(4, dtype=int), np.array([0.1, 0.4, 0.4, 0.9])
    for make in (counted.auroc, counted.average_precision, counted.slope):
        assert np.isnan(make(y, p, groups)(np.ones((2, 3), dtype=np.int64))).all()
    found = intervals({"x": counted.ratio(y, y, groups)}, groups, resamples=10)["x"]
    assert found.value is None
    assert found.note.startswith("Not computable")


def test_separated_resamples_have_no_slope():
    y = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([0.1, 0.2, 0.6, 0.5, 0.8, 0.9])
    groups = Patients.of(np.arange(6))
    found = counted.slope(y, p, groups)(np.array([[1, 1, 1, 1, 1, 1], [2, 2, 0, 0, 1, 1]]))
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def test_a_wrong_length_is_a_sentence():
    with pytest.raises(ValueError, match="One value per row"):
        counted.ratio([1, 2], [1, 2], Patients.of([0, 0, 1]))


@given(st.integers(0, 10_000), st.booleans())
@settings(deadline=None, max_examples=30)
def test_auroc_and_precision_for_any_cohort(seed, tied):
    who, y, p = cohort(seed, patients=6, tied=tied)
    groups = Patients.of(who)
    counts = np.random.default_rng(seed).integers(0, 3, (5, groups.count))
    for fast, plain in (
        (counted.auroc, metrics.auroc),
        (counted.average_precision, metrics.average_precision),
    ):
        expected = by_rows(lambda r, f=plain: f(y[r], p[r]) if r.size else None, groups)(counts)
        np.testing.assert_allclose(fast(y, p, groups)(counts), expected, rtol=1e-12)


def test_macro_auroc_needs_every_class():
    g = np.random.default_rng(3)
    who, codes = np.repeat(np.arange(12), 3), np.repeat(np.arange(12) % 3, 3)
    scores = g.dirichlet([1, 1, 1], 36)
    groups = Patients.of(who)
    counts = np.vstack([g.integers(0, 3, (6, 12)), (np.arange(12) % 3 != 0).astype(int)])

    def plain(rows):
        if len(set(codes[rows])) < 3:
            return None
        return metrics.macro_auroc(codes[rows], scores[rows])

    fast = counted.macro_auroc(codes, scores, groups)(counts)
    np.testing.assert_allclose(fast, by_rows(plain, groups)(counts), rtol=1e-12)
    assert np.isnan(fast[-1])


def test_cells_stand_for_rows(monkeypatch):
    """Beyond the exact size neighbours share a place; slope and intercept hardly move."""
    g = np.random.default_rng(0)
    who = g.integers(0, 3000, 21_000)
    y = (g.random(21_000) < 0.15).astype(int)
    p = expit(g.normal(1.2 * y - 2.0, 1.3))
    groups = Patients.of(who)
    makes = {"slope": counted.slope, "large": counted.intercept_in_the_large}
    celled = draws({n: m(y, p, groups) for n, m in makes.items()}, groups, resamples=12)
    monkeypatch.setattr(counted, "EXACT", 10**9)
    exact = draws({n: m(y, p, groups) for n, m in makes.items()}, groups, resamples=12)
    for name in makes:
        np.testing.assert_allclose(celled[name], exact[name], rtol=1e-5, err_msg=name)
        assert (celled[name] != exact[name]).any()
