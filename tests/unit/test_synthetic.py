"""The synthetic hospitals: reproducible, valid, varied, and planted as the labels say."""

import csv
import hashlib
from collections import Counter
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pydicom
import pytest

import medssl.synthetic as synthetic
from medssl.errors import RefusedError, UsageError
from medssl.synthetic import SynthesisSettings, brain, synthesize
from medssl.synthetic.detector import DETECTORS, draw_exposure, expose
from medssl.synthetic.dicom_writer import (
    BITS_STORED,
    MONOCHROME,
    SYNTAXES,
    Encoding,
    dicom_bytes,
    stored_values,
)
from medssl.synthetic.population import IMAGE, draw_patient, hospitals, stream

SMALL = SynthesisSettings(patients=6, mri_patients=1, size=48, seed=3)


def tree_bytes(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def rows(path, delimiter=","):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def grey_values(settings, patient, image):
    """Grey values of one image, without the DICOM round trip."""
    visit = patient.study_of_image[image]
    texture = synthetic._textures(settings, patient)[visit]
    return synthetic._radiograph(settings, patient, patient.studies[visit], texture, image)[0]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A proportionate sample, its summary, and the stored values of every file as drawn."""
    drawn = {}

    def recorded(patient, study, image, seed, pixels, encoding, spacing_cm):
        instance, content = dicom_bytes(patient, study, image, seed, pixels, encoding, spacing_cm)
        drawn[instance] = pixels.copy()
        return instance, content

    root = tmp_path_factory.mktemp("synthesis") / "sample"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "dicom_bytes", recorded)
        summary = synthesize(root, SynthesisSettings(patients=40, mri_patients=4))
    headers = {p: pydicom.dcmread(p) for p in sorted(root.glob("hospital_*/dicom/*.dcm"))}
    return root, summary, headers, drawn


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "tree"
    synthesize(root, SMALL)
    return tree_bytes(root)


def test_same_settings_write_the_same_bytes(tmp_path, small):
    synthesize(tmp_path / "again", SMALL)
    assert tree_bytes(tmp_path / "again") == small


def test_a_patient_is_the_same_whatever_the_number_of_patients(tmp_path, small):
    synthesize(tmp_path / "more", replace(SMALL, patients=9, mri_patients=2))
    more = tree_bytes(tmp_path / "more")
    images = {name for name in small if name.endswith((".dcm", ".nii.gz"))}
    assert {name: more[name] for name in images} == {name: small[name] for name in images}
    assert len(more) > len(small)
    for table in ("hospital_a/labels.csv", "hospital_b/labels.csv"):
        assert more[table].startswith(small[table])


@pytest.mark.parametrize(
    ("change", "untouched"),
    [
        ({"seed": 4}, ()),
        ({"size": 56}, ("mri/",)),
        ({"nuisances": False}, ("mri/", "hospital_a/labels.csv", "hospital_b/labels.csv")),
        ({"drift": False}, ("mri/", "hospital_a/labels.csv", "hospital_b/labels.csv")),
        ({"subgroup_effect": False}, ("mri/",)),
        ({"detector_difference": False}, ("mri/", "hospital_a/", "hospital_b/labels.csv")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_setting_bites_where_it_should_and_nowhere_else(tmp_path, small, change, untouched):
    synthesize(tmp_path / "changed", replace(SMALL, **change))
    changed = tree_bytes(tmp_path / "changed")
    names = {n for n in small if n not in ("README.md", "SHA256SUMS")}
    kept = {n for n in names if untouched and n.startswith(untouched)}
    assert {n: changed[n] for n in kept} == {n: small[n] for n in kept}
    radiographs = {n for n in names - kept if n.endswith(".dcm")}
    assert any(changed.get(n) != small[n] for n in radiographs)
    assert changed["README.md"] != small["README.md"]


def test_summary_and_digests_account_for_every_file(sample):
    root, summary, headers, _ = sample
    content = tree_bytes(root)
    assert summary.files == len(content)
    assert summary.size_bytes == sum(len(c) for c in content.values())
    assert summary.patients == {"hospital_a": 40, "hospital_b": 20, "mri": 8}
    assert summary.images["hospital_a"] + summary.images["hospital_b"] == len(headers)
    lines = content.pop("SHA256SUMS").decode().splitlines()
    listed = [tuple(line.split("  ", 1)) for line in lines]
    assert [name for _, name in listed] == sorted(content)
    assert all(hashlib.sha256(content[name]).hexdigest() == digest for digest, name in listed)


def test_the_committed_sample_fits_in_eight_megabytes(sample):
    _, summary, _, _ = sample
    assert summary.size_bytes * 4 < 8e6  # 160 and 16 patients are four times 40 and 4


def test_every_file_decodes_to_the_values_that_were_drawn(sample):
    _, _, headers, drawn = sample
    assert len(drawn) == len(headers)
    for header in headers.values():
        np.testing.assert_array_equal(header.pixel_array, drawn[header.SOPInstanceUID])
        assert header.pixel_array.shape == (header.Rows, header.Columns)
        assert header.HighBit == header.BitsStored - 1
        assert header.BitsAllocated == 16
        assert header.pixel_array.max() < 2**header.BitsStored


@pytest.mark.parametrize(
    ("syntax", "bits", "photometric"), list(product(range(4), BITS_STORED, MONOCHROME))
)
def test_every_encoding_is_lossless(syntax, bits, photometric, tmp_path):
    patient = draw_patient(SMALL, hospitals(SMALL)[1], 0)
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (45, 38)).astype("<u2")
    encoding = Encoding(syntax, bits, photometric, pixel_spacing=True)
    _, content = dicom_bytes(patient, patient.studies[0], 0, 0, pixels, encoding, 0.4)
    path = tmp_path / "one.dcm"
    path.write_bytes(content)
    read = pydicom.dcmread(path)
    np.testing.assert_array_equal(read.pixel_array, pixels)
    assert read.file_meta.TransferSyntaxUID == SYNTAXES[syntax][0]
    assert (read.BitsStored, read.PhotometricInterpretation) == (bits, photometric)
    assert read.PresentationLUTShape == ("INVERSE" if photometric == "MONOCHROME1" else "IDENTITY")


def test_monochrome1_stores_the_same_picture_inverted():
    grey = np.linspace(0.0, 1.0, 12).reshape(3, 4)
    dark, bright = (stored_values(grey, Encoding(0, 12, m, True)).astype(int) for m in MONOCHROME)
    np.testing.assert_array_equal(dark + bright, 4095)
    assert bright[0, 0] < bright[-1, -1]


def test_the_sample_covers_depths_photometrics_syntaxes_and_never_a_square(sample):
    _, _, headers, _ = sample
    seen = list(headers.values())
    assert {h.BitsStored for h in seen} == set(BITS_STORED)
    assert {h.PhotometricInterpretation for h in seen} == set(MONOCHROME)
    assert {h.file_meta.TransferSyntaxUID for h in seen} == {uid for uid, _ in SYNTAXES}
    assert all(h.Rows != h.Columns for h in seen)
    assert {h.Rows > h.Columns for h in seen} == {True, False}
    assert len({(h.Rows, h.Columns) for h in seen}) > 10
    assert {"PixelSpacing" in h for h in seen} == {True, False}
    assert all("ImagerPixelSpacing" in h for h in seen)


def test_headers_are_of_the_right_class_and_name_the_patient(sample):
    _, _, headers, _ = sample
    classes = {
        "CR": "1.2.840.10008.5.1.4.1.1.1",
        "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    }
    for path, h in headers.items():
        assert h.Modality == ("CR" if "hospital_a" in path.parts else "DX")
        assert h.SOPClassUID == h.file_meta.MediaStorageSOPClassUID == classes[h.Modality]
        assert h.SOPInstanceUID == h.file_meta.MediaStorageSOPInstanceUID
        assert str(h.PatientName) == f"SYNTH^{h.PatientID}"
        assert h.ViewPosition in ("PA", "AP")
        assert list(h.PatientOrientation) == ["L", "F"]
        assert h.PresentationIntentType == "FOR PRESENTATION"
        if "PatientBirthDate" in h:
            assert int(h.StudyDate[:4]) - int(h.PatientBirthDate[:4]) == int(h.PatientAge[:3])
    every = list(headers.values())
    assert len({h.SOPInstanceUID for h in every}) == len(every)
    assert {"PatientBirthDate" in h for h in every} == {True, False}
    makers = {(h.Modality, h.Manufacturer) for h in every}
    assert Counter(modality for modality, _ in makers) == {"CR": 2, "DX": 2}
    assert {h.StudyDate[:4] for h in every} == {"2021", "2022", "2023"}


def test_studies_and_accessions_agree_and_a_study_has_one_label(sample):
    root, _, headers, _ = sample
    label = {
        r["sop_instance_uid"]: (r["finding"], r["kind"], r["conspicuity"])
        for letter in "ab"
        for r in rows(root / f"hospital_{letter}" / "labels.csv")
    }
    of_study, of_patient = {}, {}
    for h in headers.values():
        key = (h.PatientID, h.AccessionNumber, h.StudyDate, h.ViewPosition, h.Manufacturer)
        of_study.setdefault(h.StudyInstanceUID, set()).add((*key, label[h.SOPInstanceUID]))
        of_patient.setdefault(h.PatientID, set()).add(h.StudyInstanceUID)
    assert all(len(values) == 1 for values in of_study.values())
    assert {len(studies) for studies in of_patient.values()} == {1, 2}


@pytest.mark.parametrize("letter", ["a", "b"])
def test_labels_join_to_every_file(sample, letter):
    root, summary, headers, _ = sample
    table = rows(root / f"hospital_{letter}" / "labels.csv")
    assert list(table[0]) == ["sop_instance_uid", "patient_id", "finding", "kind", "conspicuity"]
    named = {
        h.SOPInstanceUID: h.PatientID
        for path, h in headers.items()
        if f"hospital_{letter}" in path.parts
    }
    assert {r["sop_instance_uid"]: r["patient_id"] for r in table} == named
    assert len(table) == len(named) == summary.images[f"hospital_{letter}"]
    assert {r["kind"] for r in table} == {"normal", "focal", "diffuse"}
    for r in table:
        assert int(r["finding"]) == (r["kind"] != "normal")
        assert (float(r["conspicuity"]) > 0) == (r["kind"] != "normal")
        assert float(r["conspicuity"]) <= 1


def opacity(settings, patient, **changes):
    """What a focal finding adds to the first image's grey values, [rows, columns]."""
    study = patient.studies[0]
    finding = replace(study.finding, kind="focal", height=0.4, lateral=0.6, **changes)
    shown, hidden = (
        replace(patient, studies=(replace(study, finding=replace(finding, kind=kind)),))
        for kind in ("focal", "normal")
    )
    return grey_values(settings, shown, 0) - grey_values(settings, hidden, 0)


@pytest.mark.parametrize("number", range(4))
def test_a_focal_finding_whitens_its_own_lung_in_proportion_to_its_conspicuity(number):
    settings = replace(SMALL, nuisances=False, size=96)
    patient = draw_patient(settings, hospitals(settings)[0], number)
    strength = []
    for conspicuity in (0.1, 0.5, 1.0):
        for side in (-1, 1):
            added = opacity(settings, patient, side=side, conspicuity=conspicuity).clip(min=0.01)
            added -= 0.01
            right_half = added[:, added.shape[1] // 2 :].sum()
            left_half = added[:, : added.shape[1] // 2].sum()
            if conspicuity > 0.1:
                # The patient's left (side 1) is on the right of the picture.
                assert (right_half > 4 * left_half) if side == 1 else (left_half > 4 * right_half)
        strength.append(added.max())
    assert strength[0] < 0.05 < strength[1] < strength[2]


def test_a_diffuse_finding_touches_both_lungs():
    settings = replace(SMALL, nuisances=False, size=96)
    patient = draw_patient(settings, hospitals(settings)[0], 0)
    study = patient.studies[0]
    finding = replace(study.finding, kind="diffuse", conspicuity=1.0)
    shown, hidden = (
        replace(patient, studies=(replace(study, finding=replace(finding, kind=kind)),))
        for kind in ("diffuse", "normal")
    )
    added = np.abs(grey_values(settings, shown, 0) - grey_values(settings, hidden, 0)) > 0.02
    half = added.shape[1] // 2
    assert min(added[:, :half].mean(), added[:, half:].mean()) > 0.05


def test_images_of_one_patient_differ_but_show_the_same_chest():
    settings = replace(SMALL, nuisances=False, size=96)
    hospital = hospitals(settings)[0]
    pairs = []
    for number in range(40):
        patient = draw_patient(settings, hospital, number)
        if patient.study_of_image[:2] != (0, 0):
            continue
        crops = []
        for grey in (grey_values(settings, patient, k) for k in (0, 1)):
            top, left = (grey.shape[0] - 70) // 2, (grey.shape[1] - 70) // 2
            crop = grey[top : top + 70, left : left + 70].ravel()
            crops.append((crop - crop.mean()) / np.linalg.norm(crop - crop.mean()))
        pairs.append(crops)
    first, second = (np.array(images) for images in zip(*pairs, strict=True))
    similar = first @ second.T
    own, other = np.diag(similar), similar[~np.eye(len(pairs), dtype=bool)]
    assert len(pairs) >= 8
    assert own.max() < 0.9999
    assert own.mean() > other.mean() + 0.01


@pytest.fixture(scope="module")
def population():
    settings = SynthesisSettings()
    return {
        h.code: [draw_patient(settings, h, n) for n in range(1500)] for h in hospitals(settings)
    }


def test_prevalence_and_number_of_images(population):
    for code, prevalence in (("A", 0.40), ("B", 0.30)):
        first = [p.studies[0].finding.kind != "normal" for p in population[code]]
        images = [len(p.study_of_image) for p in population[code]]
        assert abs(np.mean(first) - prevalence) < 0.05
        assert set(images) == {1, 2, 3, 4}
        assert 0.4 < np.mean(np.array(images) >= 2) < 0.6
        assert all(set(p.study_of_image) == set(range(len(p.studies))) for p in population[code])


def test_what_is_in_the_header_is_independent_of_the_label(population):
    for patients in population.values():
        first = [p.studies[0] for p in patients]
        label = [s.finding.kind != "normal" for s in first]
        columns = {
            "sex": [p.sex == "F" for p in patients],
            "age": [s.age for s in first],
            "images": [len(p.study_of_image) for p in patients],
            "maker": [s.detector.maker == first[0].detector.maker for s in first],
            "view": [s.view == "AP" for s in first],
            "date": [s.position for s in first],
        }
        for name, column in columns.items():
            assert np.std(column) > 0, name
            assert abs(np.corrcoef(label, column)[0, 1]) < 0.09, name  # 3.5 standard errors


def test_subgroups_are_fainter_only_when_asked(population):
    plain = SynthesisSettings(subgroup_effect=False)
    hospital = hospitals(plain)[0]

    def mean_conspicuity(patients, sex, old):
        return np.mean(
            [
                s.finding.conspicuity
                for p in patients
                for s in p.studies[:1]
                if s.finding.kind != "normal" and p.sex == sex and (s.age >= 65) == old
            ]
        )

    without = [draw_patient(plain, hospital, n) for n in range(1500)]
    groups = [(sex, old) for sex in "MF" for old in (False, True)]
    ratio = [mean_conspicuity(population["A"], *g) / mean_conspicuity(without, *g) for g in groups]
    np.testing.assert_allclose(ratio, [1.0, 0.7, 0.7, 0.49], rtol=1e-9)
    level = [mean_conspicuity(without, *g) for g in groups]
    assert max(level) - min(level) < 0.12


def test_second_studies_mostly_keep_the_finding(population):
    pairs = [[s.finding for s in p.studies] for p in population["A"] if len(p.studies) == 2]
    assert len(pairs) > 200
    kept = [(a.side, a.height, a.kind) == (b.side, b.height, b.kind) for a, b in pairs]
    assert 0.7 < np.mean(kept) < 0.9
    assert {(a.kind == "normal", b.kind == "normal") for a, b in pairs} == set(
        product((True, False), repeat=2)
    )


def test_drift_lowers_the_dose_and_steepens_the_tone_with_the_date():
    def drawn(position, drift):
        return draw_exposure(stream(0, 0, 0, IMAGE, 0), position, nuisances=True, drift=drift)

    assert drawn(1.0, True).dose < 0.6 * drawn(0.0, True).dose
    assert drawn(1.0, True).tone > 1.2 * drawn(0.0, True).tone
    assert drawn(1.0, False) == drawn(0.0, False) == drawn(0.0, True)


def test_markers_and_collimation_are_nuisances_that_can_be_left_out():
    path, detector = np.full((100, 80), 10.0), DETECTORS["A"][0]
    white = {True: 0, False: 0}
    for number in range(12):
        for nuisances in white:
            rng = stream(0, 0, number, IMAGE, 0)
            exposure = draw_exposure(rng, 0.5, nuisances, drift=False)
            grey = expose(path, 0.4, detector, exposure, rng)
            framed = grey[[0, -1]].mean() > 0.4
            lettered = (grey[4:45, 50:76] > 0.4).sum() >= 6
            white[nuisances] += int(framed) + int(lettered)
    assert white[False] == 0
    assert white[True] >= 12


def test_mean_brightness_does_not_tell_the_label():
    settings = replace(SMALL, size=48)
    hospital = hospitals(settings)[0]
    positive, negative = [], []
    for number in range(220):
        patient = draw_patient(settings, hospital, number)
        found = patient.studies[0].finding.kind != "normal"
        (positive if found else negative).append(grey_values(settings, patient, 0).mean())
    above = np.array(positive)[:, None] > np.array(negative)[None, :]
    assert abs(above.mean() - 0.5) < 0.12  # three standard errors at this size


def test_volumes_are_never_cubes_and_have_the_stated_geometry(sample):
    root, _, _, _ = sample
    participants = rows(root / "mri" / "participants.tsv", "\t")
    assert Counter(p["site"] for p in participants) == {"MA": 4, "MB": 4}
    steps = {"MA": (4.0, 4.2, 6.0), "MB": (4.3, 3.9, 5.5)}
    orientations = set()
    for p in participants:
        name = p["participant_id"]
        image = nib.load(root / "mri" / name / "anat" / f"{name}_FLAIR.nii.gz")
        assert image.get_data_dtype() == np.int16
        assert len(set(image.shape)) == 3
        assert 10 <= image.shape[2] <= 16
        np.testing.assert_allclose(image.header.get_zooms(), steps[p["site"]], rtol=1e-5)
        assert image.header.get_xyzt_units()[0] == "mm"
        orientations.add("".join(nib.aff2axcodes(image.affine)))
        # Oblique: a slice's axis is not along a world axis.
        assert np.count_nonzero(np.abs(image.affine[:3, :3]) > 1e-3) > 3
        assert p["sex"] in "MF"
        assert 18 <= int(p["age"]) <= 90
    assert orientations == {"LAS", "RAS"}


def test_slices_csv_has_every_slice_once(sample):
    root, _, _, _ = sample
    table = rows(root / "mri" / "slices.csv")
    for p in rows(root / "mri" / "participants.tsv", "\t"):
        name = p["participant_id"]
        depth = nib.load(root / "mri" / name / "anat" / f"{name}_FLAIR.nii.gz").shape[2]
        mine = [r for r in table if r["participant_id"] == name]
        assert [int(r["slice"]) for r in mine] == list(range(depth))
        assert all(int(r["lesion"]) == (int(r["lesion_pixels"]) > 0) for r in mine)


@pytest.mark.parametrize("site", brain.SITES, ids=lambda s: s.name)
def test_lesions_are_bright_where_slices_csv_says(monkeypatch, site):
    found = 0
    for number in range(6):
        monkeypatch.setattr(brain, "LESION_SHARE", 1.0)
        ill = brain.draw_volume(SMALL, site, number)
        monkeypatch.setattr(brain, "LESION_SHARE", 0.0)
        well = brain.draw_volume(SMALL, site, number)
        assert not any(well.lesion_pixels)
        added = ill.values.astype(int) - well.values.astype(int)
        per_slice = (added > 0.02 * site.lesion).sum(axis=(0, 1))
        stated = np.array(ill.lesion_pixels)
        assert (per_slice >= 0.9 * stated).all()
        assert (stated[per_slice == 0] == 0).all()
        assert (per_slice[stated == 0] <= 40).all()
        found += stated.any()
    assert found >= 5


def test_share_of_patients_with_a_lesion():
    share = [
        any(brain.draw_volume(SMALL, site, n).lesion_pixels)
        for site in brain.SITES
        for n in range(60)
    ]
    assert 0.45 < np.mean(share) < 0.72


def test_wrong_settings_are_told_all_at_once(tmp_path):
    wrong = SynthesisSettings(patients=0, mri_patients=-1, size=8, seed=-1)
    with pytest.raises(UsageError) as caught:
        synthesize(tmp_path / "out", wrong)
    assert len(caught.value.problems) == 4
    with pytest.raises(UsageError, match="at most 2048"):
        synthesize(tmp_path / "out", SynthesisSettings(size=5000))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RefusedError, match="not an empty folder"):
        synthesize(tmp_path / "out", SMALL)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(RefusedError, match="did not finish"):
        synthesize(tmp_path / "new", SMALL)


def test_an_empty_folder_is_filled_and_a_cut_leaves_no_final_name(tmp_path, monkeypatch):
    tiny = replace(SMALL, patients=1)
    (tmp_path / "empty").mkdir()
    assert synthesize(tmp_path / "empty", tiny).files == len(tree_bytes(tmp_path / "empty"))

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_write_mri", cut)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "cut", tiny)
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("size", [32, 200])
def test_other_sizes_work(tmp_path, size):
    synthesize(tmp_path / "out", SynthesisSettings(patients=2, mri_patients=0, size=size))
    for path in (tmp_path / "out").rglob("*.dcm"):
        h = pydicom.dcmread(path)
        assert 0.8 * size < min(h.Rows, h.Columns) < max(h.Rows, h.Columns) < 1.2 * size
        assert h.pixel_array.std() > 0.1 * 2**h.BitsStored
