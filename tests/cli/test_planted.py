"""A distinct secret in every text of every object, then every byte of every artefact is searched."""

import json
import re

import pyarrow.parquet as pq
import pytest
from conftest import SIZE
from dicoms import radiograph, save
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medssl.cli import main

PATIENTS = 14
# The longest secret that each text VR takes.
LENGTHS = {
    "AE": 16,
    "CS": 16,
    "LO": 30,
    "LT": 30,
    "PN": 30,
    "SH": 16,
    "ST": 30,
    "UC": 30,
    "UR": 30,
    "UT": 30,
}
KEEP = {"SpecificCharacterSet", "PhotometricInterpretation", "PatientID", "ModalityLUTType"}


class Secrets:
    """Deals secrets and remembers where each was planted."""

    def __init__(self):
        self.planted = {}

    def deal(self, where, vr="LO"):
        word = f"ZQ{len(self.planted):05X}{'X' * 23}"[: LENGTHS.get(vr, 30)]
        self.planted[word] = where
        return word


def public_elements(secrets, prefix):
    """One element of the dictionary for every text VR keyword that a still image may carry."""
    for tag, (vr, _, _, retired, keyword) in sorted(DicomDictionary.items()):
        group = tag >> 16
        carried = group < 0x0050 and group not in {0x0000, 0x0002, 0x0004}
        if vr in LENGTHS and keyword and not retired and keyword not in KEEP and carried:
            yield keyword, secrets.deal(f"{prefix}{keyword}", vr)


def planted(seed, secrets):
    ds = radiograph(seed, shape=(40, 30))
    for keyword, word in public_elements(secrets, ""):
        setattr(ds, keyword, word)
    ds.PatientID = secrets.deal("PatientID", "LO")
    for keyword in ("Manufacturer", "ManufacturerModelName"):  # half a true name beside the secret
        setattr(ds, keyword, f"SIEMENS {secrets.deal(keyword)}")
    block = ds.private_block(0x0011, "MEDSSL TEST", create=True)
    for k, vr in enumerate(["LO", "SH", "UT", "PN"]):
        block.add_new(k, vr, secrets.deal(f"private {vr}", vr))
    inner, outer = Dataset(), Dataset()
    inner.PatientName = secrets.deal("nested twice", "PN")
    inner.CodeMeaning = secrets.deal("nested twice CodeMeaning")
    outer.ReferencedSOPInstanceUID = f"1.2.{987654000 + seed}"
    outer.TextValue = secrets.deal("nested once", "UT")
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    ds.ReferencedImageSequence = Sequence([outer])
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "19430217", "20190811", "111213.141516"
    ds.file_meta.ImplementationVersionName = secrets.deal("meta", "SH")
    ds.file_meta.SourceApplicationEntityTitle = secrets.deal("meta AE", "AE")
    # What a scan must understand stays readable for most patients, and is a secret for two.
    if seed % 7:
        ds.Modality, ds.ViewPosition, ds.PatientSex = "DX", "PA", "F"
        ds.ImageLaterality, ds.BodyPartExamined = "L", "CHEST"
        ds.PresentationIntentType, ds.BurnedInAnnotation = "FOR PRESENTATION", "NO"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
    return ds


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two hospitals full of secrets, from scan to report, with all that was said."""
    root = tmp_path_factory.mktemp("planted")
    secrets, said = Secrets(), []
    for site in "ab":
        lines = ["file,finding"]
        for k in range(PATIENTS):
            folder = root / "src" / site / secrets.deal("folder name")
            name = f"{secrets.deal('file name')}.dcm"
            save(folder / name, planted(k + 100 * (site == "b"), secrets))
            lines.append(f"{folder.name}/{name},{k % 2}")
        (root / "src" / site / f"{secrets.deal('broken file')}.dcm").write_bytes(
            b"\0" * 128 + b"DICM broken"
        )
        (root / f"{site}.csv").write_text("\n".join(lines))
    return root, secrets, said


def walk_through(root, said, capfd):
    def run(*words, code=0):
        assert main([str(w) for w in words]) == code, words
        said.extend(capfd.readouterr())

    out = root / "out"
    for site in "ab":
        source = root / "src" / site
        run("scan", source, "--site", site, "--labels", root / f"{site}.csv", "--out", out / site)
        run("decode", out / site, "--size", SIZE)
        run("check", out / site)
    run("split", out / "a", "--val", 0.25, "--test", 0.25)
    small = [
        f"decode.size={SIZE}",
        "encoder.name=resnet10t",
        "batch=2",
        "duration={epochs: 1}",
        "method.hidden=16",
    ]
    run(
        "pretrain",
        "configs/pretrain/simclr-cxr.yaml",
        *small,
        "--data",
        out / "a",
        "--out",
        out / "enc",
    )
    words = ["target=finding", "budgets=[100]", "seeds=1", "resamples=100"]
    run(
        "finetune",
        "configs/finetune/probe.yaml",
        *words,
        "--encoder",
        out / "enc",
        "--data",
        out / "a",
        "--out",
        out / "cls",
    )
    words = ["resamples=100", "permutations=99"]
    run("evaluate", out / "cls", *words, "--data", out / "b", "--out", out / "rep")
    run("scan", root / "src" / "a", "--site", "a", "--out", out / "a", code=4)  # a refusal
    return out


def readable(path):
    """The bytes of an artefact, and what a reader would unpack from it."""
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        raw += json.dumps(table.to_pydict(), default=str, ensure_ascii=False).encode()
        raw += str(table.schema.metadata).encode()
    return raw


def test_nothing_planted_is_found_again(world, capfd):
    root, secrets, said = world
    out = walk_through(root, said, capfd)
    assert len(secrets.planted) > 5000
    artefacts = [
        p for p in out.rglob("*") if p.is_file() and "private" not in p.relative_to(out).parts
    ]
    assert len(artefacts) > 30
    sources = [(str(p.relative_to(out)), readable(p)) for p in artefacts]
    sources += [("names of files", "\n".join(str(p) for p in out.rglob("*")).encode())]
    sources += [("what was said", "".join(said).encode())]
    dates = rb"19430217|1943-02-17|20190811|2019-08-11|111213\.1415"
    hits = []
    for name, raw in sources:
        for text in (raw, raw.replace(b"\0", b"")):  # UTF-16 too
            hits += [
                (name, w, secrets.planted.get(w.decode(), "?"))
                for w in re.findall(rb"ZQ[0-9A-F]{5}XXX+", text)
            ]
            hits += [(name, w, "date") for w in re.findall(dates, text)]
            hits += [(name, w, "UID") for w in re.findall(rb"1\.2\.987654[0-9]{3}", text)]
    assert not hits, (len(hits), sorted({(n, w) for n, _, w in hits})[:12])
    kept = (out / "a" / "private" / "files.csv").read_bytes()
    assert re.search(rb"ZQ[0-9A-F]{5}", kept), (
        "the search itself works: the private accounts hold them"
    )
    table = pq.read_table(out / "a" / "manifest.parquet").to_pylist()
    assert {r["manufacturer"] for r in table} == {"Siemens"}
    assert {r["model"] for r in table} == {"other"}
    assert {r["body_part"] for r in table} == {"CHEST", "other"}
    print(f"planted {len(secrets.planted)} secrets; searched {len(sources)} artefacts; found 0")
