"""The parts of a report on two made hospitals: planted truths found, nothing said that means nothing."""

import json
import re
from dataclasses import replace

import hospitals
import numpy as np
import pyarrow as pa
import pytest

from medssl.config import EvaluateConfig
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.evaluate import attributes, groups, remedies, shifted, shortcuts
from medssl.evaluate import performance as perf
from medssl.evaluate.answers import MISSING, answers_of
from medssl.evaluate.inputs import Stage
from medssl.evaluate.monitor import number_of
from medssl.evaluate.monitor import of as drift_of
from medssl.evaluate.plain import attempt, plain
from medssl.evaluate.tables import table_one
from medssl.stats.metrics import auroc, operating

QUICK = EvaluateConfig(resamples=200, permutations=99, cv_repeats=1, pdf=False)


class TestAnswers:
    def test_by_patient_is_mean_and_any(self):
        here = hospitals.target(patients=5, images=3)
        labels = ["0", "1", "0", *["0"] * 3, *["1"] * 3, *["0"] * 3, None, "1", "1"]
        answers = hospitals.relabel(here, labels).answers(hospitals.question())
        assert len(answers) == 14
        merged = answers.by_patient()
        assert merged.outcome[:, 1].tolist() == [1, 0, 1, 0, 1]
        for k, who in enumerate(merged.patient):
            mine = answers.patient == who
            np.testing.assert_allclose(merged.scores[k], answers.scores[mine].mean(0))
        assert not merged.exclusive
        assert merged.shown == [1]

    def test_multi_label_with_missing_answers(self):
        """Each class is a question of its own; a missing answer leaves that class only."""
        table = hospitals.target(patients=20, images=2).predictions
        g = np.random.default_rng(0)
        for name in ("0", "1"):
            values = [None if g.random() < 0.3 else bool(g.random() < 0.5) for _ in range(40)]
            table = table.append_column(f"label_{name}", pa.array(values, pa.bool_()))
        answers = answers_of(table, ("0", "1"), {"0": 0.5, "1": 0.5})
        assert not answers.exclusive
        assert answers.shown == [0, 1]
        rows = perf.of_group(answers, 100, 0)
        for k, name in enumerate(("0", "1")):
            there = answers.outcome[:, k] != MISSING
            expected = auroc(answers.outcome[there, k], answers.scores[there, k])
            row = next(r for r in rows if (r["metric"], r["class"]) == ("auroc", name))
            assert row["value"] == pytest.approx(expected)
            assert row["n"] == there.sum() < 40
        macro = next(r for r in rows if r["metric"] == "macro_auroc")
        each = [r["value"] for r in rows if r["metric"] == "auroc"]
        assert macro["value"] == pytest.approx(np.mean(each))


class TestPerformance:
    def test_every_number_against_its_plain_form(self):
        answers = hospitals.target(images=(1, 5)).answers(hospitals.question())
        y, p = answers.of(1)
        found = {r["metric"]: r for r in perf.of_group(answers, 200, 0)}
        at = operating(y, p, 0.5)
        n, prevalence = len(y), y.mean()
        assert found["sensitivity"]["value"] == pytest.approx(at.sensitivity)
        assert found["ppv"]["value"] == pytest.approx(at.ppv)
        assert found["alerts_per_100"]["value"] == pytest.approx(at.alerts_per_100)
        benefit = at.tp / n - at.fp / n
        assert found["net_benefit"]["value"] == pytest.approx(benefit)
        everyone = prevalence - (1 - prevalence)
        assert found["net_benefit_gain"]["value"] == pytest.approx(benefit - max(everyone, 0))
        brier = np.mean((p - y) ** 2)
        assert found["scaled_brier"]["value"] == pytest.approx(
            1 - brier / (prevalence * (1 - prevalence))
        )
        for row in found.values():
            assert row["lower"] <= row["value"] <= row["upper"], row
        assert found["auroc"]["formula_lower"] == pytest.approx(found["auroc"]["lower"], abs=0.05)

    def test_sites_and_the_rule_for_few(self):
        answers = hospitals.target(patients=60).answers(hospitals.question())
        site = np.where(np.isin(answers.patient, np.unique(answers.patient)[:5]), "small", "large")
        table = perf.rows(replace(answers, site=site), "target", 100, 0, 20)
        small = [r for r in table if r["site"] == "small"]
        assert len(small) == 1
        assert "fewer than 20 patients: too few" in small[0]["note"]
        assert perf.find(table, "auroc", site="large")[0]["value"] is not None

    def test_between_hospitals_adds_the_variances(self):
        one = {"metric": "auroc", "class": "1", "value": 0.9, "se": 0.03}
        two = {"metric": "auroc", "class": "1", "value": 0.8, "se": 0.04}
        (row,) = perf.between_hospitals([one], [two])
        assert row["value"] == pytest.approx(-0.1)
        assert row["upper"] == pytest.approx(-0.1 + 1.96 * 0.05, abs=1e-4)
        assert row["p"] == pytest.approx(0.0455, abs=1e-3)
        (row,) = perf.between_hospitals([one], [{**two, "se": None}])
        assert row["value"] is None
        assert "standard error" in row["note"]


class TestGroups:
    def test_a_planted_gap_is_found_and_adjusted(self):
        here = hospitals.target(seed=3, patients=160)
        answers = here.answers(hospitals.question())
        sex = here.columns["sex"].values
        scores = answers.scores.copy()
        blind = sex == "F"
        scores[blind] = np.random.default_rng(0).permutation(scores[blind])
        answers = replace(answers, scores=scores)
        source = hospitals.source()
        config = EvaluateConfig(resamples=300, groups=("sex", "view", "quality"))
        table, notes = groups.rows(answers, here.columns, source.columns, config, 320)
        worst = groups.worst(table)
        assert (worst["group"], worst["level"]) == ("sex", "F")
        gap = next(r for r in table if (r["level"], r["metric"]) == ("F", "auroc"))
        inside = answers.row[blind]
        y, p = answers.outcome[:, 1], scores[:, 1]
        mine = auroc(y[inside], p[inside])
        rest = auroc(y[~blind], p[~blind])
        assert gap["value"] == pytest.approx(mine)
        assert gap["difference"] == pytest.approx(mine - rest)
        assert gap["difference_upper"] < 0
        assert gap["p"] <= gap["p_adjusted"] < 0.05
        assert notes == ["view: nothing is known of it here."]

    def test_few_patients_get_no_number_and_no_count(self):
        here = hospitals.target(patients=60)
        who = np.unique(here.patient)
        view = np.where(np.isin(here.patient, who[:3]), "LAT", "PA")
        here = replace(here, pictures=here.pictures.set_column(
            here.pictures.column_names.index("view"), "view", pa.array(view)))  # fmt: skip
        answers = here.answers(hospitals.question())
        config = EvaluateConfig(resamples=100, groups=("view",))
        table, _ = groups.rows(answers, here.columns, {}, config, len(here.patient))
        few = [r for r in table if r["level"] == "LAT"]
        assert all(r["value"] is None and r["note"] == groups.FEW for r in few)
        assert few[0]["patients"] == "<5"

    def test_age_bands_and_absent_levels(self):
        assert groups.levels_of("age_band", _columns(["40-44", "90+", None, "0-4"]), {}, 4).tolist() == [
            "40 to 59", "80 and over", "not stated", "0 to 19"]  # fmt: skip
        assert groups.levels_of("sex", {}, {}, 4) is None
        assert groups.count(4) == "<5"
        assert (groups.count(0), groups.count(5)) == (0, 5)


def _columns(values):
    from medssl.evaluate.reference import Column

    return {"age_band": Column(np.array(values, dtype=object), np.arange(len(values)))}


class TestShift:
    def test_a_moved_hospital_is_seen_and_the_same_one_is_not(self):
        source, question = hospitals.source(patients=80), hospitals.question()
        moved = shifted.of(question, source, hospitals.target(shift=1.0), QUICK)
        same = shifted.of(question, source, hospitals.target(seed=9), QUICK)
        assert moved["embedding"]["p"] == pytest.approx(0.01)
        assert same["embedding"]["p"] > 0.05
        assert moved["domain"]["auroc"] > 0.75
        assert 0 <= moved["unlike"]["share"]["value"] <= 1
        assert len(moved["unlike"]["most"]) == shifted.MOST_UNLIKE
        assert json.loads(json.dumps(plain(moved)))["labels"]["classes"] == ["0", "1"]

    def test_a_header_never_seen_comes_with_its_count(self):
        source = hospitals.source(patients=40)
        here = hospitals.target(patients=40, manufacturer=["new maker"] * 80)
        rows = shifted.of(hospitals.question(), source, here, QUICK)["columns"]
        maker = next(r for r in rows if r["column"] == "manufacturer")
        assert maker["unseen"] == [["new maker", 80]]
        assert maker["p_adjusted"] >= maker["p"]

    def test_a_pack_without_embeddings_says_not_run(self):
        source = replace(hospitals.source(), embeddings=None, embedded_patient=None)
        found = shifted.of(hospitals.question(), source, hospitals.target(), QUICK)
        assert "Not run" in found["embedding"]["note"]
        assert found["outputs"]["p"] > 0

    def test_few_patients_get_a_sentence(self):
        found = shifted.of(
            hospitals.question(), hospitals.source(), hospitals.target(patients=6), QUICK
        )
        assert "6 patients" in found["embedding"]["note"]


class TestShortcuts:
    def test_a_planted_cue_is_named(self):
        here = hospitals.target(seed=5, patients=120)
        answers = here.answers(hospitals.question())
        entropy = answers.outcome[:, 1] * 1.5 + np.random.default_rng(1).normal(size=len(answers))
        here = replace(here, pictures=here.pictures.set_column(
            here.pictures.column_names.index("entropy"), "entropy", pa.array(entropy)))  # fmt: skip
        found = shortcuts.of("finding", hospitals.source(), here, answers, QUICK)
        assert found["cues"][0]["figure"] == "entropy"
        assert found["cues"][0]["value"] > 0.75
        assert any("grey-level histogram alone tells finding with" in s for s in found["sentences"])
        plain_one = shortcuts.of(
            "finding", hospitals.source(), hospitals.target(), answers_here(), QUICK
        )
        assert not any("histogram" in s for s in plain_one["sentences"])

    def test_every_encoder_of_the_chain_is_asked(self):
        here, source = hospitals.target(patients=40), hospitals.source(patients=40)
        key = tuple(zip(here.predictions.column("image_id").to_pylist(), [-1] * 80, strict=True))
        rows = np.concatenate([here.embeddings, source.embeddings])
        flags = np.arange(160) >= 80
        who = np.concatenate([here.patient, source.embedded_patient])
        planted = rows + 2.0 * flags[:, None]
        stages = tuple(
            Stage(name, values, flags, who, key + source.key)
            for name, values in (("random weights", rows), ("simclr", planted))
        )
        answers = here.answers(hospitals.question())
        found = shortcuts.of("finding", source, replace(here, stages=stages), answers, QUICK)
        site = {r["encoder"]: r["value"] for r in found["readable"] if r["what"] == "hospital"}
        assert site["simclr"] > 0.9 > site["random weights"]
        same = {r["encoder"]: r for r in found["identity"]}
        assert same["simclr"]["value"] > 5 * same["simclr"]["chance"]

    def test_masks_are_paired(self):
        here, source = hospitals.target(patients=80), hospitals.source()
        answers = here.answers(hospitals.question())
        noise = np.random.default_rng(0).random((len(answers), 2))
        hidden = {"centre hidden": replace(answers, scores=noise)}
        found = shortcuts.of("finding", source, replace(here, masked=hidden), answers, QUICK)
        (row,) = found["masks"]
        assert row["value"] == pytest.approx(auroc(answers.outcome[:, 1], noise[:, 1]))
        own = auroc(answers.outcome[:, 1], answers.scores[:, 1])
        assert row["difference"] == pytest.approx(row["value"] - own)
        assert row["difference_upper"] < 0


def answers_here():
    return hospitals.target().answers(hospitals.question())


class TestMonths:
    def test_between_keeps_what_is_dated_inside(self):
        months = ["2023-11", "2023-12", "2024-01", ""]
        here = hospitals.target(patients=40, months=months)
        part = here.between("2023-12", "2024-01")
        assert set(part.month) == {"2023-12", "2024-01"}
        assert len(part.patient) == len(part.embeddings) == part.pictures.num_rows == 40
        assert here.between(None, None) is here
        with pytest.raises(NothingUsableError, match="60 of 80 have a date"):
            here.between("2030-01", None)

    def test_true_months_stay_private(self, tmp_path):
        months = [f"2019-{m:02d}" for m in range(1, 13)]
        here = hospitals.target(patients=120, months=months)
        answers = here.answers(hospitals.question())
        (found,) = drift_of(here, answers, QUICK, tmp_path)
        assert [r["month"] for r in found["months"]] == list(range(1, 13))
        assert "2019" not in json.dumps(plain(found))
        private = tmp_path / "private" / "drift.csv"
        assert "2019-07" in private.read_text()
        assert private.stat().st_mode & 0o077 == 0
        assert number_of("2020-02", "2019-11") == 4

    def test_no_dates_is_a_sentence(self, tmp_path):
        here = hospitals.target()
        (found,) = drift_of(here, here.answers(hospitals.question()), QUICK, tmp_path)
        assert "no labelled picture has a study date" in found["note"]
        assert not (tmp_path / "private").exists()


class TestTables:
    def test_table_one_counts_patients(self):
        here, source = hospitals.target(patients=70), hospitals.source(patients=60)
        answers = here.answers(hospitals.question())
        rows = table_one(here, answers, source)
        women = next(r for r in rows if (r["attribute"], r["level"]) == ("sex", "F"))
        assert (women["patients"], women["source_patients"]) == (35, 30)
        assert women["patients_with"] + women["patients_without"] == 35
        assert any(r["level"] == "not stated in any header" for r in rows)


class TestRemedies:
    def test_parse(self):
        found = remedies.parse(("a=x,y", "some/run"))
        assert list(found) == ["a", "run"]
        assert [str(p) for p in found["a"]] == ["x", "y"]
        for bad in ("a=", "=", ""):
            with pytest.raises(UsageError, match="give RUN"):
                remedies.parse((bad,))
        with pytest.raises(UsageError, match="given twice"):
            remedies.parse(("a=x", "a=y"))

    def test_a_run_of_another_question_is_refused(self, tmp_path):
        here = hospitals.target(patients=10)
        answers, table = here.answers(hospitals.question()), here.predictions
        place = {k: int(i) for i, k in enumerate(remedies.keys(table))}
        remedies._check_labels(tmp_path, table, place, answers)
        flipped = ["1" if v == "0" else "0" for v in table.column("label").to_pylist()]
        other = hospitals.relabel(here, flipped).predictions
        with pytest.raises(RefusedError, match="20 of its 20 test pictures have another answer"):
            remedies._check_labels(tmp_path, other, place, answers)


class TestPixels:
    def test_each_figure_against_loops(self):
        g = np.random.default_rng(0)
        planes = g.integers(0, 65536, (3, 20, 20), dtype=np.uint16)
        planes[1, :, 10:] = 65535
        found = attributes.of_pixels(planes)
        for k, plane in enumerate(planes.astype(float) / 65535):
            assert found["brightness"][k] == pytest.approx(plane.mean())
            assert found["contrast"][k] == pytest.approx(plane.std())
            assert found["bright_share"][k] == pytest.approx((plane >= 0.98).mean())
            assert found["tone_25"][k] == pytest.approx(np.quantile(plane, 0.25))
            inner = plane[2:-2, 2:-2]
            border = (plane.sum() - inner.sum()) / (400 - 256)
            assert found["border_brightness"][k] == pytest.approx(border)
            assert found["centre_brightness"][k] == pytest.approx(plane[5:-5, 5:-5].mean())
            half = plane[:, 10:].mean() - plane[:, :10].mean()
            assert found["left_right_difference"][k] == pytest.approx(half)
            shares = np.histogram(np.minimum(plane * 64, 63.5), 64, (0, 64))[0] / 400
            bits = -sum(s * np.log2(s) for s in shares if s)
            assert found["entropy"][k] == pytest.approx(bits)
        assert set(found) == set(attributes.PIXELS) - {"padding"}

    def test_sharpness_falls_with_blur(self):
        from scipy.ndimage import gaussian_filter

        plane = np.random.default_rng(0).random((1, 40, 40))
        soft = gaussian_filter(plane, (0, 1.5, 1.5))
        both = (np.concatenate([plane, soft]) * 65535).astype(np.uint16)
        sharp, blurred = attributes.of_pixels(both)["sharpness"]
        assert sharp > blurred + 1


def test_plain_and_attempt():
    value = {"a": np.float64("nan"), "b": np.arange(2), "c": (np.bool_(True), None, np.int64(3))}
    assert plain(value) == {"a": None, "b": [0, 1], "c": [True, None, 3]}

    def refuse():
        raise ValueError("because")

    assert attempt(refuse) == {"note": "because"}


class TestPack:
    """What a pack tells of a column, and what it must not."""

    def stand_in(self, values):
        from medssl.evaluate import pack
        from medssl.evaluate.reference import Column

        patient = np.array([f"p{k}" for k in range(len(values))])
        told = pack._told(Column(np.asarray(values), patient))
        return told, pack._stand_in(told)

    def test_nobody_s_own_value_travels(self):
        values = np.random.default_rng(0).normal(size=400)
        values[7] = 1234.5678
        told, column = self.stand_in(values)
        assert max(told["quantiles"]) < 1234
        assert not set(told["quantiles"]) & set(values.tolist())
        assert len(told["quantiles"]) <= 80
        assert len(column.values) == 400
        assert np.median(column.values) == pytest.approx(np.median(values), abs=0.05)
        assert self.stand_in(values[:19])[0]["quantiles"] == []

    def test_rare_levels_invent_no_shift(self):
        """Sixty levels, most of them rare, at two samples of one hospital."""
        alarms = []
        for seed in range(20):
            g = np.random.default_rng(seed)
            levels = [
                np.array([f"m{k}" for k in g.geometric(0.08, 200)], dtype=object) for _ in "ab"
            ]
            told, column = self.stand_in(levels[0])
            assert hospitals_rare(told)
            source = replace(hospitals.source(patients=10), columns={"model": column}, pack={})
            here = hospitals.target(seed=seed, patients=200, images=1, model=levels[1].tolist())
            config = EvaluateConfig(permutations=99, seed=seed)
            one = next(a for a in attributes.ATTRIBUTES if a.name == "model")
            found = shifted._column(one, source, here, config)
            assert found["unseen"] == []
            alarms.append(found["p"] <= 0.05)
        assert sum(alarms) <= 4

    def test_a_real_shift_is_still_seen(self):
        old, new = ["A"] * 150 + ["B"] * 50, ["A"] * 60 + ["B"] * 140
        _, column = self.stand_in(np.array(old, dtype=object))
        source = replace(hospitals.source(patients=10), columns={"model": column}, pack={})
        here = hospitals.target(patients=200, images=1, model=new)
        one = next(a for a in attributes.ATTRIBUTES if a.name == "model")
        assert shifted._column(one, source, here, QUICK)["p"] == pytest.approx(0.01)


def hospitals_rare(told):
    from medssl.evaluate.reference import RARE

    return told["shares"].get(RARE, 0) > 0.05


class TestSmallCells:
    def test_cells_of_two_and_three_stand_nowhere(self, tmp_path):
        """Plant a site of three patients, a view of two, an uncertain month of one: grep everything."""
        from medssl.evaluate.evaluate import evaluate

        here = hospitals.target(patients=80, images=2)
        who = np.unique(here.patient)
        view = np.where(np.isin(here.patient, who[:2]), "RAREVIEW", "PA")
        site = np.where(np.isin(here.patient, who[:3]), "tiny", "big")
        table = here.predictions
        table = table.set_column(table.column_names.index("site"), "site", pa.array(site))
        pictures = here.pictures
        for name, values in (("view", view), ("site", site)):
            pictures = pictures.set_column(
                pictures.column_names.index(name), name, pa.array(values)
            )
        month = np.where(np.isin(here.patient, who[:1]), "2021-03", "2021-01")
        here = replace(here, predictions=table, pictures=pictures, month=month)
        evaluate(hospitals.question(), hospitals.source(), here,
                 EvaluateConfig(resamples=100, permutations=99, cv_repeats=1, pdf=False), tmp_path)  # fmt: skip
        report = json.loads((tmp_path / "report.json").read_text())
        rare = [r for r in report["participants"] if r["level"] == "RAREVIEW"]
        assert {r["patients"] for r in rare} == {"<5"}
        views = next(r for r in report["shift"]["columns"] if r["column"] == "view")
        assert ["RAREVIEW", "<5"] in views["unseen"] or views["unseen"] == []
        tiny = [r for r in report["performance"] if r["site"] == "tiny"]
        assert [r.get("n") for r in tiny] == [None]
        big = [r for r in report["performance"] if r["site"] == "big"]
        assert {r["patients"] for r in big} == {None}
        assert not re.search(r"(?<![0-9])[1-4] (patients|images|pictures)", json.dumps(report))
        assert "2021-0" not in json.dumps({k: v for k, v in report.items() if k != "settings"})
        last = report["drift"][0]["months"][-1]
        assert (last["patients"], last["oe"], last["expected"]) == ("<5", None, None)
        for file in (tmp_path / "tables").glob("*.csv"):
            assert "2021-0" not in file.read_text()
