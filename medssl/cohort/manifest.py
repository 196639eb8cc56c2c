"""The table of images: its columns, reading, writing and checking."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.files import atomic

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Column:
    """One column: its name, arrow type, meaning, and the DICOM keyword it comes from."""

    name: str
    type: pa.DataType
    meaning: str
    keyword: str = ""


TEXT, INT, REAL = pa.string(), pa.int32(), pa.float64()
COLUMNS = (
    Column(
        "image_id", TEXT, "keyed digest of the object, the same at every scan", "SOPInstanceUID"
    ),
    Column("patient_id", TEXT, "keyed pseudonym of site, issuer and patient", "PatientID"),
    Column("study_id", TEXT, "keyed pseudonym of the study", "StudyInstanceUID"),
    Column("series_id", TEXT, "keyed pseudonym of the series", "SeriesInstanceUID"),
    Column("site", TEXT, "the hospital, as named at scan"),
    Column("kind", TEXT, "image, frames or volume"),
    Column("format", TEXT, "dicom, nifti or raster"),
    Column("modality", TEXT, "kind of acquisition", "Modality"),
    Column("view", TEXT, "direction of a projection", "ViewPosition"),
    Column("laterality", TEXT, "L, R or B", "ImageLaterality"),
    Column("body_part", TEXT, "examined part", "BodyPartExamined"),
    Column("intent", TEXT, "FOR PRESENTATION or FOR PROCESSING", "PresentationIntentType"),
    Column("sex", TEXT, "F, M or O", "PatientSex"),
    Column("age_band", TEXT, "five years wide; 90+ is one band", "PatientAge"),
    Column("day", INT, "days since the patient's first study in the cohort", "StudyDate"),
    Column("year", INT, "calendar year of the study", "StudyDate"),
    Column("rows", INT, "height of the stored matrix, pixels", "Rows"),
    Column("columns", INT, "width of the stored matrix, pixels", "Columns"),
    Column("frames", INT, "frames or slices", "NumberOfFrames"),
    Column("spacing_row_mm", REAL, "between rows, mm", "PixelSpacing"),
    Column("spacing_col_mm", REAL, "between columns, mm", "PixelSpacing"),
    Column("spacing_slice_mm", REAL, "between slices, mm", "SpacingBetweenSlices"),
    Column("bits", INT, "bits stored per sample", "BitsStored"),
    Column("photometric", TEXT, "meaning of the samples", "PhotometricInterpretation"),
    Column("transfer_syntax", TEXT, "encoding, as UID", "TransferSyntaxUID"),
    Column("manufacturer", TEXT, "maker of the device", "Manufacturer"),
    Column("model", TEXT, "model of the device", "ManufacturerModelName"),
    Column("file_id", TEXT, "points into private/files.csv"),
    Column("notes", TEXT, "codes of what is unusual, separated by blanks"),
)
SCHEMA = pa.schema([(c.name, c.type) for c in COLUMNS])


@dataclass(frozen=True)
class Manifest:
    """The images of one cohort.

    Attributes:
        table: one row per image, columns as ``COLUMNS``.
        root: the cohort's folder.
        sites: digest of the key file of every site.
    """

    table: pa.Table
    root: Path
    sites: dict[str, str]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column as a NumPy array; absent text is None."""
        values = self.table.column(name)
        if pa.types.is_string(values.type):
            return values.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        return np.asarray(values.to_pylist(), dtype=object)

    @property
    def patients(self) -> list[str]:
        """Return every patient once, sorted."""
        return sorted(self.table.column("patient_id").unique().to_pylist())

    def summary(self) -> dict[str, Any]:
        """Return counts and the digest, as a run records them."""
        patients = dict(zip(self.column("patient_id"), self.column("site"), strict=True))
        return {
            "sha256": self.digest(),
            "images": self.table.num_rows,
            "patients": len(patients),
            "patients_per_site": dict(sorted(Counter(patients.values()).items())),
            "site_keys": self.sites,
        }

    def digest(self) -> str:
        """Return the SHA-256 of the table's content: names, what is absent, lengths and values."""
        found = hashlib.sha256()
        for name in sorted(self.table.column_names):
            found.update(f"{name}\0{self.table.num_rows}\0".encode())
            for part in _content(self.table.column(name)):
                found.update(part)
        return found.hexdigest()


def _content(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """Yield the bytes that tell one column from another, however it lies in memory."""
    yield column.is_null().to_numpy().astype(np.uint8).data
    column = pa.chunked_array([column.combine_chunks()], column.type)
    if not pa.types.is_string(column.type):
        yield column.fill_null(0).to_numpy().astype(column.type.to_pandas_dtype()).data
        return
    for chunk in column.fill_null("").chunks:
        _, places, letters = chunk.buffers()
        edges = np.frombuffer(places, "<i4")[chunk.offset : chunk.offset + len(chunk) + 1]
        yield np.diff(edges).data
        if letters is not None:
            yield memoryview(letters)[edges[0] : edges[-1]]


def write(root: Path, rows: list[dict[str, Any]], sites: dict[str, str]) -> Manifest:
    """Make and write the table of images.

    Raises:
        UsageError: an image twice, or a row without patient.
    """
    manifest = make(root, rows, sites)
    store(manifest)
    return manifest


def make(root: Path, rows: list[dict[str, Any]], sites: dict[str, str]) -> Manifest:
    """Return the table of images, sorted by image, without writing it.

    Raises:
        UsageError: an image twice, or a row without patient.
    """
    ordered = sorted(rows, key=lambda row: row["image_id"])
    _check(ordered)
    metadata = {
        "medssl_schema": str(SCHEMA_VERSION),
        "medssl_sites": json.dumps(sites, sort_keys=True),
    }
    table = pa.Table.from_pylist(ordered, schema=SCHEMA.with_metadata(metadata))
    return Manifest(table, root, sites)


def store(manifest: Manifest) -> None:
    """Write ``manifest.parquet``."""
    with atomic(manifest.root / "manifest.parquet") as out:
        pq.write_table(manifest.table, out)


def _check(rows: list[dict[str, Any]]) -> None:
    images = Counter(row["image_id"] for row in rows)
    problems = [f"image {i} stands {n} times." for i, n in images.items() if n > 1]
    problems += [f"image {r['image_id']} has no patient." for r in rows if not r["patient_id"]]
    if problems:
        raise UsageError(problems[:20], "E-MANIFEST")


def read(root: Path) -> Manifest:
    """Read and check a cohort's manifest.

    Raises:
        NothingUsableError: no manifest there, or no image in it.
        RefusedError: written by another version.
    """
    path = root / "manifest.parquet"
    if not path.is_file():
        words = f"{root}: no manifest.parquet; make it with: medssl scan SOURCE --site NAME --out {root}"
        raise NothingUsableError(words, "E-NOCOHORT")
    # read_table would load pandas first, which takes longer than reading.
    with pq.ParquetFile(path) as stored:
        table = stored.read()
    metadata = table.schema.metadata or {}
    version = metadata.get(b"medssl_schema", b"?").decode()
    if version != str(SCHEMA_VERSION) or table.schema.names != SCHEMA.names:
        words = (
            f"{path}: schema {version}, this medssl reads {SCHEMA_VERSION}; scan the folder again."
        )
        raise RefusedError(words, "E-SCHEMA")
    if table.num_rows == 0:
        raise NothingUsableError(f"{path}: holds no image.", "E-EMPTY")
    return Manifest(table, root, json.loads(metadata[b"medssl_sites"]))
