"""Our views against kornia's on the same recipe and the same images, in one run.

Command: python benchmarks/views.py [--out FILE.md]. Nothing is asserted. On a CPU one thread, in
CPU seconds; where there is a GPU, on that too, in wall seconds after it has finished. Ours and
kornia's take turns, the best of several counts. The whole recipe includes drawing the parameters, the single
operations do not.

What is the same: one crop, rotation and translation (kornia's RandomAffine, in one interpolation,
its fastest way), half mirrored, brightness, contrast, gamma, blur (11 taps), noise, one erased box,
equalisation and elastic deformation. What is not: kornia's contrast is about zero, ours about the
image's mean; kornia equalises 256 steps per channel, ours lies linear between them and leaves out
the letterbox; kornia's elastic smooths a noise field, ours is a B-spline grid folded into the one
interpolation.
"""

import argparse
import time
import warnings
from pathlib import Path

import kornia.augmentation as rival
import torch

from medssl import views
from medssl.config import ViewsConfig
from medssl.views import batch, geometry, texture, tone

BATCH, SIZES, ROUNDS = 128, (64, 224), 7
RECIPE = ViewsConfig(
    crop_area=(0.5, 1.0), rotation_deg=10, shift=0.05, flip=True, elastic=0.05,
    equalise_probability=0.5, brightness=0.3, contrast=0.3, gamma=0.3, blur_sigma=2.0,
    noise_std=0.1, cutout=0.3,
)  # fmt: skip
ALWAYS = RECIPE.model_copy(
    update=dict.fromkeys(
        ("elastic_probability", "equalise_probability", "blur_probability", "noise_probability"), 1
    )
)


def rivals(side, p):
    """kornia's operations by our names, each with probability p."""
    smooth = side // 4 | 1
    return {
        "crop, rotation, translation": [rival.RandomAffine(10, (0.05, 0.05), (1.0, 1.41), p=1.0)],
        "flip": [rival.RandomHorizontalFlip(p=0.5)],
        "elastic": [
            rival.RandomElasticTransform((smooth, smooth), (side / 8, side / 8), (0.5, 0.5), p=p)
        ],
        "equalise": [rival.RandomEqualize(p=p)],
        "gamma, contrast, brightness": [
            rival.RandomGamma((0.8, 1.2), p=1.0),
            rival.RandomContrast((0.7, 1.3), p=1.0),
            rival.RandomBrightness((0.7, 1.3), p=1.0),
        ],
        "blur": [rival.RandomGaussianBlur((11, 11), (0.1, 2.0), "replicate", p=p)],
        "noise": [rival.RandomGaussianNoise(std=0.1, p=p)],
        "cut-out": [rival.RandomErasing((0.02, 0.09), (0.7, 1.4), p=1.0)],
    }


def sampled(config=ALWAYS):
    return views.sample(config, views.uniforms(0, 0, 0, slice(0, BATCH)), 2)


def alone(images):
    """Our operations by name, each on all images, in the same blocks as the whole."""
    buffer = images.clone()

    def over(work, **change):
        known = sampled(ALWAYS.model_copy(update=change))

        def run():
            step = batch.block(images) if images.device.type == "cpu" else BATCH
            for k in range(0, BATCH, step):
                how = known.part(k, k + step).to(images.device)
                buffer[k : k + step] = work(images[k : k + step], how)

        return run

    return {
        "crop, rotation, translation": over(
            lambda x, h: geometry.move(x, h, bent=False), flip=False, elastic=0
        ),
        "flip": None,
        "elastic": over(lambda x, h: geometry.move(x, h, bent=True)),
        "equalise": over(lambda x, _: tone.equalise(x.clone())),
        "gamma, contrast, brightness": over(
            lambda x, h: tone.grey(x.clone(), h.gamma, h.contrast, h.brightness).clamp_(0, 1)
        ),
        "blur": over(lambda x, h: texture.blur(x, h.sigma, 2.0)),
        "noise": over(lambda x, h: texture.noise(x.clone(), h.noise, h.noise_key)),
        "cut-out": over(lambda x, h: texture.cut(x.clone(), h.hole_size, h.hole_centre)),
    }


def seconds(work, device):
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def race(ours, theirs, device):
    """Images per second of both: they take turns, the best of several counts."""
    best = [float("inf")] * 2
    for _ in range(ROUNDS + 1):
        for k, work in enumerate((ours, theirs)):
            best[k] = min(best[k], seconds(work, device))
    return BATCH / best[0], BATCH / best[1]


def repeated(steps, images):
    """kornia's operations again with the parameters that they have drawn; noise is drawn anew."""
    drawn = isinstance(steps[0], rival.RandomGaussianNoise)
    for step in steps:
        step(images)

    def run():
        out = images
        for step in steps:
            out = step(out, params=None if drawn else step._params)

    return run


def measure(side, device):
    """Rows of a table: name, ours, kornia's, each in images per second (None: costs nothing)."""
    images = torch.rand(BATCH, 1, side, side).to(device)
    half, whole, own = rivals(side, 0.5), rivals(side, 1.0), alone(images)
    everything = rival.AugmentationSequential(*[step for part in half.values() for step in part])
    yield (
        "whole recipe",
        *race(
            lambda: views.apply(images, sampled(RECIPE), RECIPE),
            lambda: everything(images),
            device,
        ),
    )
    for name, work in own.items():
        steps = repeated(whole[name], images)
        if work is None:
            yield name, None, race(steps, steps, device)[1]
        else:
            yield name, *race(work, steps, device)


def table(rows):
    lines = ["| device | side | operation | medssl, images/s | kornia, images/s | ratio |"]
    lines.append("|---|---|---|---|---|---|")
    for device, side, name, ours, theirs in rows:
        told = "in the crop, free" if ours is None else f"{ours:,.0f}"
        ratio = "" if ours is None else f"{ours / theirs:.2f}"
        lines.append(f"| {device} | {side} | {name} | {told} | {theirs:,.0f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with torch.inference_mode():
        rows = [(d, s, *row) for d in devices for s in SIZES for row in measure(s, d)]
    told = table(rows)
    print(told)
    if args.out is not None:
        args.out.write_text(told)


if __name__ == "__main__":
    main()
