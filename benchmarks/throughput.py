"""End-to-end pretraining steps against the same steps on one resident random batch, in one run.

Command: make bench. Prints images per second of both and their ratio; nothing is asserted.
"""

import tempfile
import time
from pathlib import Path

import torch

from medssl.cohort.scan import ScanSettings, scan
from medssl.config import DecodeConfig, Duration, MICLeConfig, PretrainConfig
from medssl.decode import decode
from medssl.methods import build_method
from medssl.models.encoder import build
from medssl.synthetic import SynthesisSettings, synthesize
from medssl.train.feed import Feed
from medssl.train.loop import make_views
from medssl.train.pretrain import _course, gather, planner

BATCH, SIZE, STEPS = 64, 64, 8


def timed(steps, work):
    work()
    begun = time.perf_counter()
    for _ in range(steps):
        work()
    return steps / (time.perf_counter() - begun)


def main():
    root = Path(tempfile.mkdtemp())
    synthesize(root / "s", SynthesisSettings(patients=200, mri_patients=0))
    settings = ScanSettings(
        (root / "s" / "hospital_a",), root / "c", site="a", key_file=root / "a.key"
    )
    scan(settings)
    decode(root / "c", DecodeConfig(size=SIZE))
    config = PretrainConfig(
        method=MICLeConfig(name="micle"),
        decode=DecodeConfig(size=SIZE),
        batch=BATCH,
        duration=Duration(epochs=1),
    )
    material = gather(config, root / "c", "none")
    plan = planner(config, material.bags)
    course = _course(config, material, plan)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = build_method(config.method, build(config.encoder, SIZE, whole=False, seed=0), 0).to(
        device
    )
    resident = torch.randn(BATCH, 2, 1, SIZE, SIZE, device=device)
    bag = torch.arange(BATCH, device=device)

    def model_only():
        method.loss(resident, bag).total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    batches = iter(
        [b for e in range(STEPS) for b in Feed(course.store, plan(e)) if len(b.bag) > BATCH // 2]
    )

    def end_to_end():
        batch = next(batches)
        views = make_views(batch, config, 0, course, method.views).to(device)
        method.loss(views, batch.bag.to(device)).total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    bare, whole = timed(STEPS, model_only), timed(STEPS, end_to_end)
    print(f"device {device}, ResNet-18, {SIZE} px, batch {BATCH} x 2 images")
    print(f"model only   {2 * BATCH * bare:8.1f} images/s")
    print(f"end to end   {2 * BATCH * whole:8.1f} images/s")
    print(f"ratio        {whole / bare:8.3f}")


if __name__ == "__main__":
    main()
