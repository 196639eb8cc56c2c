"""synthesize: two synthetic hospitals with radiographs, and two MRI sites, from one seed."""

from pathlib import Path

import numpy as np

from medssl.synthetic.anatomy import Array, draw_parenchyma, lung_texture, path_length
from medssl.synthetic.brain import SITES, draw_volume, nifti_bytes
from medssl.synthetic.detector import draw_exposure, expose
from medssl.synthetic.dicom_writer import Encoding, dicom_bytes, draw_encoding, stored_values
from medssl.synthetic.population import (
    IMAGE,
    TEXTURE,
    Hospital,
    Patient,
    Study,
    draw_patient,
    draw_pose,
    hospitals,
    stream,
)
from medssl.synthetic.settings import SynthesisSettings, SynthesisSummary
from medssl.synthetic.tree import Tree, readme

__all__ = ["SynthesisSettings", "SynthesisSummary", "synthesize"]

FIELD_CM = 36.0  # side of the square whose area an average picture covers
FINEST_LUNG_GRID = 512  # cells along one side; larger pictures interpolate, and memory stays small
LABEL_COLUMNS = ("sop_instance_uid", "patient_id", "finding", "kind", "conspicuity")


def synthesize(out: Path, settings: SynthesisSettings) -> SynthesisSummary:
    """Write two synthetic hospitals and two MRI sites into a new or empty folder.

    Args:
        out: folder to write; it appears under this name only when it is complete.
        settings: how many, how large, which effects. Same settings, same bytes.

    Raises:
        UsageError: settings that no hospital can be made from.
        RefusedError: `out` holds something, or an earlier synthesis was cut short.
    """
    settings.check()
    tree = Tree(out)
    patients: dict[str, int] = {}
    images: dict[str, int] = {}
    for hospital, count in zip(
        hospitals(settings), (settings.patients, (settings.patients + 1) // 2), strict=True
    ):
        patients[hospital.name] = count
        images[hospital.name] = _write_hospital(tree, settings, hospital, count)
    patients["mri"] = images["mri"] = _write_mri(tree, settings)
    tree.write("README.md", readme(settings))
    files = tree.finish()
    return SynthesisSummary(files, tree.size_bytes, patients, images)


def _write_hospital(tree: Tree, settings: SynthesisSettings, hospital: Hospital, count: int) -> int:
    """Write the radiographs and labels of one hospital; return the number of images."""
    rows: list[tuple[object, ...]] = [LABEL_COLUMNS]
    for number in range(count):
        patient = draw_patient(settings, hospital, number)
        textures = _textures(settings, patient)
        for image, visit in enumerate(patient.study_of_image):
            study, finding = patient.studies[visit], patient.studies[visit].finding
            grey, encoding, spacing_cm = _radiograph(
                settings, patient, study, textures[visit], image
            )
            pixels = stored_values(grey, encoding)
            instance, content = dicom_bytes(
                patient, study, image, settings.seed, pixels, encoding, spacing_cm
            )
            name = f"{hospital.name}/dicom/{patient.patient_id}-{image + 1}.dcm"
            tree.write(name, content)
            present = int(finding.kind != "normal")
            visible = f"{finding.conspicuity:.3f}"
            rows.append((instance, patient.patient_id, present, finding.kind, visible))
    tree.write_table(f"{hospital.name}/labels.csv", rows, ",")
    return len(rows) - 1


def _textures(settings: SynthesisSettings, patient: Patient) -> list[Array]:
    """The lung texture of each study; vessels and grain are the patient's."""
    rng = stream(settings.seed, patient.hospital.index, patient.number, TEXTURE, 0)
    cells = min(2 * (settings.size // 3), FINEST_LUNG_GRID)
    parenchyma = draw_parenchyma(patient.physique, rng, cells)
    return [lung_texture(parenchyma, study.finding) for study in patient.studies]


def _radiograph(
    settings: SynthesisSettings, patient: Patient, study: Study, texture: Array, image: int
) -> tuple[Array, Encoding, float]:
    """Grey values [rows, columns] from 0 (black) to 1, how to store them, pixel spacing in cm."""
    rng = stream(settings.seed, patient.hospital.index, patient.number, IMAGE, image)
    shape = _draw_shape(rng, settings.size)
    spacing_cm = FIELD_CM / settings.size
    pose = draw_pose(rng, study.view)
    exposure = draw_exposure(rng, study.position, settings.nuisances, settings.drift)
    encoding = draw_encoding(rng, study.detector.monochrome1)
    path = path_length(patient.physique, texture, pose, shape, spacing_cm)
    grey = expose(path, spacing_cm, study.detector, exposure, rng)
    return grey, encoding, spacing_cm


def _draw_shape(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Rows and columns, never equal: portrait, one time in ten landscape."""
    longer = round(size * float(rng.uniform(1.03, 1.12)))
    shorter = round(size * float(rng.uniform(0.86, 0.96)))
    return (shorter, longer) if rng.random() < 0.1 else (longer, shorter)


def _write_mri(tree: Tree, settings: SynthesisSettings) -> int:
    """Write the volumes and tables of both MRI sites; return the number of patients."""
    participants: list[tuple[object, ...]] = [("participant_id", "site", "sex", "age")]
    slices: list[tuple[object, ...]] = [("participant_id", "slice", "lesion", "lesion_pixels")]
    for site in SITES:
        for number in range(settings.mri_patients):
            volume = draw_volume(settings, site, number)
            name = volume.participant_id
            tree.write(f"mri/{name}/anat/{name}_FLAIR.nii.gz", nifti_bytes(volume))
            participants.append((name, volume.site, volume.sex, volume.age))
            slices += [
                (name, index, int(pixels > 0), pixels)
                for index, pixels in enumerate(volume.lesion_pixels)
            ]
    tree.write_table("mri/participants.tsv", participants, "\t")
    tree.write_table("mri/slices.csv", slices, ",")
    return len(participants) - 1
