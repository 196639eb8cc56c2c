"""One radiograph as the bytes of a DICOM file: CR or DX, several depths and transfer syntaxes."""

import io
import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medssl.synthetic.anatomy import Array
from medssl.synthetic.population import Patient, Study

SOP_CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
}
# Transfer syntax and the encoder plug-in that writes it; None is uncompressed.
SYNTAXES = (
    (ExplicitVRLittleEndian, None),
    (RLELossless, "pylibjpeg"),
    (JPEGLSLossless, "pyjpegls"),
    (JPEG2000Lossless, "pylibjpeg"),
)
BITS_STORED = (10, 12, 16)
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
BLACK, WHITE = 0.02, 0.98  # share of the stored range that the presentation uses


@dataclass(frozen=True)
class Encoding:
    """How one image is stored; `syntax` is an index into `SYNTAXES`."""

    syntax: int
    bits_stored: int
    photometric: str
    pixel_spacing: bool


def draw_encoding(rng: np.random.Generator, monochrome1: float) -> Encoding:
    """An encoding; `monochrome1` is the share of images stored as MONOCHROME1."""
    syntax = int(np.searchsorted((0.20, 0.40, 0.80), rng.random(), side="right"))
    bits = BITS_STORED[int(np.searchsorted((0.40, 0.85), rng.random(), side="right"))]
    photometric = MONOCHROME[0] if rng.random() < monochrome1 else MONOCHROME[1]
    return Encoding(syntax, bits, photometric, bool(rng.random() < 0.6))


def uid(*parts: object) -> str:
    """A UID under the 2.25 root that is a function of its parts alone."""
    name = "/".join(str(part) for part in parts)
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'medssl.synthetic/' + name).int}"


def stored_values(grey: Array, encoding: Encoding) -> NDArray[np.uint16]:
    """Stored pixel values [rows, columns] of grey values (0 black to 1 white)."""
    highest = 2**encoding.bits_stored - 1
    shown = np.rint((BLACK + (WHITE - BLACK) * grey) * highest)
    stored = highest - shown if encoding.photometric == MONOCHROME[0] else shown
    return np.asarray(stored, dtype="<u2")


def dicom_bytes(
    patient: Patient,
    study: Study,
    image: int,
    seed: int,
    pixels: NDArray[np.uint16],
    encoding: Encoding,
    spacing_cm: float,
) -> tuple[str, bytes]:
    """The SOP Instance UID and the bytes of one radiograph.

    Args:
        patient: the patient.
        study: the study this image belongs to.
        image: its number (from 0) among the patient's images.
        seed: seed of the synthesis; it enters the UIDs.
        pixels: stored values, little-endian uint16 [rows, columns].
        encoding: bits, photometric interpretation, transfer syntax.
        spacing_cm: pixel spacing at the detector.
    """
    dataset = Dataset()
    instance = uid(seed, patient.patient_id, "image", image)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = uid("implementation")
    dataset.file_meta.ImplementationVersionName = "MEDSSL_SYNTH"
    dataset.SOPClassUID = SOP_CLASSES[patient.hospital.modality]
    dataset.SOPInstanceUID = instance
    _add_patient(dataset, patient, study)
    _add_study(dataset, patient, study, seed)
    dataset.InstanceNumber = image + 1
    _add_pixels(dataset, pixels, encoding, spacing_cm)
    if patient.hospital.modality == "DX":
        _add_dx(dataset, encoding)
    syntax, plugin = SYNTAXES[encoding.syntax]
    if plugin is not None:
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return instance, buffer.getvalue()


def _add_patient(dataset: Dataset, patient: Patient, study: Study) -> None:
    dataset.PatientName = f"SYNTH^{patient.patient_id}"
    dataset.PatientID = patient.patient_id
    dataset.IssuerOfPatientID = f"SYNTHETIC HOSPITAL {patient.hospital.code}"
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{study.age:03d}Y"
    if patient.birth_date_known:
        dataset.PatientBirthDate = f"{patient.birth_year}0101"


def _add_study(dataset: Dataset, patient: Patient, study: Study, seed: int) -> None:
    day = study.day.strftime("%Y%m%d")
    dataset.StudyInstanceUID = uid(seed, patient.patient_id, "study", study.number)
    dataset.SeriesInstanceUID = uid(seed, patient.patient_id, "series", study.number)
    dataset.StudyID = str(study.number + 1)
    dataset.SeriesNumber = 1
    dataset.AccessionNumber = f"{patient.patient_id}-{study.number + 1}"
    dataset.StudyDate = day
    dataset.SeriesDate = day
    dataset.Modality = patient.hospital.modality
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = study.view
    dataset.PatientOrientation = ["L", "F"]
    dataset.Manufacturer = study.detector.maker
    dataset.ManufacturerModelName = study.detector.model
    dataset.InstitutionName = f"Synthetic Hospital {patient.hospital.code}"
    dataset.PresentationIntentType = "FOR PRESENTATION"


def _add_pixels(
    dataset: Dataset, pixels: NDArray[np.uint16], encoding: Encoding, spacing_cm: float
) -> None:
    spacing_mm = [round(10.0 * spacing_cm, 4)] * 2
    dataset.ImagerPixelSpacing = spacing_mm
    if encoding.pixel_spacing:
        dataset.PixelSpacing = spacing_mm
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = encoding.photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = encoding.bits_stored
    dataset.HighBit = encoding.bits_stored - 1
    dataset.PixelRepresentation = 0
    thin = pixels[::2, ::2].ravel()
    tail = thin.size // 50
    levels = np.partition(thin, (tail, thin.size - 1 - tail))
    low, high = int(levels[tail]), int(levels[-1 - tail])
    dataset.WindowCenter = (low + high) // 2
    dataset.WindowWidth = max(1, high - low)
    dataset.LossyImageCompression = "00"
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"


def _add_dx(dataset: Dataset, encoding: Encoding) -> None:
    """The attributes that the DX image module requires beyond those of CR."""
    inverse = encoding.photometric == MONOCHROME[0]
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if inverse else -1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "US"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.BurnedInAnnotation = "NO"
