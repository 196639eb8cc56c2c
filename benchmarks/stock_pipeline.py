"""A user's stock pipeline against ours on the same files, our one-time decode counted in, over 20 epochs.

Command: python benchmarks/stock_pipeline.py [--files N] [--real FOLDER] [--size PX]
[--epochs-measured N] [--out FILE.md]
Stock, as tutorials have it: a torch Dataset that reads and decodes a DICOM file per item with pydicom, applies
its window, makes an 8-bit RGB picture of it, lightly's SimCLRTransform with its defaults, a DataLoader of two
workers, a ResNet-18, lightly's projection head and NTXentLoss, AdamW. Ours: scan and decode once (two workers),
then epochs from the store. Files are 2048 x 2048, 12 bits, half JPEG 2000 and half JPEG-LS, made here from a few
synthetic radiographs, each its own; with --real those of a folder. Epochs are measured, then multiplied to 20.
``input`` is the pipeline without a model: what feeds a fast accelerator. ``with model`` trains on this machine:
where the model takes nearly all the time, no pipeline can make it ten times as fast. The goal is about
``input``. Both use the same batch, side, network and number of views; augmentations are those of each, and
theirs has three equal channels where ours has one. Ours counts scan, decode and the check of the store once.
"""

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import timm
import torch
from ingest import CODERS, header
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from pydicom.pixels import apply_voi_lut
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless
from sheet import Sheet, Spent, spent
from torch.utils.data import DataLoader, Dataset

from medssl.cohort.scan import ScanSettings, scan
from medssl.config import DecodeConfig, Duration, EncoderConfig, PretrainConfig, SimCLRConfig
from medssl.decode import decode
from medssl.methods import build_method
from medssl.models.encoder import build
from medssl.synthetic import SynthesisSettings, synthesize
from medssl.train import optim
from medssl.train.course import Course, see
from medssl.train.feed import Feed
from medssl.train.material import gather, statistics

EPOCHS, WORKERS, GOAL = 20, 2, 10
SIDE, BITS = 2048, 12
TEMPERATURE = 0.2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


# Files


def radiographs(work: Path, patients: int) -> list[np.ndarray]:
    """Return a few synthetic radiographs, 2048 x 2048, 12 bits."""
    synthesize(work / "tree", SynthesisSettings(patients=patients, mri_patients=0, size=SIDE))
    made = []
    for path in sorted((work / "tree" / "hospital_a").rglob("*.dcm")):
        grey = np.asarray(pydicom.dcmread(path).pixel_array, np.float32)
        low, high = np.percentile(grey, (0.1, 99.9))
        unit = ((grey - low) / (high - low)).clip(0, 1)
        rows, columns = (np.linspace(0, s - 1, SIDE).astype(int) for s in unit.shape)
        made.append(unit[np.ix_(rows, columns)])
    shutil.rmtree(work / "tree")
    return made


def make(folder: Path, count: int, bases: list[np.ndarray]) -> Path:
    """Write files: each a base, mirrored or not, shifted, with its own tone and quantum noise."""
    folder.mkdir(parents=True)
    most = 2**BITS - 1
    for number in range(count):
        stream = np.random.default_rng(number)
        unit = bases[number % len(bases)][:, :: 1 if stream.random() < 0.5 else -1]
        unit = np.roll(unit, stream.integers(-60, 60, 2), (0, 1)) ** stream.uniform(0.8, 1.2)
        noisy = most * (0.05 + 0.9 * unit) + stream.normal(0, 6, unit.shape)
        ds = header(number, (SIDE, SIDE))
        ds.PatientID = f"B{number // 2:06d}"
        ds.PixelData = noisy.clip(0, most).astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        syntax = (JPEG2000Lossless, JPEGLSLossless)[number % 2]
        ds.compress(syntax, encoding_plugin=CODERS[syntax], generate_instance_uid=False)
        ds.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)
    return folder


# Stock


class Stock(Dataset):
    """What tutorials do: a file per item, decoded, windowed, 8 bits, RGB, then the transform."""

    def __init__(self, files: list[Path], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        ds = pydicom.dcmread(self.files[index])
        pixels = apply_voi_lut(ds.pixel_array, ds).astype(np.float32)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            pixels = pixels.max() - pixels
        pixels = (pixels - pixels.min()) / max(1e-6, pixels.max() - pixels.min())
        picture = Image.fromarray((255 * pixels).astype(np.uint8)).convert("RGB")
        return self.transform(picture)


class StockModel(torch.nn.Module):
    """ResNet-18 and lightly's projection head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("resnet18", num_classes=0, pretrained=False)
        self.head = SimCLRProjectionHead(512, 512, 128)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return projections."""
        return self.head(self.backbone(images))


@dataclass(frozen=True)
class Asked:
    """Side in pixels, batch, epochs measured."""

    size: int
    batch: int
    epochs: int


def stock(files: list[Path], asked: Asked, *, model: bool) -> Spent:
    """Return what one epoch takes, the start of the workers shared among the epochs measured."""
    torch.manual_seed(0)
    data = Stock(files, SimCLRTransform(input_size=asked.size))
    loader = DataLoader(
        data,
        asked.batch,
        shuffle=True,
        drop_last=False,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    net, criterion = StockModel().to(DEVICE), NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def epochs() -> None:
        for _ in range(asked.epochs):
            for first, second in loader:
                if not model:
                    continue
                loss = criterion(net(first.to(DEVICE)), net(second.to(DEVICE)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def whole() -> None:
        epochs()
        loader._iterator._shutdown_workers()  # so that their processor seconds are counted

    return _each(spent(whole), asked.epochs)


def _each(took: Spent, epochs: int) -> Spent:
    return Spent(took.wall / epochs, took.core / epochs)


# Ours


def once(source: Path, work: Path, size: int) -> tuple[Spent, Path]:
    """Return what scan and decode take together, and the cohort."""
    root = work / "cohort"

    def both() -> None:
        scan(
            ScanSettings(
                (source,), root, site="bench", key_file=work / "bench.key", workers=WORKERS
            )
        )
        decode(root, DecodeConfig(size=size), WORKERS)

    return spent(both), root


def opened(root: Path, asked: Asked) -> None:
    """Do what a training does once before its first step: every checksum, and the mean of the pixels."""
    config = PretrainConfig(
        method=SimCLRConfig(name="simclr"), decode=DecodeConfig(size=asked.size), batch=asked.batch
    )
    material = gather(config, root, "none")
    statistics(material.store, material.rows)


def ours(root: Path, asked: Asked, *, model: bool) -> tuple[Spent, int]:
    """Return what one epoch takes, and its images."""
    config = PretrainConfig(
        method=SimCLRConfig(name="simclr", temperature=TEMPERATURE),
        decode=DecodeConfig(size=asked.size),
        encoder=EncoderConfig(name="resnet18"),
        batch=asked.batch,
        duration=Duration(epochs=EPOCHS),
    )
    material = gather(config, root, "none")
    plan = material.policy.plan
    mean, std = statistics(material.store, material.rows)
    course = Course(material.store, plan, 1, mean, std)
    encoder = build(config.encoder, asked.size, whole=False, seed=0)
    method = build_method(config.method, encoder, 0).to(DEVICE)
    optimizer = optim.build(config.optim, method, asked.batch)

    def epochs() -> None:
        for epoch in range(asked.epochs):
            for batch in Feed(material.store, plan(epoch)):
                held = batch.to(DEVICE)
                seen = see(held, config, epoch, course, method)
                if not model:
                    continue
                method.loss(seen).total.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

    return _each(spent(epochs), asked.epochs), len(material.rows)


# Both


def compare(name: str, source: Path, asked: Asked, work: Path, sheet: Sheet) -> None:
    """Print the lines of one set of files."""
    files = sorted(source.rglob("*.dcm"))
    first, root = once(source, work, asked.size)
    checked = spent(lambda: opened(root, asked))
    first = Spent(first.wall + checked.wall, first.core + checked.core)
    for what, model in (("input", False), ("with model", True)):
        theirs = stock(files, asked, model=model)
        mine, images = ours(root, asked, model=model)
        wall = EPOCHS * theirs.wall / (first.wall + EPOCHS * mine.wall)
        core = EPOCHS * theirs.core / (first.core + EPOCHS * mine.core)
        sheet.row(name, f"{len(files)} / {images}", what, f"{theirs.wall:.2f}", f"{first.wall:.2f}",
                  f"{mine.wall:.3f}", f"{wall:.1f}", f"{core:.1f}", _even(first, theirs, mine))  # fmt: skip


def _even(first: Spent, theirs: Spent, mine: Spent) -> str:
    """Return after how many epochs the decode has paid."""
    gain = theirs.wall - mine.wall
    return f"{first.wall / gain:.1f}" if gain > 0 else "never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=64, help="made, or taken of each real folder")
    parser.add_argument(
        "--real", type=Path, action="append", default=[], help="a folder of DICOM files"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the network's input")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs-measured", type=int, default=1)
    parser.add_argument("--patients", type=int, default=3, help="synthetic patients drawn as bases")
    parser.add_argument("--no-made", action="store_true", help="real folders alone")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    asked = Asked(args.size, args.batch, args.epochs_measured)
    sheet = Sheet("A stock pipeline against ours", args.out)
    sheet.say(
        f"ResNet-18, {asked.size} px, batch {asked.batch} x 2 views, {WORKERS} workers each; "
        f"{asked.epochs} epoch(s) measured and multiplied to {EPOCHS}, one run. Goal: >= {GOAL} for input on "
        "the made files.\n"
    )
    sheet.head(
        "files", "n / ours", "what", "stock epoch, s", "our scan and decode once, s", "our epoch, s",
        f"{EPOCHS} epochs: stock/ours, wall", "core", "paid after epochs",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if not args.no_made:
            source = make(work / "made" / "files", args.files, radiographs(work, args.patients))
            compare("2048, 12 bits, J2K and JPEG-LS", source, asked, work / "made", sheet)
        for real in args.real:
            place = work / real.name
            _linked(real, place / "files", args.files)
            compare(real.name, place / "files", asked, place, sheet)
    sheet.end("stock")
    sheet.write()


def _linked(real: Path, folder: Path, count: int) -> None:
    """Copy the first files of a folder, so that no more than asked for are read."""
    folder.mkdir(parents=True)
    found = (p for p in sorted(real.rglob("*")) if p.is_file())
    dicom = (p for p in found if p.open("rb").read(132)[128:] == b"DICM")
    for number, path in zip(range(count), dicom, strict=False):
        shutil.copyfile(path, folder / f"{number:05d}.dcm")


if __name__ == "__main__":
    main()
