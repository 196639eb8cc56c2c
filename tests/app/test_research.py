"""The pages for researchers: what they say of whole, broken and hostile runs, by independent paths."""

import importlib
import itertools
import json
import math
import os
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from medssl import files
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort import twins
from medssl.config import PretrainConfig, ViewsConfig

APP = Path(__file__).parents[2] / "apps" / "review"
PAGES = ("training", "representation", "pairs", "cohort_page")
HOSTILE = "<b>x :red[y] $z$ [a](http:x)"
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", autouse=True)
def _path():
    sys.path.insert(0, str(APP))
    yield
    sys.path.remove(str(APP))


def room(name):
    return importlib.import_module(f"research.{name}")


def words():
    return importlib.import_module("text_research")


def _draw(module, root, journal):
    import importlib
    from pathlib import Path

    import frame
    import who
    from journal import Journal

    reader = who.Reader("local:ab", "AB", frozenset(who.ROLES), signed_in=False)
    desk = frame.Desk(reader, Path(root), Journal(Path(journal)))
    importlib.import_module(f"research.{module}").show(desk)


def page_of(module, root, tmp_path):
    args = {"module": module, "root": str(root), "journal": str(tmp_path / "j.sqlite")}
    return AppTest.from_function(_draw, kwargs=args, default_timeout=120).run()


def said(page):
    kinds = (
        "title",
        "header",
        "subheader",
        "markdown",
        "warning",
        "error",
        "info",
        "success",
        "caption",
    )
    return " ".join(str(p.value) for kind in kinds for p in getattr(page, kind))


def place(folder, run):
    """Copy a run, its parents still found."""
    shutil.copytree(run, folder)
    change(folder, parents=[
        {**p, "path": os.path.relpath((run / p["path"]).resolve(), folder)}
        for p in json.loads((run / "run.json").read_text())["parents"]
    ])  # fmt: skip
    return folder


def change(folder, **told):
    file = folder / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **told}))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


# --- whole runs ---


@pytest.mark.parametrize("module", PAGES)
def test_every_page_on_finished_runs(module, report_run, tmp_path):
    page = page_of(module, report_run.parent, tmp_path)
    assert not page.exception
    assert len(page.title) == 1
    assert not page.warning
    assert page.dataframe


@pytest.mark.parametrize("module", PAGES)
def test_every_page_on_an_empty_folder(module, root, tmp_path):
    page = page_of(module, root, tmp_path)
    assert not page.exception
    assert page.info


def test_two_encoders_beside_each_other(report_run, tmp_path):
    page = page_of("representation", report_run.parent, tmp_path)
    page.selectbox(key="map_run").select("classifier").run()
    assert not page.exception
    assert page.get("plotly_chart")
    page.selectbox(key="map_other").select("at_b").run()
    assert not page.exception
    assert "cannot be compared" in said(page)


def test_a_neighbour_can_be_put_on_the_map(report_run, tmp_path):
    page = page_of("representation", report_run.parent, tmp_path)
    pick = next(s for s in page.selectbox if str(s.key).startswith("map_pick"))
    assert pick.value == 0
    page.button[1 if "viewer" in page.button[0].label else 0].click().run()
    assert not page.exception
    assert next(s for s in page.selectbox if s.key == pick.key).value != 0


def test_a_slider_changes_the_section_to_copy(report_run, tmp_path):
    page = page_of("pairs", report_run.parent, tmp_path)
    knob = next(s for s in page.slider if "cutout" in str(s.key))
    knob.set_value(0.25).run()
    assert not page.exception
    told = yaml.safe_load(page.code[0].value)
    assert told["views"]["cutout"] == 0.25
    PretrainConfig.model_validate({"method": {"name": "simclr"}, **told})


def test_every_augmentation_has_a_control_within_its_bounds():
    pairs = room("pairs")
    assert set(words().SETTING_NAMES) == set(ViewsConfig.model_fields)
    for name, field in ViewsConfig.model_fields.items():
        if isinstance(field.default, float):
            low, high, _ = pairs.limits(name)
            for value in (low, high):
                ViewsConfig.model_validate({name: value})


# --- the representation in numbers ---


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    patient = np.repeat([f"p{k}" for k in range(14)], rng.integers(1, 6, 14))
    centre = {p: rng.normal(size=5) for p in set(patient)}
    rows = np.array([centre[p] + rng.normal(size=5) for p in patient])
    image = np.array([f"i{k // 2}" if k % 5 else f"j{k}" for k in range(len(patient))])
    image = np.array([f"{p}{i}" for p, i in zip(patient, image, strict=True)], dtype=object)
    return rows, patient.astype(object), image


def test_retrieval_by_plain_loops(made):
    rows, patient, image = made
    n = len(rows)
    for found in room("nearness").retrieval(rows, patient, image, (1, 3, 6)):
        hits, chances = [], []
        for q in range(n):
            others = [k for k in range(n) if image[k] != image[q]]
            right = [k for k in others if patient[k] == patient[q]]
            if not right:
                continue
            near = {
                k: rows[q] @ rows[k] / math.hypot(*rows[q]) / math.hypot(*rows[k]) for k in others
            }
            best = sorted(others, key=lambda k: -near[k])[: found.k]
            hits.append(any(patient[k] == patient[q] for k in best))
            every = math.comb(len(others), found.k)
            chances.append(1 - math.comb(len(others) - len(right), found.k) / every)
        assert found.queries == len(hits)
        assert found.interval.value == pytest.approx(np.mean(hits))
        assert found.chance == pytest.approx(np.mean(chances))


def test_chance_by_counting_every_draw():
    for others, wanted, k in ((6, 2, 3), (5, 5, 1), (4, 1, 9)):
        draws = list(itertools.combinations(range(others), min(k, others)))
        share = np.mean([any(d < wanted for d in draw) for draw in draws])
        assert room("nearness").by_chance(others, wanted, k) == pytest.approx(share)


def test_components_by_the_covariance(made):
    rows = made[0]
    found = room("nearness").components(rows)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    order = np.argsort(-values)
    expected = (rows - rows.mean(0)) @ vectors[:, order[:2]]
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(found.share, values[order[:2]] / values.sum())
    size = np.sqrt(values[values > 0])
    part = size / size.sum()
    assert found.rank == pytest.approx(math.exp(-sum(p * math.log(p) for p in part)))


def test_whole_patients_are_taken_and_the_same_ones():
    atlas = room("atlas")
    patient = [f"p{k % 40}" for k in range(200)]
    rows = atlas.some_patients(patient, 60)
    assert len(rows) == 60
    assert set(Counter(patient[k] for k in rows).values()) == {5}
    turned = patient[::-1]
    assert {turned[k] for k in atlas.some_patients(turned, 60)} == {patient[k] for k in rows}


# --- health of a log ---


def made_log(path, **columns):
    length = len(next(iter(columns.values())))
    lines = [{"step": 10 * (k + 1), **{n: v[k] for n, v in columns.items()}} for k in range(length)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return room("logs").read(path)


FELL = list(np.linspace(6, 3, 20))
CHANCE = math.log(2 * 64 - 1)
CASES = {
    "healthy": ({"loss": FELL, "z_std": [0.08] * 20}, {"width": 128}, None, "No warning sign"),
    "not finite": ({"loss": [*FELL[:9], math.nan, *FELL[10:]]}, {}, "step 100", None),
    "chance": ({"loss": [CHANCE * 1.005] * 20}, {"chance": CHANCE}, "every picture looks alike", None),
    "flat": ({"loss": [5.0] * 20}, {"chance": CHANCE * 2}, "hardly moved", None),
    "below nought": ({"loss": list(np.linspace(-0.2, -0.9, 20))}, {}, None, "No warning sign"),
    "rose below nought": ({"loss": list(np.linspace(-0.9, -0.2, 20))}, {}, "The loss rose", None),
    "rose": ({"loss": FELL[::-1]}, {}, "rose", None),
    "collapsed": ({"loss": FELL, "z_std": [0.08] * 10 + [0.001] * 10}, {"width": 128}, "from step 110", None),
    "rank": ({"loss": FELL, "effective_rank": [9.0] * 5 + [1.3] * 15}, {}, "rank is 1.3", None),
    "slower": ({"loss": FELL, "images_per_s": [90.0] * 10 + [20.0] * 10}, {}, "slowed down", None),
    "no pairs": ({"loss": FELL, "pair_share": [0.0] * 20}, {"pairs": True}, "SimCLR does", None),
    "stopped": ({"loss": FELL}, {"state": "stopped"}, "--resume", None),
    "failed": ({"loss": FELL}, {"error": "E-NONFINITE"}, "E-NONFINITE", None),
    "short": ({"loss": FELL[:2]}, {}, None, "too few"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_health_sentences(name, tmp_path):
    columns, facts, warning, calm = CASES[name]
    logs = room("logs")
    found = logs.health(made_log(tmp_path / "log.jsonl", **columns), logs.Facts(**facts))
    if warning is None:
        assert not [s for s in found if s.warning]
        assert calm in found[-1].words
    else:
        assert found[0].warning
        assert warning in " ".join(s.words for s in found if s.warning)


def test_chance_is_the_loss_of_equal_projections():
    """The oracle is the loss itself, of projections that are all alike."""
    import torch

    from medssl.methods.ntxent import ntxent

    alike = torch.ones(16, 4)
    loss = float(ntxent(alike, alike, torch.arange(16), 0.2, mask=True))
    assert room("logs").chance_level(32, 20) == pytest.approx(loss, abs=1e-5)


def test_a_log_that_is_not_one(tmp_path):
    file = tmp_path / "log.jsonl"
    lines = ["[1]", "{", '{"step": "x"}', '{"step": 1, "loss": "a", "big": 1' + "0" * 400 + "}"]
    file.write_bytes(
        "\n".join([*lines, '{"step": 2, "loss": 1e999}', "\udcff"]).encode(errors="replace")
    )
    log = room("logs").read(file)
    assert (log.lines, log.unreadable) == (2, 4)
    assert log.not_finite == {"big": 1, "loss": 2}
    assert room("logs").read(tmp_path / "none").lines == 0


# --- what a run says of itself, and what is true ---


def test_a_run_is_running_only_while_somebody_holds_or_writes_it(simclr_run, root):
    records = room("records")
    run = place(root / "r", simclr_run)
    change(run, status="running")
    entry = records.find(root)[0]
    assert records.state(entry) == "running"
    for file in run.iterdir():
        os.utime(file, (0, 0))
    assert records.state(entry) == "stopped"
    with files.locked(run):
        assert records.state(entry) == "running"
    assert records.state(entry) == "stopped"


def test_the_page_says_that_a_run_stopped_and_how_to_go_on(simclr_run, root, tmp_path):
    run = place(root / "r", simclr_run)
    change(run, status="running")
    for file in run.iterdir():
        os.utime(file, (0, 0))
    page = page_of("training", root, tmp_path)
    assert not page.exception
    assert "stopped without ending" in page.dataframe[0].value["status"].tolist()
    assert any("it stopped without ending" in w.value for w in page.warning)
    assert any(c.value.endswith("--resume") for c in page.code)


def test_a_running_run_can_be_watched_or_left_alone(simclr_run, root, tmp_path):
    change(place(root / "r", simclr_run), status="running")
    page = page_of("training", root, tmp_path)
    page.toggle(key="runs_refresh").set_value(False).run()
    assert not page.exception
    assert page.dataframe[0].value["status"].tolist() == ["running"]


def test_the_command_repeats_the_run(classifier_run, simclr_run, report_run, root):
    records = room("records")
    place(root / HOSTILE, simclr_run)
    change(root / HOSTILE, split="none")
    entry = records.find(root)[0]
    line = shlex.split(records.command(entry, resume=True))
    assert line[:2] == ["medssl", "pretrain"]
    assert Path(line[2]).resolve() == root / HOSTILE / "config.yaml"
    assert Path(line[line.index("--data") + 1]).resolve() == entry.cohort
    assert Path(line[line.index("--out") + 1]).resolve() == root / HOSTILE
    assert line[line.index("--split") + 1] == "none"
    every = {e.name: shlex.split(records.command(e)) for e in records.find(report_run.parent)}
    line = every["classifier"]
    assert Path(line[line.index("--encoder") + 1]).resolve() == simclr_run
    assert Path(every["at_b"][2]).resolve() == classifier_run


def test_differences_of_settings():
    records = room("records")
    one = records.flat({"a": 1, "b": {"c": None, "d": [1, 2]}})
    assert one == {"a": "1", "b.c": "", "b.d": "[1, 2]"}
    assert records.differences(one, {**one, "a": "2", "e": "3"}) == [
        ("a", "1", "2"),
        ("e", "", "3"),
    ]


def test_settings_of_a_run_read_no_other_file(simclr_run, root, tmp_path):
    run = place(root / "r", simclr_run)
    (tmp_path / "secret.yaml").write_text("method: {name: secret}\n")
    (run / "config.yaml").write_text("extends: ../../secret.yaml\n")
    records = room("records")
    with pytest.raises(records.MedsslError, match="another file"):
        records.settings(records.find(root)[0])


def test_the_page_shows_what_the_task_asks(simclr_run, root, tmp_path):
    place(root / "r", simclr_run)
    facts = json.loads((root / "r" / "pretext.json").read_text())
    page = page_of("training", root, tmp_path)
    assert not page.exception
    assert page.selectbox(key="runs_task").options == ["r"]
    assert f"partner_first {facts['figures']['partner_first']:.3f}" in said(page).replace("\\", "")
    assert "one view, another view" in said(page)
    assert len(page.get("image")) == 1
    table = next(t.value for t in page.dataframe if "asked and answered" in t.value)
    assert table["asked and answered"].tolist() == facts["rows"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pretext.png", b"<svg onload=1>"),
        ("pretext.png", None),
        ("pretext.json", b"{}"),
        ("pretext.json", b'{"method": 1, "columns": 3}'),
    ],
)
def test_a_damaged_picture_of_the_task_is_one_sentence(name, words, simclr_run, root, tmp_path):
    run = place(root / "r", simclr_run)
    (run / name).unlink() if words is None else (run / name).write_bytes(words)
    page = page_of("training", root, tmp_path)
    assert not page.exception
    assert any("is damaged" in w.value for w in page.warning)
    assert not page.get("image")


# --- broken and hostile runs ---


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbage(file):
    file.write_bytes(b"PAR1 nothing of the kind")


def pickled(file):
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def absent(file):
    file.unlink()


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("embeddings.npy", cut),
        ("embeddings.npy", pickled),
        ("embeddings.parquet", absent),
        ("embeddings.parquet", garbage),
        ("pictures.parquet", garbage),
        ("curve.parquet", cut),
        ("classifier.json", cut),
    ],
)
def test_a_broken_file_is_one_sentence(name, break_it, classifier_run, root, tmp_path):
    run = place(root / "r", classifier_run)
    break_it(run / name)
    page = page_of("representation", root, tmp_path)
    assert not page.exception
    assert any(name.partition(".")[0] in w.value for w in page.warning)


@pytest.mark.parametrize("module", PAGES)
def test_broken_records_never_break_a_page(module, simclr_run, root, tmp_path):
    for name, text in {
        "cut": '{"verb": "pre',
        "list": "[1]",
        "deep": "[" * 100_000,
        "odd": '{"verb": 3, "status": [], "summary": "x", "parents": [1, {"file": "manifest.parquet"}]}',
        "odd2": '{"verb": "finetune", "status": "done", "parents": 7, "manifest": 1, "started": {}}',
    }.items():
        (root / name).mkdir()
        (root / name / "run.json").write_text(text)
        (root / name / "embeddings.npy").write_bytes(b"")
    (root / "empty").mkdir()
    (root / "empty" / "log.jsonl").write_text("")
    page = page_of(module, root, tmp_path)
    assert not page.exception
    if module == "training":
        states = page.dataframe[0].value["status"].tolist()
        assert states.count(words().STATES["broken"]) == 4
        assert "not readable as JSON" in said(page)


@pytest.mark.parametrize("file", ["manifest.parquet", "labels.parquet", "split.parquet", "store"])
@pytest.mark.parametrize("module", ["pairs", "cohort_page"])
def test_a_broken_cohort_is_one_sentence(module, file, simclr_run, cohort_copy, root, tmp_path):
    run = place(root / "r", simclr_run)
    told = json.loads((run / "run.json").read_text())["parents"]
    change(run, parents=[{**told[0], "path": os.path.relpath(cohort_copy, run)}])
    if file == "store":
        for index in cohort_copy.glob("store/*/index.parquet"):
            garbage(index)
    else:
        garbage(cohort_copy / file)
    page = page_of(module, root, tmp_path)
    assert not page.exception
    assert page.warning


def test_a_cohort_that_went_away_is_said(simclr_run, classifier_run, root, tmp_path):
    for run in (simclr_run, classifier_run):
        shutil.copytree(run, root / run.name)
    for module in ("pairs", "cohort_page"):
        assert page_of(module, root, tmp_path).info
    page = page_of("representation", root, tmp_path)
    assert not page.exception
    assert any("no longer where" in w.value for w in page.warning)


@pytest.mark.parametrize("module", PAGES)
def test_hostile_names_are_text(module, simclr_run, classifier_run, root, tmp_path):
    for run, name in ((simclr_run, HOSTILE), (classifier_run, f"{HOSTILE}2")):
        place(root / name.replace("/", "|"), run)
    if module == "training":
        lines = [{"step": k, HOSTILE: k, "loss": 1 / (k + 1)} for k in range(9)]
        log = next(root.glob("*/log.jsonl"))
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        change(log.parent, status="failed", error=HOSTILE)
        task = {"method": HOSTILE, "columns": [HOSTILE], "rows": [HOSTILE], "shown": 1, "judged": 1}
        (log.parent / "pretext.json").write_text(json.dumps(task | {"figures": {HOSTILE: 0.5}}))
    page = page_of(module, root, tmp_path)
    assert not page.exception
    for kind in ("header", "subheader", "markdown", "warning", "success", "caption", "info"):
        for part in getattr(page, kind):
            for sign in ("<b>", ":red[", "$z$", "[a]("):
                assert sign not in str(part.value), (kind, part.value)
    for chart in page.get("plotly_chart"):
        assert "<b>" not in chart.proto.spec


# --- the cohort ---


def leaks(run, cohort):
    people, records = room("people"), room("records")
    entry = records.Entry(run, run.name, json.loads((run / "run.json").read_text()))
    return {c.name: c.found for c in people.leak_check(entry, cohort, manifest_room.read(cohort))}


def sides(cohort):
    split = split_room.read(cohort)
    return next(p for p, s in split.items() if s == "train"), next(
        p for p, s in split.items() if s == "test"
    )


def test_a_clean_split_has_no_leak(simclr_run, cohorts):
    assert set(leaks(simclr_run, cohorts / "hospital_a").values()) == {0}


def plant(cohort, what):
    """Write one leak into a cohort's files."""
    here, there = sides(cohort)
    manifest = manifest_room.read(cohort)
    image = {
        p: i
        for i, p in zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True)
    }
    table = pq.read_table(cohort / "split.parquet")
    if what == "twice":
        more = pa.table({"patient_id": [here], "split": ["test"]}, schema=table.schema)
        pq.write_table(pa.concat_tables([table, more]), cohort / "split.parquet")
    elif what == "placeless":
        pq.write_table(
            table.filter(pa.compute.not_equal(table["patient_id"], there)), cohort / "split.parquet"
        )
    elif what == "twins":
        old = pq.read_table(cohort / twins.FILE)
        row = {"image_id_a": image[here], "slice_a": -1, "patient_a": here, "image_id_b": image[there],
               "slice_b": -1, "patient_b": there, "kind": "near", "distance": 3, "correlation": 0.99}  # fmt: skip
        more = pa.Table.from_pylist([row], schema=old.schema)
        pq.write_table(pa.concat_tables([old, more]), cohort / twins.FILE)
    elif what == "links":
        row = [{"patient_a": there, "patient_b": here, "reason": "name"}]
        schema = pq.read_schema(cohort / "links.parquet")
        pq.write_table(pa.Table.from_pylist(row, schema=schema), cohort / "links.parquet")
    elif what == "copies":
        file = next(cohort.glob("store/*/index.parquet"))
        index = pq.read_table(file)
        rows = index.to_pylist()
        one = next(r for r in rows if r["patient_id"] == here)
        two = next(r for r in rows if r["patient_id"] == there)
        two.update({k: one[k] for k in ("pixels", "low", "high")})
        pq.write_table(pa.Table.from_pylist(rows, schema=index.schema), file)
    elif what == "seen":
        moved = [
            there if p == here else here if p == there else p
            for p in table["patient_id"].to_pylist()
        ]
        pq.write_table(
            pa.table({"patient_id": moved, "split": table["split"]}, schema=table.schema),
            cohort / "split.parquet",
        )


@pytest.mark.parametrize("what", ["twice", "placeless", "twins", "links", "copies", "seen"])
def test_a_planted_leak_is_caught(what, simclr_run, cohort_copy):
    plant(cohort_copy, what)
    found = leaks(simclr_run, cohort_copy)
    assert found.pop(what) == 1
    if what == "twice":  # the encoder has seen whoever is trained and tested on
        assert found.pop("seen") == 1
    assert set(found.values()) == {0}


def test_the_page_says_that_it_leaks(simclr_run, cohort_copy, root, tmp_path):
    run = place(root / "r", simclr_run)
    told = json.loads((run / "run.json").read_text())["parents"]
    change(run, parents=[{**told[0], "path": os.path.relpath(cohort_copy, run)}])
    plant(cohort_copy, "twins")
    page = page_of("cohort_page", root, tmp_path)
    assert not page.exception
    assert "1 of the checks" in page.error[0].value
    plant(cohort_copy, "placeless")
    page = page_of("cohort_page", root, tmp_path)
    assert words().CHANGED_SPLIT in [w.value for w in page.warning]


def test_small_counts_stay_hidden_even_from_those_who_know_the_total():
    people, text = room("people"), words()
    for counts in itertools.product([0, 1, 4, 5, 9, 40], repeat=3):
        masks = people.hidden(counts)
        for n, mask in zip(counts, masks, strict=True):
            assert not 0 < n < 5 or mask == text.FEW
        unknown = [n for n, mask in zip(counts, masks, strict=True) if mask is not None]
        assert (
            len(unknown) != 1 or sum(c > 0 for c in counts) == 1 or sum(c >= 5 for c in counts) == 0
        )


def test_counts_by_plain_loops(cohorts):
    people, text = room("people"), words()
    manifest = manifest_room.read(cohorts / "hospital_a")
    rows = manifest.table.to_pylist()
    for row in people.levels(manifest, "sex"):
        mine = [r for r in rows if r["sex"] == row[text.LEVEL]]
        assert row[text.IMAGES] == str(len(mine))
        assert row[text.PATIENTS] == str(len({r["patient_id"] for r in mine}))
    for row in people.levels(manifest, "age_band"):
        many = len({r["patient_id"] for r in rows if r["age_band"] == row[text.LEVEL]})
        assert row[text.PATIENTS] in {str(many) if many >= 5 else text.FEW, text.SEVERAL}
        assert many >= 5 or not row[text.IMAGES]
