"""Scan, decode, scan again and a million rows, against bare loops over the same files in one run.

Command: .venv/bin/python benchmarks/ingest.py [--quick] [--data FOLDER]. Prints a Markdown table of ratios;
nothing is asserted. Every figure is the best of three rounds, the contestants of a round one after the other.
``core`` compares processor seconds, parent and children together: what a busy machine changes least.
``clock`` compares seconds on the wall; ``started`` leaves out what the start of the children costs.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.uid import DigitalXRayImageStorageForPresentation as DX
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, generate_uid

from medssl.cohort import draw
from medssl.cohort import manifest as manifest_room
from medssl.cohort.scan import ScanSettings, scan
from medssl.config import DecodeConfig
from medssl.decode import decode
from medssl.formats import worker

ROUNDS = 3
SIDE = 96
MILLION = 1_000_000
CODERS = {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
READERS = {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall and of processors, of this process and its children."""

    clock: float
    core: float


def spent(work):
    def cores():
        both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))

    wall, core = time.perf_counter(), cores()
    work()
    return Spent(time.perf_counter() - wall, cores() - core)


def best(contestants):
    """Run every contestant once a round; return its best round."""
    rounds = [{name: spent(work) for name, work in contestants.items()} for _ in range(ROUNDS)]
    return {
        name: Spent(min(r[name].clock for r in rounds), min(r[name].core for r in rounds))
        for name in contestants
    }


def header(number, shape):
    """A radiograph's header as archives hold it: some forty elements."""
    ds = FileDataset("", Dataset(), file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = DX
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[f"o{number}"]
    )
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[f"t{number}"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[f"s{number}"])
    ds.PatientID, ds.PatientName = f"B{number // 3:06d}", f"Bench^Person{number // 3}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19500101", "F", "060Y"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101112"
    ds.Modality, ds.ViewPosition, ds.BodyPartExamined = "DX", "PA", "CHEST"
    ds.Manufacturer, ds.ManufacturerModelName = "Bench", "Model 1"
    ds.StationName, ds.SoftwareVersions, ds.DetectorType = "ROOM1", "1.2.3", "DIRECT"
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = "CHEST", "PA", "CHEST PA"
    ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY"], 1
    ds.KVP, ds.ExposureTime, ds.Exposure = "120", "10", "3"
    ds.PresentationIntentType, ds.PatientOrientation = "FOR PRESENTATION", ["L", "F"]
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = 2000, 4000, 1, 0
    ds.PixelSpacing = [0.14, 0.143]
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


def picture(number, shape):
    """Twelve bits of smooth anatomy and noise, as the decode benchmarks of the project use."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * (2048 / max(shape))
    stream = np.random.default_rng(number)
    return (
        (2000 + 1500 * np.sin(x / 300) * np.cos(y / 250) + stream.normal(0, 12, shape))
        .clip(0, 4095)
        .astype("<u2")
    )


def make(folder, count, shape, syntax=ExplicitVRLittleEndian, different=8):
    """Write ``count`` objects; compressed ones share ``different`` pictures, under patients of their own."""
    folder.mkdir(parents=True)
    drawn = {}
    for number in range(count):
        ds = header(number, shape)
        kind = number % different
        if kind not in drawn:
            ds.PixelData = picture(kind, shape).tobytes()
            if syntax in CODERS:
                ds.compress(syntax, encoding_plugin=CODERS[syntax], generate_instance_uid=False)
            drawn[kind] = ds.PixelData
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = drawn[kind]
        ds["PixelData"].VR = "OW" if syntax is ExplicitVRLittleEndian else "OB"
        ds["PixelData"].is_undefined_length = syntax in CODERS
        ds.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)
    return folder


def dicom_files(folder):
    """The files of a tree that are DICOM by their marker."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [p for p in files if p.open("rb").read(132)[128:] == b"DICM"]


def bare_headers(files):
    for path in files:
        pydicom.dcmread(path, stop_before_pixels=True)


def bare_pictures(files):
    """What a script would do: decode, resize, keep."""
    for path in files:
        try:
            ds = pydicom.dcmread(path)
            plugin = READERS.get(ds.file_meta.TransferSyntaxUID)
            array = pixel_array(ds, **({"decoding_plugin": plugin} if plugin else {}), raw=True)
            if array.ndim == 2:
                image = Image.fromarray(array.astype(np.float32))
                np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(np.uint16)
        except (ValueError, RuntimeError, AttributeError, NotImplementedError):
            continue  # a real folder holds files that no script reads either


def scanned(source, out, workers, *, update=False):
    if not update:
        shutil.rmtree(out, ignore_errors=True)
    settings = ScanSettings(
        (source,),
        out,
        site="bench",
        key_file=out.parent / "bench.key",
        workers=workers,
        update=update,
    )
    return scan(settings)


def decoded(root, workers):
    shutil.rmtree(root / "store", ignore_errors=True)
    return decode(root, DecodeConfig(size=SIDE), workers)


def row(what, files, measure, value, goal):
    verdict = "yes" if value >= goal else "**no**"
    print(f"| {what} | {files} | {measure} | {value:.2f} | >= {goal:g} | {verdict} |", flush=True)


def started(files):
    """What starting one child costs, whatever it then reads."""
    job = worker.Job("x", "header", (str(files[0]),))
    return best({"start": lambda: list(worker.run([job], 1))})["start"]


def per_core(what, files, got, start, goal):
    """Print the price of one child's work, with its start and without."""
    bare, one, n = got["bare"], got["one"], len(files)
    row(f"{what}: bare / one child", n, "clock", bare.clock / one.clock, goal)
    row(f"{what}: bare / one child", n, "core", bare.core / one.core, goal)
    row(f"{what}: bare / one child, started", n, "core", bare.core / (one.core - start.core), goal)


def scaling(what, files, got, start, goal):
    """Print what a second child brings, with their start and without."""
    one, two, n = got["one"].clock, got["two"].clock, len(files)
    ready = (one - start.clock) / (two - start.clock)
    row(f"{what}: one child / two", n, "clock", one / two, goal)
    row(f"{what}: one child / two, started", n, "clock", ready, goal)


def compare_scan(name, source, work):
    files = dicom_files(source)
    out = work / f"scan-{source.name}"
    start = started(files)
    got = best(
        {
            "bare": lambda: bare_headers(files),
            "one": lambda: scanned(source, out, 1),
            "two": lambda: scanned(source, out, 2),
            "again": lambda: scanned(source, out, 2, update=True),
        }
    )
    per_core(f"scan, {name}", files, got, start, 0.7)
    scaling(f"scan, {name}", files, got, start, 1.7)
    again = got["two"].clock / got["again"].clock
    row(f"scan, {name}: first / again unchanged", len(files), "clock", again, 10)


def compare_decode(name, source, work):
    files = dicom_files(source)
    root = work / f"decode-{source.name}"
    start = started(files)
    scanned(source, root, 2)
    got = best(
        {
            "bare": lambda: bare_pictures(files),
            "one": lambda: decoded(root, 1),
            "two": lambda: decoded(root, 2),
        }
    )
    per_core(f"decode, {name}", files, got, start, 0.9)
    scaling(f"decode, {name}", files, got, start, 1.8)


def million(folder):
    """Write a manifest of a million images of some 290,000 patients."""
    stream = np.random.default_rng(0)
    patient = np.sort(stream.integers(0, 300_000, MILLION))

    def names(prefix, numbers):
        return pa.array(np.array([f"{prefix}_{n:016x}" for n in numbers], object), pa.string())

    def whole(low, high):
        return pa.array(stream.integers(low, high, MILLION).astype(np.int32))

    columns = {c.name: pa.nulls(MILLION, c.type) for c in manifest_room.COLUMNS}
    columns |= {k: names(k[0], range(MILLION)) for k in ("image_id", "series_id", "file_id")}
    columns |= {"patient_id": names("p", patient), "study_id": names("t", patient * 3)}
    columns |= {
        "rows": whole(200, 3000),
        "columns": whole(200, 3000),
        "frames": whole(1, 2),
        "bits": whole(8, 17),
    }
    for name, choices in {
        "site": ["a"],
        "modality": ["CR", "DX"],
        "sex": ["F", "M"],
        "notes": [""],
    }.items():
        columns[name] = pa.array(
            np.array(choices, object)[stream.integers(0, len(choices), MILLION)]
        )
    told = {"medssl_schema": str(manifest_room.SCHEMA_VERSION), "medssl_sites": "{}"}
    folder.mkdir()
    pq.write_table(
        pa.table(columns, schema=manifest_room.SCHEMA.with_metadata(told)),
        folder / "manifest.parquet",
    )


def use_million(folder):
    """In a process of its own: read and filter; bags and one epoch's draw; digest. Prints JSON."""
    got = {}

    def rows():
        table = manifest_room.read(folder).table
        return table.filter(pc.equal(table.column("modality"), "DX"))

    def bags():
        return draw.make_bags(np.arange(MILLION), patient, patient, image)

    got["read and filter"] = vars(spent(rows))
    manifest = manifest_room.read(folder)
    patient, image = manifest.column("patient_id"), manifest.column("image_id")
    made = bags()
    got["bags"] = vars(spent(bags))
    got["draw"] = vars(spent(lambda: draw.plan_patients(made, 0, 1, 256, single_images=True)))
    got["digest"] = vars(spent(manifest.digest))
    scale = 1 if sys.platform == "darwin" else 1024
    got["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    print(json.dumps(got))


def compare_million(work):
    million(work / "million")
    command = [sys.executable, str(Path(__file__)), "--million", str(work / "million")]
    rounds = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(ROUNDS)
    ]
    for step in ("read and filter", "bags", "draw", "digest"):
        for measure in ("clock", "core"):
            least = min(r[step][measure] for r in rounds)
            verdict = "yes" if least < 1 else "**no**"
            print(
                f"| manifest of 10^6: {step}, s | {MILLION:,} | {measure} | {least:.2f} | < 1 | {verdict} |"
            )
    most = max(r["memory"] for r in rounds)
    verdict = "yes" if most < 1 else "**no**"
    print(
        f"| manifest of 10^6: memory, GB | {MILLION:,} | peak | {most:.2f} | < 1 | {verdict} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few files; a minute or two")
    parser.add_argument("--data", type=Path, help="a folder of real DICOM files, read only")
    parser.add_argument("--million", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.million is not None:
        use_million(given.million)
        return
    small, large = (300, 6) if given.quick else (4000, 48)
    work = Path(tempfile.mkdtemp(prefix="ingest-"))
    try:
        print(
            f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start, best of {ROUNDS}\n"
        )
        print(
            "| what | files | measure | value | goal | met |\n|---|---|---|---|---|---|", flush=True
        )
        sets = [("small native", make(work / "small", small, (256, 200)))]
        sets += [("2048 JPEG-LS", make(work / "jls", large, (2048, 2048), JPEGLSLossless))]
        sets += [("2048 JPEG 2000", make(work / "j2k", large // 2, (2048, 2048), JPEG2000Lossless))]
        time.sleep(2.5)  # a scan trusts no file younger than two seconds
        compare_scan(*sets[0], work)
        real = [] if given.data is None else [("real", given.data)]
        for one in real:
            compare_scan(*one, work)
        for one in [*sets, *real]:
            compare_decode(*one, work)
        compare_million(work)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
