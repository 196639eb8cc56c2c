"""The same verbs on real public images; skipped where they are not."""

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medssl.cli import main
from medssl.files import read_table

HERE = os.environ.get("MEDSSL_REAL_DATA")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        HERE is None, reason="MEDSSL_REAL_DATA does not name the folder of real images"
    ),
]
DATA = Path(HERE or ".")


def run(*words):
    return main([str(w) for w in words])


def test_new_hospital(tmp_path):
    """Four encodings, two photometric interpretations: 474 found, 474 stored."""
    source = DATA / "cxr_nih"
    assert (
        run(
            "scan",
            source,
            "--site",
            "nih",
            "--labels",
            source / "labels.csv",
            "--out",
            tmp_path / "c",
        )
        == 0
    )
    assert run("decode", tmp_path / "c", "--size", 32) == 0
    told = json.loads((tmp_path / "c" / "cohort.json").read_text())
    assert (told["images"], told["patients"], told["quarantined"]) == (474, 305, 0)
    assert told["labels"][0]["joined"] == 474
    rows = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    assert len({r["transfer_syntax"] for r in rows}) >= 4
    assert {r["photometric"] for r in rows} >= {"MONOCHROME1", "MONOCHROME2"}


def test_volumes_and_slice_labels(tmp_path):
    source = DATA / "mri_lgg"
    words = ["--site-column", "site", "--labels", source / "slices.csv"]
    assert run("scan", source, *words, "--out", tmp_path / "c") == 0
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    told = json.loads((tmp_path / "c" / "cohort.json").read_text())
    assert (told["images"], told["sites"]) == (95, {"CS": 16, "DU": 45, "HT": 34})
    index = pq.read_table(next((tmp_path / "c" / "store").glob("*/index.parquet")))
    assert index.num_rows == 3265
    labels = {
        (r["image_id"], r["slice"])
        for r in pq.read_table(tmp_path / "c" / "labels.parquet").to_pylist()
    }
    assert labels == set(
        zip(index.column("image_id").to_pylist(), index.column("slice").to_pylist(), strict=True)
    )


@pytest.mark.parametrize("zoo", ["dicom_zoo", "nifti_zoo"])
def test_zoos_are_accounted_for(tmp_path, zoo):
    """Nothing stops the import; every file has a verdict and a reason."""
    cohort = tmp_path / "c"
    assert run("scan", DATA / zoo, "--site", "zoo", "--out", cohort) == 0
    assert run("decode", cohort, "--size", 32) == 0
    files = read_table(cohort / "private" / "files.csv")
    assert len(files) == sum(p.is_file() for p in (DATA / zoo).rglob("*"))
    states = Counter(f["verdict"] for f in files)
    assert states["indexed"] > 0
    aside = read_table(cohort / "quarantine.csv")
    assert all(len(row["reason"]) > 8 for row in aside)
    stored = (
        pq.read_table(next((cohort / "store").glob("*/index.parquet")))
        .column("image_id")
        .to_pylist()
    )
    images = pq.read_table(cohort / "manifest.parquet").num_rows
    assert len(set(stored)) + sum(r["stage"] == "decode" for r in aside) == images


def test_one_picture_in_many_syntaxes(tmp_path):
    """Families of the zoo: the same picture stored losslessly in several ways decodes the same."""
    import numpy as np

    from medssl.formats import tasks
    from medssl.formats.geometry import FormatError

    rows = [r for r in read_table(DATA / "dicom_zoo" / "files.csv") if r["family"]]
    checked = 0
    for row in rows:
        if row["max_abs_diff_vs_family_reference"] not in {"0.0", "0"} or row["decodes"] != "yes":
            continue
        try:
            one, other = (
                tasks.read_pixels([DATA / "dicom_zoo" / row[k]])
                for k in ("file", "family_reference")
            )
        except FormatError:
            continue
        if one.array.shape == other.array.shape:
            np.testing.assert_allclose(one.array, other.array, atol=1.01, err_msg=row["file"])
            checked += 1
    assert checked >= 5
