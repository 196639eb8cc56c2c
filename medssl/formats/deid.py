"""De-identified copies: what may stay in a DICOM file, and what its values become.

Runs inside the isolated worker only, and never holds the site's key: pseudonyms come with the job.
Nothing here can promise that no identity is left; it removes what it knows, and stops at the rest.
"""

import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import datadict
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import BaseTag
from pydicom.uid import UID, UID_dictionary

from medssl.formats import burned_in, dicom, dicom_pixels, segments
from medssl.formats.deid_terms import (
    AGES,
    BYTES,
    CLASSES,
    DATES,
    EMPTY,
    EMPTY_IF_ABSENT,
    IDENTIFIERS,
    KEEP,
    MEANING,
    NEEDED,
    NUMBERS,
    SEQUENCES,
    SHARED,
    TERMS,
    UIDS,
)
from medssl.formats.elements import text
from medssl.formats.geometry import FormatError

Result = tuple[dict[str, Any], list[np.ndarray[Any, Any]]]
VERSION = "1"
METHOD = f"medssl deid {VERSION} on dicom-anonymizer, PS3.15 2024b"
IMPLEMENTATION = UID("2.25.190338146829131541071391826207343417563")
MAX_DEPTH = 8
NESTED = KEEP - BYTES - SHARED - AGES - {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}
AGE_STEP, OLDEST = 5, 90
LEAST_DIGITS = 5  # shorter numbers are met by chance
FIRST_YEAR = 1900  # what lies before is a placeholder, and shifted it would be no date at all

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")
DATE_TIME = re.compile(r"(\d{8})((?:\d\d){0,3}(?:\.\d{1,6})?)(?:[+-]\d{4})?")
TIME = re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?")
AGE = re.compile(r"(\d{3})([YMWD])")
AGE_UNITS = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}

# Comments inside a compressed frame: T.81 B.2.4.5 (COM, APPn), T.800 A.9.2 (COM).


@dataclass(frozen=True)
class Rules:
    """What one file's values become.

    Attributes:
        uids: new UID of every UID met.
        terms: values by keyword that the shared tables allow.
        days: how far back the patient's dates go.
        numbers: digits of the patient's identifiers; a measured value like one of them is no value.
        dropped: elements left out, by reason.
    """

    uids: dict[str, str]
    terms: dict[str, str]
    days: int
    numbers: frozenset[str]
    dropped: Counter[str] = field(default_factory=Counter)


def identify(paths: list[Path], _: dict[str, Any]) -> Result:
    """Read whose object a file is, and every UID of it that a copy would carry.

    Returns:
        ``private``: who and what it is, as found; ``terms``: the values that the shared tables will
        judge; ``uids``; and under ``identifiers`` the texts that may stand nowhere in the copy.

    Raises:
        FormatError: not DICOM (``S-NOTDICOM``), not an image (``S-NONIMAGE``) or not usable.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings carry raw values
        ds = _image(paths[0], pixels=False)
        keywords = {
            "patient_id": "PatientID",
            "issuer": "IssuerOfPatientID",
            "study_uid": "StudyInstanceUID",
            "series_uid": "SeriesInstanceUID",
            "sop_uid": "SOPInstanceUID",
        }
        private = {name: text(ds, keyword) for name, keyword in keywords.items()}
        terms = {keyword: text(ds, keyword) for keyword in sorted(SHARED)}
        uids = sorted(set(_uids(ds)))
        told = [text(ds, k) for k in sorted(IDENTIFIERS - {"PatientBirthDate"})]
    found = {"kind": "dicom", "private": private, "terms": terms, "uids": uids}
    return {**found, "identifiers": [*told, *uids]}, []


def deidentify(paths: list[Path], settings: dict[str, Any]) -> Result:
    """Make the de-identified copy of one file.

    Args:
        paths: the file.
        settings: ``patient`` (the pseudonym), ``uids`` (new by old), ``terms`` (allowed values by
            keyword), ``days`` (how far dates go back) and ``approved`` (a person saw the picture).

    Returns:
        ``sop_uid`` of the copy, ``dropped`` elements by reason, bytes of text ``blanked`` inside or
        after the pixels; and the copy as uint8 ``[bytes]``.

    Raises:
        FormatError: a person must look first (``R-BURNED-IN``), a date is none (``E-DATE``), or an
            element that the picture needs is absent or not what it should be (``E-HEADER``).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = _image(paths[0], pixels=True)
        findings = [] if settings["approved"] else burned_in.findings(ds)
        if findings:
            words = f"waiting for review: {'; '.join(findings)}. {burned_in.SEE}"
            raise FormatError(words, "R-BURNED-IN")
        rules = Rules(settings["uids"], settings["terms"], int(settings["days"]), _digits(ds))
        blanked = _cut_tail(ds)
        shown = dicom_pixels.grey_values(ds)[0]
        blanked += _clean_frames(ds)
        _clean(ds, rules)
        _sign(ds, str(settings["patient"]))
        out = io.BytesIO()
        pydicom.dcmwrite(out, ds, enforce_file_format=True)
        _check_picture(out, shown)
    data = {"sop_uid": str(ds.SOPInstanceUID), "dropped": dict(rules.dropped), "blanked": blanked}
    return data, [np.frombuffer(out.getvalue(), np.uint8)]


def _check_picture(copy: io.BytesIO, shown: npt.NDArray[np.float32]) -> None:
    """Raise FormatError unless a copy, read again, shows the very values of its source."""
    words = "a copy would not show the same picture: an element that it needs may not leave"
    copy.seek(0)
    try:
        again = dicom_pixels.grey_values(pydicom.dcmread(copy))[0]
    except FormatError as error:
        raise FormatError(f"{words} ({error.sentence})", "E-PIXELS") from error
    if again.shape != shown.shape or not np.array_equal(again, shown, equal_nan=True):
        raise FormatError(words, "E-PIXELS")


def _image(path: Path, *, pixels: bool) -> Dataset:
    with path.open("rb") as stream:
        start = stream.read(132)
    if not dicom.looks_like_dicom(start):
        named = path.suffix.lower() in {".dcm", ".dicom", ".ima"}
        raise FormatError("not a DICOM file", "E-NOTDICOM" if named else "S-NOTDICOM")
    ds = dicom.read(path, pixels=pixels)
    dicom.check_image(ds)
    dicom.matrix(ds)
    return ds


def _element(ds: Dataset, tag: BaseTag) -> DataElement | None:
    """Return an element of the type that the standard gives it; None where it is none."""
    try:
        element = ds[tag]
        meant = datadict.dictionary_VR(tag)
        return element if meant == element.VR or element.VR in meant.split(" or ") else None
    except Exception:  # noqa: BLE001  a malformed element raises anything; it is left out and counted
        return None


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if isinstance(value, list | tuple | pydicom.multival.MultiValue):
        return list(value)
    return [] if value is None or value == "" else [value]


def _uids(ds: Dataset, depth: int = 0) -> Iterator[str]:
    for tag in list(ds.keys()):
        keyword = datadict.keyword_for_tag(tag)
        if keyword not in UIDS | SEQUENCES or (element := _element(ds, tag)) is None:
            continue
        if keyword in UIDS:
            yield from (str(value).strip() for value in _values(element))
        elif depth < MAX_DEPTH:
            for item in element.value:
                yield from _uids(item, depth + 1)


def _digits(ds: Dataset) -> frozenset[str]:
    """Return the longer numbers in the patient's identifiers, without leading zeros."""
    runs = (run for k in IDENTIFIERS for run in re.findall(r"\d+", text(ds, k)))
    return frozenset(short for run in runs if len(short := run.lstrip("0")) >= LEAST_DIGITS)


def _clean(ds: Dataset, rules: Rules) -> None:
    """Leave the keep-list, then let dicom-anonymizer apply its base rules and ours over them."""
    ds.file_meta = _file_meta(ds)
    ds.preamble = bytes(128)
    _prune(ds, rules, KEEP)
    _anonymize(ds, _actions(ds, rules), top=True)
    _prune(ds, rules, KEEP)
    absent = [keyword for keyword in sorted(NEEDED) if keyword not in ds]
    if absent:
        words = f"{', '.join(absent)} absent or not of the standard's type; export the file again"
        raise FormatError(words, "E-HEADER")


def _anonymize(ds: Dataset, actions: dict[tuple[int, int], Any], *, top: bool) -> None:
    """Apply the library's base rules (whole objects only) and our actions, which go before them."""
    import dicomanonymizer.simpledicomanonymizer as library  # type: ignore[import-untyped]

    base = library.initialize_actions_2024b if top else dict
    library.anonymize_dataset(ds, actions, True, base)


def _file_meta(ds: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(str(ds.file_meta.TransferSyntaxUID))
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "MEDSSL"
    return meta


def _prune(ds: Dataset, rules: Rules, keep: frozenset[str]) -> None:
    for tag in list(ds.keys()):
        if datadict.keyword_for_tag(tag) not in keep:
            del ds[tag]
            rules.dropped["private" if tag.is_private else "not_listed"] += 1


def _actions(ds: Dataset, rules: Rules, depth: int = 0) -> dict[tuple[int, int], Any]:
    """Return our rule for every element of a pruned data set, as dicom-anonymizer takes them."""

    def action(dataset: Dataset, place: tuple[int, int]) -> None:
        tag = BaseTag(place[0] << 16 | place[1])
        element = _element(dataset, tag)
        if element is None or not _cleaned(element, rules, depth):
            del dataset[tag]
            rules.dropped["value"] += 1

    return {(tag.group, tag.element): action for tag in ds.keys()}  # noqa: SIM118


def _cleaned(element: DataElement, rules: Rules, depth: int) -> bool:
    """Bring one kept element to its allowed value; False where it has none."""
    keyword = element.keyword
    if keyword in SEQUENCES:
        return _sequence(element, rules, depth + 1)
    if keyword in BYTES:
        return isinstance(element.value, bytes)
    if keyword in NUMBERS:
        return _is_number(element, rules)
    new = [_allowed(str(v).strip(), element, rules) for v in _values(element)]
    while new and not new[-1]:  # the place of a term among several has a meaning; a tail has none
        new.pop()
    if len(new) > _most_values(element):
        return False
    element.value = new[0] if len(new) == 1 else new
    return bool(new)


def _allowed(told: str, element: DataElement, rules: Rules) -> str:
    """Return what one text value becomes; empty where it may not stay."""
    keyword = element.keyword
    if keyword in TERMS:
        return told if re.fullmatch(TERMS[keyword], told) else ""
    if keyword in UIDS:
        return _new_uid(told, rules)
    if keyword in CLASSES:
        return told if told in UID_dictionary else ""
    if keyword in DATES:
        return _shifted(told, element, rules.days) if told else ""
    if keyword in SHARED:
        return rules.terms.get(keyword, "")
    if keyword in AGES:
        return _five_years(told)
    return told if TIME.fullmatch(told) else ""


def _sequence(element: DataElement, rules: Rules, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    for item in element.value:
        _prune(item, rules, NESTED)
        _anonymize(item, _actions(item, rules, depth), top=False)
    return len(element.value) > 0


def _most_values(element: DataElement) -> float:
    last = datadict.dictionary_VM(element.tag).split("-")[-1]
    return math.inf if last.endswith("n") else int(last)


def _is_number(element: DataElement, rules: Rules) -> bool:
    if isinstance(element.value, bytes):
        return element.VR in {"OW", "OV"}
    values = _values(element)
    if not 0 < len(values) <= _most_values(element):
        return False
    if element.VR in {"DS", "IS"}:
        texts = [str(v).strip() for v in values]
        plain = all(len(t) <= 24 and DECIMAL.fullmatch(t) for t in texts)
        same = {t.lstrip("+-0") for t in texts} & rules.numbers
        return plain and (not same or element.keyword in MEANING)
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def _new_uid(old: str, rules: Rules) -> str:
    if old not in rules.uids:
        raise FormatError("changed while it was read; repeat", "E-CHANGED")
    return rules.uids[old]


def _shifted(told: str, element: DataElement, days: int) -> str:
    """Return a date or date and time some days earlier, without time zone; empty for placeholders.

    Source: DICOM PS3.5 6.2, VR DA and DT.
    """
    match = (DATE if element.VR == "DA" else DATE_TIME).fullmatch(told)
    try:
        if match is None:
            raise ValueError
        numbers = match[1] if element.VR == "DT" else match[1] + match[2] + match[3]
        day = date(int(numbers[:4]), int(numbers[4:6]), int(numbers[6:]))
    except ValueError as error:
        words = f"{element.keyword} is not a date that can be shifted; correct it at the source"
        raise FormatError(words, "E-DATE") from error
    if day.year < FIRST_YEAR:
        return ""
    rest = match[2] if element.VR == "DT" else ""
    return f"{day - timedelta(days):%Y%m%d}{rest}"


def _five_years(told: str) -> str:
    """Return an age floored to five years, 90 and over as one."""
    match = AGE.fullmatch(told)
    if match is None:
        return ""
    years = int(int(match[1]) / AGE_UNITS[match[2]])
    return f"{min(OLDEST, years // AGE_STEP * AGE_STEP):03d}Y"


def _sign(ds: Dataset, patient: str) -> None:
    """Name the patient anew and say what was done."""
    for keyword in EMPTY | {k for k in EMPTY_IF_ABSENT if k not in ds}:
        setattr(ds, keyword, "")
    ds.PatientID = patient
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = METHOD[:64]
    ds.LongitudinalTemporalInformationModified = "MODIFIED"


def _cut_tail(ds: Dataset) -> int:
    """Cut what follows native pixels; return its bytes."""
    if not isinstance(ds.get("PixelData"), bytes):
        raise FormatError("holds no pixel data", "E-TRUNCATED")
    element = ds["PixelData"]
    wanted = _native_bytes(ds)
    extra = len(element.value) - wanted
    if UID(str(ds.file_meta.TransferSyntaxUID)).is_encapsulated or extra <= 0:
        return 0
    element.value = element.value[:wanted]
    return extra


def _clean_frames(ds: Dataset) -> int:
    """Blank the text inside compressed frames; return its bytes."""
    if not UID(str(ds.file_meta.TransferSyntaxUID)).is_encapsulated:
        return 0
    element = ds["PixelData"]
    frames, blanked = [], 0
    for frame in generate_frames(element.value, number_of_frames=dicom.matrix(ds)[2]):
        held = bytearray(frame)
        for begin, end in segments.texts(frame):
            held[begin:end] = bytes(end - begin)
            blanked += end - begin
        frames.append(bytes(held))
    if blanked:
        element.value = encapsulate(frames)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in ds:
                delattr(ds, keyword)
    return blanked


def _native_bytes(ds: Dataset) -> int:
    """Return the even number of bytes that the pixels of an uncompressed object take."""
    rows, columns, frames = dicom.matrix(ds)
    bits = rows * columns * frames * int(ds.get("BitsAllocated") or 0)
    total = -(-bits * int(ds.get("SamplesPerPixel") or 1) // 8)
    if "422" in text(ds, "PhotometricInterpretation"):
        total = total * 2 // 3
    return total + total % 2
