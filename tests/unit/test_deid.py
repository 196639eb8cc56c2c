"""De-identified copies: nothing planted survives, nothing needed is lost, the accounts add up."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import ok
from PIL import Image, ImageDraw, ImageFont
from pydicom import uid as u
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from medssl.cohort.deid import DeidSettings, deid
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.files import read_table
from medssl.formats import burned_in, tasks, worker
from medssl.formats import deid as room
from medssl.formats.deid_terms import KEEP, SEQUENCES, SHARED, TERMS
from medssl.formats.geometry import FormatError

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
CANARY = "QZXVOGEL"
ROOT = "1.2.99.77777."
ROWS, COLUMNS = 40, 56
rng = np.random.default_rng(7)
SMOOTH = np.add.outer(np.linspace(0, 900, ROWS), np.linspace(0, 500, COLUMNS)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _in_this_process(request, monkeypatch):
    """Open files here: a child takes seconds to start, and one test goes through it."""
    if "real_child" not in request.fixturenames:
        monkeypatch.setattr(worker, "Pool", HerePool)


class HerePool:
    """The contract of ``worker.Pool`` without a child."""

    def __init__(self, workers):
        self.table = {**tasks.TASKS, "identify": room.identify, "deidentify": room.deidentify}

    def run(self, jobs, deadline_s=10.0):
        for job in jobs:
            paths = [Path(p) for p in job.paths]
            settings = json.loads(json.dumps(job.settings))
            head, arrays = worker._answer(self.table[job.task], paths, settings)
            yield worker.Answer(
                job.key, head["code"], head["sentence"], head["data"], tuple(arrays)
            )

    def stop(self):
        pass


@pytest.fixture
def real_child():
    """Asked for by the tests that open files in a real child."""


def picture(uid="1.1", patient="P1", **elements):
    """A CT slice that needs no person's eye."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = u.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = u.CTImageStorage, ROOT + uid
    who = str(sum(patient.encode()))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = ROOT + "2." + who, ROOT + "3." + who
    ds.FrameOfReferenceUID = ROOT + "4"
    ds.PatientID, ds.PatientName, ds.Modality = patient, f"{CANARY}^Erika", "CT"
    ds.StudyDate, ds.SeriesDate, ds.StudyTime = "20110315", "20110316", "101500.25"
    ds.PatientAge, ds.PatientSex, ds.PatientBirthDate = "074Y", "F", "19370112"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = ROWS, COLUMNS, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelSpacing, ds.SliceThickness = ["0.70", "0.4"], "3"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3.5], [1, 0, 0, 0, 1, 0]
    ds.RescaleSlope, ds.RescaleIntercept, ds.KVP = "1", "-1024", "120"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PixelData = SMOOTH.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def save(path, ds):
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def run(tmp_path, name="out", **settings):
    base = {
        "source": tmp_path / "in",
        "out": tmp_path / name,
        "key_file": tmp_path / "keys" / "a.key",
    }
    return deid(DeidSettings(**{**base, **settings}))


def copies(tmp_path, name="out"):
    return {p.name: pydicom.dcmread(p) for p in sorted((tmp_path / name).rglob("*.dcm"))}


def only(tmp_path, ds, **settings):
    save(tmp_path / "in" / "x.dcm", ds)
    run(tmp_path, **settings)
    (copy,) = copies(tmp_path).values()
    return copy


def verdicts(tmp_path, name="out"):
    rows = read_table(tmp_path / "keys" / f"{name}.deid-files.csv")
    return {Path(r["file"]).name: (r["verdict"], r["code"]) for r in rows}


def spellings(word):
    for text in (word, word.lower(), word.capitalize(), word[::-1]):
        yield from (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"))


# --- what must not survive ---


def canaried():
    """One object with a planted word in every place that can hold one."""
    ds = picture("1.5", "P5")
    for keyword, value in {
        "AccessionNumber": CANARY, "InstitutionName": CANARY, "InstitutionAddress": CANARY,
        "StudyDescription": f"MR. {CANARY}", "SeriesDescription": CANARY, "OperatorsName": CANARY,
        "ReferringPhysicianName": CANARY, "PatientComments": CANARY, "ImageComments": CANARY,
        "ProtocolName": CANARY, "StationName": CANARY, "DeviceSerialNumber": CANARY,
        "RetrieveAETitle": CANARY, "RetrieveURL": "http://" + CANARY, "SpecialNeeds": CANARY,
        "SoftwareVersions": CANARY, "OtherPatientIDs": CANARY, "EthnicGroup": CANARY,
        "TextValue": CANARY, "LongCodeValue": CANARY, "UIDValue": ROOT + "9", "ContentLabel": CANARY,
        "DerivationDescription": CANARY, "RequestedProcedureDescription": CANARY,
        "MedicalAlerts": CANARY, "PatientTelephoneNumbers": CANARY, "StrainDescription": CANARY,
        "InstitutionalDepartmentName": CANARY, "TimezoneOffsetFromUTC": "+0130",
        "ICCProfile": CANARY.encode(), "EncapsulatedDocument": CANARY.encode(),
        "PersonName": f"{CANARY}^A=B^C", "FailureAttributes": CANARY.encode(),
    }.items():  # fmt: skip
        with_vr = pydicom.datadict.tag_for_keyword(keyword)
        if with_vr is not None:
            try:
                setattr(ds, keyword, value)
            except (ValueError, TypeError):
                continue
    block = ds.private_block(0x0019, f"{CANARY} MAKER", create=True)
    for k, vr in enumerate(("LO", "UT", "PN", "UN", "OB", "ST", "SH")):
        block.add_new(k, vr, CANARY.encode() if vr in {"UN", "OB"} else CANARY)
    inner = Dataset()
    inner.PatientName = inner.RequestedProcedureDescription = CANARY
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = u.CTImageStorage, ROOT + "1.6"
    inner.private_block(0x0021, CANARY, create=True).add_new(1, "LO", CANARY)
    inner.PurposeOfReferenceCodeSequence = [Dataset()]
    inner.PurposeOfReferenceCodeSequence[0].CodeMeaning = CANARY
    inner.SourceImageSequence = [Dataset()]
    inner.SourceImageSequence[0].ImageComments = CANARY
    inner.SourceImageSequence[0].ReferencedSOPInstanceUID = ROOT + "1.7"
    ds.SourceImageSequence, ds.RequestAttributesSequence = [inner], [inner]
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000022, "LO", CANARY)
    ds.add_new(0x60003000, "OW", CANARY.encode() * 2)
    ds.add_new(0x50000030, "SH", CANARY)
    icon = Dataset()
    icon.Rows, icon.BitsAllocated, icon.PixelData = 1, 8, CANARY.encode()
    ds.IconImageSequence = [icon]
    ds.add_new(0xFFFCFFFC, "OB", CANARY.encode())
    ds.file_meta.SourceApplicationEntityTitle = CANARY
    ds.file_meta.ImplementationVersionName = CANARY
    ds.file_meta.PrivateInformationCreatorUID = ROOT + "8"
    ds.file_meta.PrivateInformation = CANARY.encode()
    ds.preamble = (CANARY * 16).encode()
    return ds


@pytest.mark.parametrize("syntax", [u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian])
def test_no_canary_survives(tmp_path, syntax):
    ds = canaried()
    ds.file_meta.TransferSyntaxUID = syntax
    path = save(tmp_path / "in" / f"{CANARY} ward" / f"{CANARY}.dcm", ds)
    assert path.read_bytes().count(CANARY.encode()) > 50
    done = run(tmp_path)
    assert done.written == 1
    for place in (tmp_path / "out").rglob("*"):
        assert CANARY not in str(place.relative_to(tmp_path))
        content = place.read_bytes() if place.is_file() else b""
        for word in (CANARY, ROOT, "20110315", "20110316", "19370112", "Erika", "ward"):
            assert not any(s in content for s in spellings(word)), (place.name, word)
    (copy,) = copies(tmp_path).values()
    assert copy.preamble == bytes(128)
    assert not any(e.tag.is_private for e in copy.iterall())
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID.startswith("2.25.")
    assert (
        copy.SourceImageSequence[0]
        .SourceImageSequence[0]
        .ReferencedSOPInstanceUID.startswith("2.25.")
    )


def test_kept_elements_hold_no_text():
    """A planted word in every element of the keep-list, one at a time, through the rules."""
    leaked = []
    skip = SEQUENCES | {"PixelData", "Rows", "Columns", "SOPClassUID", "BitsAllocated",
                        "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation"}  # fmt: skip
    for keyword in sorted(KEEP - skip):
        tag = pydicom.datadict.tag_for_keyword(keyword)
        ds = picture()
        for vr, value in (("LO", CANARY), ("UN", CANARY.encode()), ("CS", CANARY), ("UT", CANARY)):
            ds[tag] = pydicom.DataElement(tag, vr, value, already_converted=True)
            rules = room.Rules({}, dict.fromkeys(SHARED, ""), 10, frozenset())
            ds.file_meta.TransferSyntaxUID = u.ExplicitVRLittleEndian
            try:
                room._clean(ds, rules)
            except FormatError:
                continue  # an element that the picture needs; the file is refused
            out = io.BytesIO()
            pydicom.dcmwrite(out, ds)
            if CANARY.encode() in out.getvalue():
                leaked.append((keyword, vr))
    assert not leaked


@pytest.mark.parametrize(
    "keyword", sorted(set(TERMS) | SHARED | {"PatientAge", "StudyTime", "KVP"})
)
def test_kept_codes_with_the_right_type_hold_no_text(tmp_path, keyword):
    vr = pydicom.datadict.dictionary_VR(pydicom.datadict.tag_for_keyword(keyword))
    ds = picture()
    ds.add_new(pydicom.datadict.tag_for_keyword(keyword), "LO", CANARY)
    ds[keyword].VR = vr
    save(tmp_path / "in" / "x.dcm", ds)
    save(tmp_path / "in" / "y.dcm", picture("1.2"))
    run(tmp_path)
    for path in (tmp_path / "out").rglob("*.*"):
        assert CANARY.encode() not in path.read_bytes(), path


def test_a_number_like_an_identifier_is_left_out(tmp_path):
    ds = picture(AccessionNumber="0077123", SeriesNumber="77123", InstanceNumber="3")
    ds.RescaleIntercept = "-77123"
    copy = only(tmp_path, ds)
    assert "SeriesNumber" not in copy
    assert copy.InstanceNumber == 3
    assert copy.RescaleIntercept == -77123


def test_the_last_look_stops_an_identifier(tmp_path, monkeypatch):
    monkeypatch.setitem(TERMS, "RescaleType", ".*")
    save(tmp_path / "in" / "x.dcm", picture(patient="P771234", RescaleType="P771234"))
    save(tmp_path / "in" / "y.dcm", picture("1.2", "P2"))
    run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"] == ("refused", "E-LEAK")


# --- what must survive ---


def jpeg(array, **options):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def stored_as(syntax):
    ds = picture(BitsAllocated=8, BitsStored=8, HighBit=7)
    array = (SMOOTH >> 3).astype(np.uint8)
    ds.PixelData = array.tobytes()
    if syntax == u.JPEGBaseline8Bit:
        ds.PixelData = encapsulate([jpeg(array)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    elif u.UID(syntax).is_encapsulated:
        plugin = "pyjpegls" if syntax == u.JPEGLSLossless else "pylibjpeg"
        ds.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    return ds


SYNTAXES = [
    u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian, u.DeflatedExplicitVRLittleEndian,
    u.ExplicitVRBigEndian, u.RLELossless, u.JPEGBaseline8Bit, u.JPEG2000Lossless, u.JPEGLSLossless,
]  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_pixels_are_the_same_bytes(tmp_path, syntax):
    ds = stored_as(syntax)
    before = pydicom.dcmread(save(tmp_path / "in" / "x.dcm", ds))
    run(tmp_path)
    (copy,) = copies(tmp_path).values()
    assert copy.PixelData == before.PixelData
    assert copy.file_meta.TransferSyntaxUID == syntax
    for keyword in (
        "Rows",
        "PixelSpacing",
        "ImagePositionPatient",
        "RescaleIntercept",
        "KVP",
        "ImageType",
    ):
        assert copy[keyword].value == before[keyword].value


def test_what_follows_native_pixels_is_cut(tmp_path):
    """Unseen it is refused; where a person has seen the picture, only the pixels go."""
    ds = picture()
    ds.PixelData = SMOOTH.tobytes() + CANARY.encode()
    save(tmp_path / "in" / "x.dcm", ds)
    with pytest.raises(NothingUsableError):
        run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"] == ("refused", "E-HEADER")
    (tmp_path / "seen.txt").write_text("x.dcm")
    assert run(tmp_path, "again", approve=tmp_path / "seen.txt").blanked == len(CANARY)
    (copy,) = copies(tmp_path, "again").values()
    assert copy.PixelData == SMOOTH.tobytes()


def test_comments_in_a_jpeg_are_blanked(tmp_path):
    array = (SMOOTH >> 3).astype(np.uint8)
    ds = stored_as(u.JPEGBaseline8Bit)
    exif = Image.Exif()
    exif[0x010E] = CANARY
    marked = jpeg(array, comment=CANARY.encode(), exif=exif) + CANARY.encode()
    assert marked.count(CANARY.encode()) == 3
    ds.PixelData = encapsulate([marked])
    ds["PixelData"].is_undefined_length = True
    copy = only(tmp_path, ds)
    (frame,) = generate_frames(copy.PixelData, number_of_frames=1)
    assert CANARY.encode() not in frame
    np.testing.assert_array_equal(Image.open(io.BytesIO(frame)), Image.open(io.BytesIO(marked)))


def segment(marker, words):
    return bytes([0xFF, marker]) + (len(words) + 2).to_bytes(2, "big") + words


@pytest.mark.parametrize("where", ["before the end", "after the end", "thumbnail"])
def test_text_anywhere_in_a_jpeg_of_two_fragments(tmp_path, where):
    """A comment behind the scan, a tail in the last fragment, a thumbnail with an end of its own."""
    array = (SMOOTH >> 3).astype(np.uint8)
    plain, words = jpeg(array), CANARY.encode()
    if where == "before the end":
        marked = plain[:-2] + segment(0xFE, words) + plain[-2:]
    elif where == "after the end":
        marked = plain + words
    else:
        marked = plain[:2] + segment(0xE1, b"Exif\0\0" + words + plain) + plain[2:]
    ds = stored_as(u.JPEGBaseline8Bit)
    ds.PixelData = encapsulate([marked + b"\0" * (len(marked) % 2)], fragments_per_frame=2)
    ds["PixelData"].is_undefined_length = True
    copy = only(tmp_path, ds)
    assert CANARY.encode() not in copy.PixelData
    (frame,) = generate_frames(copy.PixelData, number_of_frames=1)
    np.testing.assert_array_equal(Image.open(io.BytesIO(frame)), Image.open(io.BytesIO(plain)))


def test_a_comment_in_a_later_tile_of_jpeg_2000(tmp_path):
    ds = stored_as(u.JPEG2000Lossless)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    at = frame.index(b"\xff\x90")
    length = int.from_bytes(frame[at + 6 : at + 10], "big")
    note = segment(0x64, b"\0\1" + CANARY.encode())
    tile = frame[at : at + 6] + (length + len(note)).to_bytes(4, "big") + frame[at + 10 : at + 12]
    marked = frame[:at] + tile + note + frame[at + 12 :]
    ds.PixelData = encapsulate([marked + b"\0" * (len(marked) % 2)])
    copy = only(tmp_path, ds)
    assert CANARY.encode() not in copy.PixelData
    assert room.text(copy, "PatientIdentityRemoved") == "YES"


def test_a_copy_that_would_show_another_picture_is_refused(tmp_path):
    ds = picture(RescaleType="HU")
    raw = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("RescaleSlope"),
        "DS",
        30,
        b"2.00000000000000000000000000001"[:30],
        0,
        False,
        True,
    )
    ds[raw.tag] = raw
    save(tmp_path / "in" / "x.dcm", ds)
    with pytest.raises(NothingUsableError):
        run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"][1] in {"E-PIXELS", "E-HEADER"}


def test_a_name_drawn_into_unused_bits_waits(tmp_path):
    array = SMOOTH.copy()
    array[3:9, 5:30] |= 0x8000
    ds = picture(BitsStored=12, HighBit=11)
    ds.PixelData = array.tobytes()
    save(tmp_path / "in" / "x.dcm", ds)
    with pytest.raises(NothingUsableError):
        run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"] == ("review", "R-BURNED-IN")


@pytest.mark.parametrize("sign", [0, 1])
def test_a_sign_is_no_hidden_text(tmp_path, sign):
    array = SMOOTH.astype(np.int16) - (700 if sign else 0)
    ds = picture(BitsStored=12, HighBit=11, PixelRepresentation=sign)
    ds.PixelData = array.tobytes()
    np.testing.assert_array_equal(only(tmp_path, ds).pixel_array, array)


def test_codes_ages_and_times(tmp_path):
    ds = picture(Manufacturer="GE MEDICAL SYSTEMS", BodyPartExamined="CHEST", ViewPosition="PA",
                 ImageType=["DERIVED", "PRIMARY", CANARY, "MPR", CANARY], SeriesTime="25:61")  # fmt: skip
    copy = only(tmp_path, ds)
    assert (copy.Modality, copy.BodyPartExamined, copy.ViewPosition) == ("CT", "CHEST", "PA")
    assert copy.ImageType == ["DERIVED", "PRIMARY", "", "MPR"]
    assert (copy.PatientAge, copy.PatientSex, copy.StudyTime) == ("070Y", "F", "101500.25")
    assert "SeriesTime" not in copy
    assert (copy.PatientIdentityRemoved, copy.LongitudinalTemporalInformationModified) == (
        "YES",
        "MODIFIED",
    )
    assert 0 < len(copy.DeidentificationMethod) <= 64
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.PatientName == ""
    assert copy.PatientBirthDate == ""


def test_values_that_the_shared_tables_lack(tmp_path):
    copy = only(tmp_path, picture(Modality="ZZ", Manufacturer="ACME", BodyPartExamined="SNOUT"))
    assert copy.Modality == "OT"
    assert "Manufacturer" not in copy
    assert "BodyPartExamined" not in copy


@pytest.mark.parametrize(
    ("told", "kept"),
    [("074Y", "070Y"), ("089Y", "085Y"), ("090Y", "090Y"), ("101Y", "090Y"), ("030M", "000Y"),
     ("062M", "005Y"), ("005D", "000Y"), ("74", None), ("", None)],
)  # fmt: skip
def test_ages(tmp_path, told, kept):
    assert only(tmp_path, picture(PatientAge=told)).get("PatientAge") == kept


@pytest.mark.parametrize("undefined", [True, False])
def test_nested_dates_and_uids_of_enhanced_objects(tmp_path, undefined):
    shared, frame, content = Dataset(), Dataset(), Dataset()
    content.FrameAcquisitionDateTime, content.FrameComments = "20110315101500.5+0100", CANARY
    content.InStackPositionNumber = 2
    frame.FrameContentSequence = Sequence([content])
    measures = Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared.PixelMeasuresSequence = Sequence([measures])
    ds = picture(PerFrameFunctionalGroupsSequence=[frame], SharedFunctionalGroupsSequence=[shared])
    for item, keyword in (
        (ds, "PerFrameFunctionalGroupsSequence"),
        (frame, "FrameContentSequence"),
    ):
        item[keyword].is_undefined_length = undefined
        for inner in item[keyword].value:
            inner.is_undefined_length_sequence_item = undefined
    copy = only(tmp_path, ds)
    inner = copy.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0]
    assert inner.FrameAcquisitionDateTime == copy.StudyDate + "101500.5"
    assert "FrameComments" not in inner
    assert inner.InStackPositionNumber == 2
    assert copy.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [
        0.5,
        0.25,
    ]


def test_very_deep_sequences_are_left_out(tmp_path):
    deep = Dataset()
    for _ in range(30):
        outer = Dataset()
        outer.SourceImageSequence = [deep]
        deep = outer
    copy = only(tmp_path, picture(SourceImageSequence=[deep]))
    depth = 0
    while "SourceImageSequence" in copy:
        copy, depth = copy.SourceImageSequence[0], depth + 1
    assert depth == 8


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("StudyDate", "20110230"), ("SeriesDate", "15 March"), ("StudyDate", "2011"),
     ("AcquisitionDateTime", "201103"), ("AcquisitionDateTime", "20111332101500")],
)  # fmt: skip
def test_malformed_dates_are_refused(tmp_path, keyword, value):
    ds = picture()
    ds.add_new(pydicom.datadict.tag_for_keyword(keyword), "LO", value)
    ds[keyword].VR = "DT" if "Time" in keyword else "DA"
    save(tmp_path / "in" / "x.dcm", ds)
    save(tmp_path / "in" / "y.dcm", picture("1.2"))
    done = run(tmp_path)
    assert (done.written, done.refused) == (1, 1)
    assert verdicts(tmp_path)["x.dcm"] == ("refused", "E-DATE")


def test_unlisted_elements_leave_nested_items_whatever_they_look_like(tmp_path):
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.PatientComments, item.AccessionNumber = (
        ROOT + "1.6",
        "1015",
        "7",
    )
    ds = picture(SourceImageSequence=[item])
    ds.add_new(pydicom.datadict.tag_for_keyword("ReferencedImageSequence"), "LO", CANARY)
    copy = only(tmp_path, ds)
    assert [e.keyword for e in copy.SourceImageSequence[0]] == ["ReferencedSOPInstanceUID"]
    assert "ReferencedImageSequence" not in copy


def test_placeholder_and_old_form_dates(tmp_path):
    copy = only(tmp_path, picture(SeriesDate="00010101", ContentDate="2011.03.15"))
    assert "SeriesDate" not in copy
    assert copy.ContentDate == copy.StudyDate


# --- the whole verb ---


def test_two_runs_are_the_same_bytes(tmp_path):
    for k in range(3):
        save(tmp_path / "in" / f"{k}.dcm", canaried() if k == 2 else picture(f"1.{k}"))
    first, second = run(tmp_path), run(tmp_path, "again")
    assert (first.written, first.key) == (second.written, second.key) == (3, second.key)
    for path in (tmp_path / "out").rglob("*.dcm"):
        twin = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert twin.read_bytes() == path.read_bytes()


def test_accounts_and_the_private_list(tmp_path):
    source = tmp_path / "in"
    save(source / "good.dcm", picture("1.1"))
    save(source / "twin.dcm", picture("1.1"))
    save(source / "other.dcm", picture("1.2", "P2"))
    save(source / "blank.dcm", picture("1.3", "P3", PatientID=""))
    save(source / "marked.dcm", picture("1.4", BurnedInAnnotation="YES"))
    save(source / "nouid.dcm", picture("1.8", StudyInstanceUID=""))
    report = picture("1.5", SOPClassUID=u.BasicTextSRStorage)
    save(source / "report.dcm", report)
    (source / "notes.txt").write_text(CANARY)
    cut = save(source / "cut.dcm", picture("1.9"))
    cut.write_bytes(cut.read_bytes()[:-100])
    (source / "link.dcm").symlink_to(source / "good.dcm")
    done = run(tmp_path)
    assert done.found == done.written + done.refused + done.skipped == 10
    assert verdicts(tmp_path) == {
        "good.dcm": ("written", ""), "twin.dcm": ("refused", "E-SAME-UID"),
        "cut.dcm": ("refused", "E-TRUNCATED"), "other.dcm": ("written", ""),
        "blank.dcm": ("refused", "E-NOPATIENT"), "marked.dcm": ("review", "R-BURNED-IN"),
        "nouid.dcm": ("refused", "E-NOUID"), "report.dcm": ("skipped", "S-NONIMAGE"),
        "notes.txt": ("skipped", "S-NOTDICOM"), "link.dcm": ("skipped", "S-LINK"),
    }  # fmt: skip
    told = json.loads((tmp_path / "out" / "deid.json").read_text())
    assert told["found"] == told["written"] + told["refused"] + told["skipped"]
    assert (told["review"], told["key_digest"], told["reasons"]["E-SAME-UID"]) == (1, done.key, 1)
    assert done.private == tmp_path / "keys" / "out.deid-files.csv"
    assert done.private.stat().st_mode & 0o777 == 0o600
    with done.private.open(newline="") as stream:
        rows = {r["file"]: r for r in csv.DictReader(stream)}
    assert rows["other.dcm"]["patient_id"] == "P2"
    assert (tmp_path / "out" / rows["other.dcm"]["copy"]).is_file()


def test_the_copies_carry_the_manifest_names(tmp_path):
    """The same site and key give the same names, by the door of scan."""
    save(tmp_path / "in" / "1.dcm", picture("1.1", "P1", IssuerOfPatientID="H"))
    save(tmp_path / "in" / "2.dcm", picture("1.2", "P1"))
    save(tmp_path / "in" / "3.dcm", picture("1.3", "P 2\u00e9 ", SpecificCharacterSet="ISO_IR 192"))
    assert run(tmp_path, site="a").written == 3
    key = tmp_path / "keys" / "a.key"
    ok("scan", tmp_path / "in", "--site", "a", "--key-file", key, "--out", tmp_path / "c")
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    places = {(r["patient_id"], r["study_id"], r["series_id"], r["image_id"]) for r in rows}
    found = {
        p.relative_to(tmp_path / "out").with_suffix("").parts
        for p in (tmp_path / "out").rglob("*.dcm")
    }
    assert found == places
    assert {c.PatientID for c in copies(tmp_path).values()} == {r["patient_id"] for r in rows}
    assert len({r["patient_id"] for r in rows}) == 2


def test_copies_scan_and_decode(tmp_path):
    for k in range(3):
        save(tmp_path / "in" / f"{k}", picture(f"1.{k}", ImagePositionPatient=[0, 0, 4 * k]))
    run(tmp_path)
    ok("scan", tmp_path / "out", "--site", "b", "--out", tmp_path / "c")
    ok("decode", tmp_path / "c", "--size", 16)


@pytest.mark.parametrize(
    "elements",
    [{"BurnedInAnnotation": "YES"}, {"Modality": "US"}, {"SOPClassUID": u.SecondaryCaptureImageStorage},
     {"SOPClassUID": u.UltrasoundImageStorage}, {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
     {"ConversionType": "WSD"}],
    ids=lambda e: "-".join(e),
)  # fmt: skip
def test_review_and_approval(tmp_path, elements):
    save(tmp_path / "in" / "ward 3" / "x.dcm", picture(BurnedInAnnotation="NO") if not elements else
         picture(**elements))  # fmt: skip
    with pytest.raises(NothingUsableError, match="none copied"):
        run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"] == ("review", "R-BURNED-IN")
    assert json.loads((tmp_path / "out" / "deid.json").read_text())["review"] == 1
    listed = tmp_path / "seen.txt"
    listed.write_text("ward 3/x.dcm\n")
    done = run(tmp_path, "again", approve=listed)
    assert (done.written, done.review, done.approved) == (1, 0, 1)
    listed.write_text("x.dcm\n")
    with pytest.raises(UsageError, match="line 1 first"):
        run(tmp_path, "third", approve=listed)


def test_an_overlay_in_unused_bits_waits(tmp_path):
    ds = picture(BitsStored=12, HighBit=11)
    ds.add_new(0x60000102, "US", 14)
    save(tmp_path / "in" / "x.dcm", ds)
    with pytest.raises(NothingUsableError):
        run(tmp_path)
    assert verdicts(tmp_path)["x.dcm"] == ("review", "R-BURNED-IN")


def test_places_that_would_leak_or_mix_are_refused(tmp_path):
    save(tmp_path / "in" / "x.dcm", picture())
    key = tmp_path / "keys" / "a.key"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for settings in (
        {"out": tmp_path / "full"},
        {"out": tmp_path / "in" / "copies"},
        {"out": tmp_path},
        {"out": tmp_path / "out", "key_file": tmp_path / "out" / "a.key"},
        {"private": tmp_path / "out" / "list.csv"},
        {"private": tmp_path / "full" / "mine.txt"},
    ):
        with pytest.raises(RefusedError):
            run(tmp_path, **settings)
    assert not key.exists()
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full" / "mine.txt").read_text() == "x"
    with pytest.raises(UsageError, match="no such"):
        run(tmp_path, source=tmp_path / "absent")


def test_through_the_child(tmp_path, real_child):
    save(tmp_path / "in" / "x.dcm", canaried())
    save(tmp_path / "in" / "y.dcm", picture("1.2"))
    (tmp_path / "in" / "z.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)))
    done = run(tmp_path)
    assert (done.found, done.written, done.refused + done.skipped) == (3, 2, 1)
    assert all(CANARY.encode() not in p.read_bytes() for p in (tmp_path / "out").rglob("*.*"))


# --- the screen ---


def film(rows, columns, seed):
    """A smooth picture with blobs and noise, 12 bits."""
    grid = np.random.default_rng(seed)
    small = Image.fromarray(grid.random((7, 9), dtype=np.float32)).resize(
        (columns, rows), Image.BICUBIC
    )
    values = 400 + 2600 * np.asarray(small) + grid.normal(0, 12, (rows, columns))
    return np.clip(values, 0, 4095).astype(np.float32)


def written(plane, text, size, corner, tone):
    image = Image.new("L", plane.shape[::-1])
    font = ImageFont.load_default(size)
    wide = ImageDraw.Draw(image).textlength(text, font=font)
    x = 6 if "left" in corner else plane.shape[1] - wide - 6
    y = 6 if "top" in corner else plane.shape[0] - 1.4 * size - 6
    ImageDraw.Draw(image).text((x, y), text, font=font, fill=255)
    ink = np.asarray(image) / 255
    return (plane * (1 - ink) + tone * ink).astype(np.float32)


@pytest.mark.parametrize("size", [12, 18, 28, 44])
@pytest.mark.parametrize("corner", ["top-left", "bottom-right", "top-right"])
def test_the_screen_sees_planted_text(size, corner):
    dark = film(620, 760, size) * 0.4
    assert burned_in.longest_row(dark) < burned_in.LETTERS
    bright = 4095 - dark
    for plane, tone in ((dark, 4095), (bright, 0)):
        for text in ("MUSTERMANN ERIKA", "ID 4711-0815 12.03.57"):
            marked = written(plane, text, size, corner, tone)
            assert burned_in.longest_row(marked) >= burned_in.LETTERS, text
            assert burned_in.longest_row(np.rot90(marked)) >= burned_in.LETTERS


def test_side_markers_are_no_text():
    for seed in range(6):
        plane = film(500, 420, seed)
        for mark in ("R", "L", "AP"):
            marked = written(plane, mark, 30, "top-left", 4095)
            assert burned_in.longest_row(marked) < burned_in.LETTERS


def test_the_screen_bears_odd_pictures():
    assert burned_in.longest_row(np.full((5, 9), 3.0)) == 0
    assert burned_in.longest_row(np.full((5, 9), np.nan)) == 0
    assert burned_in.longest_row(np.arange(12.0).reshape(1, 12)) == 0
    assert burned_in.longest_row(np.indices((40, 60)).sum(0) % 2 * 1.0) >= 0


def test_written_text_waits_for_review(tmp_path):
    plane = written(film(300, 400, 3) * 0.4, "MUSTERMANN ERIKA", 20, "top-left", 4095).astype(
        np.uint16
    )
    save(tmp_path / "in" / "x.dcm", picture(Rows=300, Columns=400, PixelData=plane.tobytes()))
    save(tmp_path / "in" / "y.dcm", picture("1.2"))
    done = run(tmp_path)
    assert (done.written, done.review) == (1, 1)
    assert verdicts(tmp_path)["x.dcm"] == ("review", "R-BURNED-IN")
