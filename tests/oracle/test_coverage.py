"""The coverage benchmark runs, and its tables say what they should."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("error")

PATH = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("coverage_bench", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_writes_both_tables_as_they_come(bench, tmp_path, capsys):
    out = tmp_path / "coverage.md"
    bench.main(["--runs", "2", "--resamples", "40", "--small", "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| 60 p")]
    assert {line[1].strip() for line in lines} == {"AUROC", "sensitivity", "O/E", "slope", "ICI"}
    assert all(0 <= float(line[3]) <= 100 and line[6].strip() == "2" for line in lines)
    assert "MMD, by patient" in text


def test_the_truth_is_that_of_the_recipe(bench):
    """Per-patient labels: AUROC of u + noise against a logistic label, by quadrature."""
    scenario = bench.SCENARIOS[1]
    rng = np.random.default_rng(0)
    u = rng.normal(size=400_000)
    ill = 1 / (1 + np.exp(0.5 - 1.5 * u))
    a, b = (
        rng.choice(u, 400_000, p=ill / ill.sum()),
        rng.choice(u, 400_000, p=(1 - ill) / (1 - ill).sum()),
    )
    wins = np.mean(a + rng.normal(0, 0.7, a.size) > b + rng.normal(0, 0.7, b.size))
    assert bench.truth(scenario, 0)["AUROC"] == pytest.approx(wins, abs=0.006)


def test_refuses_no_runs(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--runs", "0"])
    assert "at least 1" in capsys.readouterr().err
