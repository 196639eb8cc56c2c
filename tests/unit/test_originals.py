"""Files opened for a person: the whole depth, or a sentence; never a crash, never another's picture."""

import json
import shutil

import pytest

from medssl.cohort import manifest as manifest_room
from medssl.originals import Original, Reader


@pytest.fixture(scope="module")
def reader():
    made = Reader()
    yield made
    made.stop()


def images(root):
    return manifest_room.read(root).column("image_id").tolist()


def test_every_image_of_a_cohort_opens(cohorts, reader):
    root = cohorts / "hospital_a"
    for image in images(root)[:5]:
        found = reader.open(root, image)
        assert isinstance(found, Original)
        assert found.values.ndim == 3
        row = next(r for r in manifest_room.read(root).table.to_pylist() if r["image_id"] == image)
        assert found.values.shape[1:] == (row["rows"], row["columns"])


def test_sentences_instead_of_pictures(cohort_copy, reader, tmp_path):
    image = images(cohort_copy)[0]
    record = cohort_copy / "private" / "paths.json"
    told = json.loads(record.read_text())
    original = told["images"][image][0]
    broken = tmp_path / "broken.dcm"
    shutil.copy(original, broken)
    broken.write_bytes(broken.read_bytes()[:700])
    for paths, words in (
        ([str(broken)], "could not be opened"),
        ([str(tmp_path / "gone.dcm")], "no longer where it was"),
        ([], "not known on this machine"),
    ):
        told["images"][image] = paths
        record.write_text(json.dumps(told))
        found = reader.open(cohort_copy, image)
        assert isinstance(found, str)
        assert words in found
        assert str(tmp_path) not in found
    record.unlink()
    assert "not known" in reader.open(cohort_copy, image)


def test_a_file_that_became_another_patients_is_not_shown(cohort_copy, reader):
    first, other = images(cohort_copy)[0], images(cohort_copy)[-1]
    record = cohort_copy / "private" / "paths.json"
    told = json.loads(record.read_text())
    told["images"][first] = told["images"][other]
    record.write_text(json.dumps(told))
    assert isinstance(reader.open(cohort_copy, first), str)
