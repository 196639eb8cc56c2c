"""Shared fixtures: one small synthetic hospital pair, scanned, decoded and split once."""

import hashlib
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # small networks; two threads on two busy cores only spin

from medssl.cli import main
from medssl.cohort import privacy
from medssl.synthetic import SynthesisSettings, synthesize

SIZE = 32
PATIENTS = 36
SMALL = (
    f"decode.size={SIZE}",
    "encoder.name=resnet10t",
    "batch=8",
    "method.hidden=32",
    "method.out=16",
)
PROOF = bool(os.environ.get("MEDSSL_PROOF"))


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Nothing in the suite may reach beyond loopback."""
    real = socket.socket.connect

    def connect(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if host not in {"", "127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"the suite tried to reach {host}")
        return real(self, address)

    socket.socket.connect = connect
    yield
    socket.socket.connect = real


@pytest.fixture(autouse=True, scope="session")
def keys(tmp_path_factory):
    """Pseudonym keys of the whole session, away from the home folder.

    A key follows from where its file lies, so that rows, splits and draws are the same in every
    run of the suite; ``MEDSSL_PROOF`` leaves them random.
    """
    folder = tmp_path_factory.mktemp("keys")
    os.environ["MEDSSL_KEYS"] = str(folder)
    if PROOF:
        yield folder
        return
    base, make = tmp_path_factory.getbasetemp(), privacy.make_key

    def repeatable(where):
        make(where)
        if where.is_relative_to(base):
            where.write_text(hashlib.sha256(str(where.relative_to(base)).encode()).hexdigest())

    privacy.make_key = repeatable
    yield folder
    privacy.make_key = make


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A small synthetic tree."""
    out = tmp_path_factory.mktemp("synthetic") / "tree"
    synthesize(out, SynthesisSettings(patients=PATIENTS, mri_patients=4, size=48))
    return out


@pytest.fixture(scope="session")
def r1():
    """Main reference set of the statistics, deliberately miscalibrated: y, p and a worse q, 1,200 rows."""
    rng = np.random.default_rng(0)
    n = 1200
    lp = rng.normal(-1.2, 1.3, n)
    y = (rng.random(n) < expit(0.3 + 0.7 * lp)).astype(int)
    p = expit(lp)
    q = expit(lp + rng.normal(0, 0.5, n))
    np.testing.assert_allclose(lp[:3], [-1.03655071, -1.37173632, -0.36745055], atol=1e-8)
    assert p.sum() == pytest.approx(333.661767, abs=1e-6)
    assert q.sum() == pytest.approx(336.726880, abs=1e-6)
    return y, p, q


def ok(*words) -> None:
    """Run the command line and insist on success."""
    assert main([str(w) for w in words]) == 0, words


@pytest.fixture(scope="session")
def cohorts(tree, tmp_path_factory):
    """Both hospitals scanned, decoded and (A) split, by the user's door."""
    root = tmp_path_factory.mktemp("cohorts")
    for name in ("hospital_a", "hospital_b"):
        source = tree / name
        ok("scan", source, "--site", name, "--labels", source / "labels.csv", "--out", root / name)
        ok("decode", root / name, "--size", SIZE)
    ok("split", root / "hospital_a", "--seed", 0, "--val", 0.25, "--test", 0.25)
    return root


@pytest.fixture
def cohort_copy(cohorts, tmp_path):
    """A copy of hospital A's cohort that a test may damage."""
    return Path(shutil.copytree(cohorts / "hospital_a", tmp_path / "cohort"))


@pytest.fixture(scope="session")
def simclr_run(cohorts, tmp_path_factory):
    """A short SimCLR run on hospital A."""
    out = tmp_path_factory.mktemp("runs") / "simclr"
    config = Path("configs/pretrain/simclr-cxr.yaml")
    ok(
        "pretrain",
        config,
        *SMALL,
        "duration={epochs: 3}",
        "--data",
        cohorts / "hospital_a",
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="session")
def classifier_run(cohorts, simclr_run):
    """A classifier on that run's encoder."""
    out = simclr_run.parent / "classifier"
    words = ["target=finding", "budgets=[1, 20, 100]", "seeds=2", "resamples=100"]
    ok("finetune", "configs/finetune/probe.yaml", *words, "--encoder", simclr_run,
       "--data", cohorts / "hospital_a", "--out", out)  # fmt: skip
    return out


@pytest.fixture(scope="session")
def report_run(cohorts, classifier_run):
    """The classifier tested on hospital B."""
    out = classifier_run.parent / "at_b"
    words = ["resamples=200", "permutations=99"]
    ok("evaluate", classifier_run, *words, "--data", cohorts / "hospital_b", "--out", out)
    return out
