"""The page, headless, on a finished synthetic evaluation."""

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from medssl import serve

PAGE = str(serve.page())
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def page(report_run, monkeypatch):
    monkeypatch.setenv("MEDSSL_RUNS", str(report_run.parent))
    return AppTest.from_file(PAGE, default_timeout=120).run()


@pytest.fixture
def data():
    sys.path.insert(0, str(Path(PAGE).parent))
    return importlib.import_module("cases")


def words(page):
    parts = [
        *page.header,
        *page.subheader,
        *page.markdown,
        *page.warning,
        *page.caption,
        *page.info,
    ]
    return " ".join(str(p.value) for p in parts)


def test_verdict_banner_and_case(page):
    assert not page.exception
    said = words(page)
    assert "Research use only. Not for diagnosis." in said
    assert "Verdict: " in said
    assert "Chance of finding = 1" in said
    assert "Confirmed answer" in said
    assert "Similar cases it learnt from" in said


@pytest.mark.parametrize(
    "choice", ["flagged", "not flagged", "disagrees with the confirmed answer"]
)
def test_filters(page, choice):
    page.selectbox(key="filter").select(choice).run()
    assert not page.exception


def test_order_and_next_case(page):
    page.selectbox(key="sort").select("highest chance first").run()
    options = page.selectbox(key="case").options
    chances = [int(o.rsplit(": ", 1)[1].rstrip(" %")) for o in options]
    assert chances == sorted(chances, reverse=True)
    page.selectbox(key="case").select_index(1).run()
    assert not page.exception


def test_no_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_RUNS", str(tmp_path))
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    assert "no finished evaluation" in words(page)


def test_similar_cases_are_of_other_patients_and_nearest(report_run, classifier_run, data):
    review = data.open_review(report_run)
    reference = data.open_reference(review)
    case = review.cases[0]
    found = data.similar(review, reference, case)
    assert len(found) == 6
    own = np.load(report_run / "embeddings.npy")[case.row]
    everything = np.load(classifier_run / "embeddings.npy")
    cosine = everything @ own / np.linalg.norm(everything, axis=1) / np.linalg.norm(own)
    assert found[0].similarity == pytest.approx(
        max(c for c, k in zip(cosine, _split(classifier_run), strict=True) if k == "train"),
        abs=1e-4,
    )
    assert all(one.picture is not None for one in found)
    owners = dict(zip((k[0] for k in reference.keys), reference.patients, strict=True))
    assert len({owners[one.image_id] for one in found}) == 6


def _split(run):
    from medssl.runs import read_table

    return read_table(run / "embeddings.parquet").column("split").to_pylist()


def test_never_the_same_patient(report_run, data):
    """A case whose own patient is in the reference does not meet itself."""
    review = data.open_review(report_run)
    reference = data.open_reference(review)
    own = data.Case(0, "i", -1, str(reference.patients[0]), "s", {}, None)
    owners = dict(zip((k[0] for k in reference.keys), reference.patients, strict=True))
    assert own.patient_id not in {
        owners[s.image_id] for s in data.similar(review, reference, own, 12)
    }


def test_command_is_closed_and_quiet(report_run):
    line = serve.command(report_run.parent, 8501, "127.0.0.1")
    for flag in ("--browser.gatherUsageStats=false", "--server.enableXsrfProtection=true",
                 "--server.address=127.0.0.1", "--client.showErrorDetails=none"):  # fmt: skip
        assert flag in line


def test_the_wheel_carries_the_page(tmp_path):
    """Installed without the clone, the app still finds its page."""
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    where = "from medssl import serve; print(serve.page())"
    got = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(got.stdout.strip()).is_relative_to(tmp_path / "site")
