"""The patient bootstrap against a bootstrap written with loops, and reference values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medssl.stats.bootstrap import Patients, paired_difference, patient_bootstrap
from medssl.stats.metrics import auroc

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def r3():
    """Clustered reference set R3: patient, y, s, s2 with four images a patient."""
    g = np.random.default_rng(2)
    u = g.normal(0, 1, 200)
    yp = (g.random(200) < expit(-0.5 + 1.5 * u)).astype(int)
    s = (u[:, None] + g.normal(0, 0.7, (200, 4))).ravel()
    s2 = (0.6 * u[:, None] + np.random.default_rng(9).normal(0, 0.9, (200, 4))).ravel()
    np.testing.assert_allclose(u[:3], [0.18905338, -0.52274844, -0.41306354], atol=1e-8)
    assert s.sum() == pytest.approx(-38.225709, abs=1e-6)
    assert yp.sum() == 87
    return np.repeat(np.arange(200), 4), np.repeat(yp, 4), s, s2


class Recorder:
    """A statistic that remembers what each resample gave (the first call is all rows)."""

    def __init__(self, y, s):
        self.y, self.s, self.seen = y, s, []

    def __call__(self, rows):
        self.seen.append(auroc(self.y[rows], self.s[rows]))
        return self.seen[-1]

    @property
    def error(self):
        return float(np.std(self.seen[1:], ddof=1))


class TestReference:
    def test_interval_and_standard_error(self, r3):
        patient, y, s, _ = r3
        record = Recorder(y, s)
        found = patient_bootstrap(record, patient, seed=7)
        assert found.value == pytest.approx(0.768665, abs=5e-7)
        assert (found.lower, found.upper) == pytest.approx((0.7171, 0.8174), abs=5e-5)
        assert record.error == pytest.approx(0.025922, abs=5e-7)
        assert (found.n, found.patients, found.resamples, found.skipped) == (800, 200, 2000, 0)
        assert (found.level, found.note) == (0.95, "")

    def test_equals_a_bootstrap_written_with_loops(self, r3):
        patient, y, s, _ = r3
        rng, values = np.random.default_rng(3), []
        for _ in range(100):
            rows = [r for i in rng.integers(0, 200, 200) for r in np.flatnonzero(patient == i)]
            values.append(auroc(y[rows], s[rows]))
        found = patient_bootstrap(
            lambda r: auroc(y[r], s[r]), patient, resamples=100, seed=3, level=0.8
        )
        assert found.lower == pytest.approx(np.percentile(values, 10), abs=1e-12)
        assert found.upper == pytest.approx(np.percentile(values, 90), abs=1e-12)

    def test_rows_instead_of_patients_would_be_too_narrow(self, r3):
        patient, y, s, _ = r3
        by_patient, by_row = Recorder(y, s), Recorder(y, s)
        patient_bootstrap(by_patient, patient, seed=7)
        narrow = patient_bootstrap(by_row, np.arange(800), seed=7)
        assert by_row.error == pytest.approx(0.016339, abs=3e-3)
        assert (narrow.lower, narrow.upper) == pytest.approx((0.7361, 0.8000), abs=3e-3)
        assert by_patient.error >= 1.5 * by_row.error

    def test_paired_difference(self, r3):
        patient, y, s, s2 = r3
        found = paired_difference(
            lambda r: auroc(y[r], s[r]), lambda r: auroc(y[r], s2[r]), patient, seed=7
        )
        assert found.interval.value == pytest.approx(0.089074, abs=5e-7)
        limits = (found.interval.lower, found.interval.upper)
        assert limits == pytest.approx((0.0470, 0.1326), abs=5e-5)
        assert found.p == pytest.approx(2 / 2001, abs=1e-12)


class TestInvariance:
    def test_names_do_not_matter_only_the_order_of_first_appearance(self, r3):
        patient, y, s, _ = r3
        names = np.random.default_rng(1).permutation([f"p_{i:03d}" for i in range(200)])[patient]

        def run(who):
            return patient_bootstrap(lambda r: auroc(y[r], s[r]), who, resamples=200, seed=7)

        assert run(names) == run(patient) == run(names.astype(object))

    def test_the_order_of_rows_within_a_patient_does_not_matter(self, r3):
        patient, y, s, _ = r3
        rng = np.random.default_rng(4)
        # Shuffled within patients, then dealt out: first images of all, second images of all, ...
        inside = np.concatenate([4 * i + rng.permutation(4) for i in range(200)])
        dealt = inside.reshape(200, 4).T.ravel()

        def run(rows):
            return patient_bootstrap(
                lambda r: auroc(y[rows][r], s[rows][r]), patient[rows], resamples=200, seed=7
            )

        assert run(np.arange(800)) == run(inside) == run(dealt)

    def test_the_seed_is_part_of_the_result(self, r3):
        patient, y, s, _ = r3

        def run(seed):
            return patient_bootstrap(lambda r: auroc(y[r], s[r]), patient, resamples=100, seed=seed)

        assert run(0) == run(0)
        assert run(0) != run(1)

    @given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.data())
    @settings(deadline=None)
    def test_rows_of_drawn_patients_equal_the_loop(self, patient, data):
        groups = Patients.of(patient)
        firsts = list(dict.fromkeys(patient))
        drawn = data.draw(st.lists(st.integers(0, len(firsts) - 1), max_size=12))
        expected = [r for i in drawn for r, who in enumerate(patient) if who == firsts[i]]
        assert groups.rows(np.array(drawn, dtype=np.int64)).tolist() == expected
        assert groups.code.tolist() == [firsts.index(who) for who in patient]
        assert groups.count == len(firsts)

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), min_size=2, max_size=30))
    @settings(deadline=None, max_examples=40)
    def test_limits_enclose_each_other_and_stay_within_the_values(self, pairs):
        who, value = (np.array(c) for c in zip(*pairs, strict=True))

        def run(level):
            return patient_bootstrap(
                lambda r: float(value[r].mean()), who, resamples=50, seed=2, level=level
            )

        narrow, wide = run(0.5), run(0.99)
        if len(set(who)) < 2:
            assert narrow.lower is wide.upper is None
            return
        assert value.min() <= wide.lower <= narrow.lower
        assert narrow.upper <= wide.upper <= value.max()


class TestNotComputable:
    def test_no_value_no_interval(self):
        found = patient_bootstrap(lambda _: None, [1, 1, 2])
        assert (found.value, found.lower, found.upper) == (None, None, None)
        assert (found.n, found.patients, found.skipped) == (3, 2, 0)
        assert found.note.startswith("Not computable")

    @pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
    @pytest.mark.parametrize(("skipped", "known"), [(5, True), (6, False)])
    def test_five_per_cent_may_be_skipped_and_are_counted(self, nothing, skipped, known):
        calls = iter([0.5] + [nothing] * skipped + [0.1, 0.9] * 100)
        found = patient_bootstrap(lambda _: next(calls), np.arange(9), resamples=100)
        assert found.value == 0.5
        assert found.skipped == skipped
        assert (found.lower is not None) == (found.upper is not None) == known
        assert (found.note == "") == known
        if not known:
            assert "6 of 100 resamples" in found.note

    def test_skipped_resamples_do_not_enter_the_quantiles(self):
        calls = iter([0.5] + [None] * 5 + list(np.linspace(0, 1, 95)))
        found = patient_bootstrap(lambda _: next(calls), np.arange(9), resamples=100, level=0.5)
        assert (found.lower, found.upper) == pytest.approx((0.25, 0.75))

    def test_too_few_positive_patients(self):
        y = np.array([1] + [0] * 30)
        found = patient_bootstrap(lambda r: auroc(y[r], np.arange(31.0)[r]), np.arange(31), seed=0)
        assert found.value == 0.0
        assert found.lower is None
        assert found.skipped > 100

    def test_one_patient_has_no_interval(self):
        found = patient_bootstrap(lambda r: float(r.mean()), ["a"] * 9, resamples=10)
        assert found.value == 4.0
        assert found.lower is None
        assert "one patient" in found.note

    def test_an_interval_of_no_width_says_so(self):
        y = np.repeat([0, 1], 20)
        found = patient_bootstrap(lambda r: auroc(y[r], y[r]), np.arange(40), resamples=100)
        assert (found.lower, found.upper) == (1.0, 1.0)
        assert "40 patients" in found.note

    def test_refusals_are_sentences(self):
        with pytest.raises(ValueError, match="0 patients"):
            patient_bootstrap(lambda _: 1.0, [])
        with pytest.raises(ValueError, match="0 resamples"):
            patient_bootstrap(lambda _: 1.0, [1, 2], resamples=0)
        with pytest.raises(ValueError, match="level 95"):
            patient_bootstrap(lambda _: 1.0, [1, 2], level=95)
        with pytest.raises(ValueError, match="1-D"):
            patient_bootstrap(lambda _: 1.0, [[1, 2]])


class TestPairedDifference:
    def test_one_model_twice_differs_by_nothing(self, r3):
        patient, y, s, _ = r3

        def stat(rows):
            return auroc(y[rows], s[rows])

        found = paired_difference(stat, stat, patient, resamples=50)
        assert (found.interval.value, found.p) == (0.0, 1.0)

    def test_swapping_the_models_mirrors_the_interval(self, r3):
        patient, y, s, s2 = r3

        def a(rows):
            return auroc(y[rows], s[rows])

        def b(rows):
            return auroc(y[rows], s2[rows])

        one = paired_difference(a, b, patient, resamples=200, seed=3)
        two = paired_difference(b, a, patient, resamples=200, seed=3)
        assert one.interval.lower == pytest.approx(-two.interval.upper, abs=1e-12)
        assert one.p == two.p

    def test_p_counts_the_resamples_that_gave_a_number(self):
        values = iter([0.3] + [None] * 2 + [0.3] * 93 + [-0.1] * 4 + [0.0])
        found = paired_difference(
            lambda _: next(values), lambda _: 0.0, np.arange(9), resamples=100
        )
        assert found.interval.skipped == 2
        assert found.p == pytest.approx(2 * (1 + 5) / (1 + 98))

    def test_no_interval_no_p(self):
        found = paired_difference(lambda _: None, lambda _: 1.0, [1, 2, 3], resamples=10)
        assert found.interval.value is None
        assert found.p is None
