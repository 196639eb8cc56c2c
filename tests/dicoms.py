"""Small DICOM files for tests."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def radiograph(seed=0, shape=(24, 18), **elements):
    """A radiograph of noise: the seed decides its pixels, everything else may be given."""
    array = np.random.default_rng(seed).integers(0, 4000, shape, dtype=np.uint16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = (
        generate_uid(entropy_srcs=[kind, str(seed)]) for kind in ("sop", "series", "study")
    )
    ds.PatientID, ds.Modality, ds.StudyDate = f"P{seed}", "DX", "20200105"
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = array.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def save(path, ds):
    """Write one object, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write(path, seed=0, **elements):
    """Make and write one radiograph."""
    return save(path, radiograph(seed, **elements))
