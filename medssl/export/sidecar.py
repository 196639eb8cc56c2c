"""What travels beside the weights: preprocess.json, README.md and, when asked, ledger.json."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from medssl import __version__
from medssl.export.plain import Made
from medssl.export.steps import orientation, scaling, settings, steps
from medssl.export.subject import Subject
from medssl.models.encoder import GROUPS

SCHEMA = 1
SIDECAR, README, LEDGER = "preprocess.json", "README.md", "ledger.json"
USE = "Research use only. Not for diagnosis."


def sidecar(
    subject: Subject, made: Made, target: str, channels: int, *, with_ledger: bool
) -> dict[str, Any]:
    """Return all that must be known to feed the weights and to read what they answer."""
    return {
        "schema": SCHEMA,
        "made_by": f"medssl {__version__}",
        "use": USE,
        "target": target,
        "weights": _weights(subject, made),
        "network": _network(subject, made),
        "input": _input(subject, channels),
        "decode": settings(subject.card.decode),
        "scaling": scaling(subject.card.decode),
        "steps": steps(subject.card.decode),
        "orientation": orientation(whole=subject.whole),
        "resized_with": f"Pillow {version('pillow')}",
        "output": _output(subject),
        "classifier": _classifier(subject),
        "ledger": _ledger_words(subject, with_ledger=with_ledger),
        "foreign_weights": [asdict(one) for one in subject.card.foreign],
    }


def ledger(subject: Subject) -> dict[str, Any]:
    """Return whom and what the weights have seen, as digests, with the keys they were made by."""
    card = subject.card
    return {
        "schema": SCHEMA,
        "weights_of_run_sha256": subject.sha256,
        "site_keys": card.site_keys,
        "seen": list(card.seen),
        "pictures": list(card.pictures),
    }


def _weights(subject: Subject, made: Made) -> dict[str, Any]:
    proof = made.proof
    return {
        "file": made.file,
        "sha256": hashlib.sha256(made.data).hexdigest(),
        "bytes": len(made.data),
        "dtype": "float32",
        "run": subject.verb,
        "run_weights_sha256": subject.sha256,
        "proof": {
            "read_by": proof.reader,
            "random_pictures": proof.random,
            "stored_pictures": proof.stored,
            "largest_difference": proof.difference,
            "largest_output": proof.largest,
            "allowed": proof.limit,
        },
    }


def _network(subject: Subject, made: Made) -> dict[str, Any]:
    group = subject.card.encoder.norm == "group"
    told = (
        f"group normalisation of {GROUPS} groups in place of the network's own"
        if group
        else "the network's own; where that is batch normalisation it uses running means: call model.eval() first"
    )
    return {
        **made.network,
        "library": made.library,
        "norm": subject.card.encoder.norm,
        "norm_words": told,
        "features": subject.encoder.width,
    }


def _input(subject: Subject, channels: int) -> dict[str, Any]:
    card = subject.card
    axes = "[N, C, D, H, W]" if subject.whole else "[N, C, H, W]"
    low, high = -card.mean / card.std, (1 - card.mean) / card.std
    spread = "the same grey picture on all three channels"
    told = "red, green, blue" if subject.encoder.channels == 3 else spread
    return {
        "layout": axes.replace("C", str(channels)),
        "shape": ["N", *subject.shape(channels)],
        "dtype": "float32",
        "channels": "one grey channel" if channels == 1 else told,
        "mean": card.mean,
        "std": card.std,
        "range_before_mean_and_std": [0.0, 1.0],
        "range": [low, high],
        "brightness": "larger is brighter; the frame around a letterboxed picture is 0 before mean and std",
    }


def _output(subject: Subject) -> dict[str, Any]:
    if subject.head is None:
        words = "one vector per picture, pooled by the network itself"
        return {"name": "features", "shape": ["N", subject.encoder.width], "means": words}
    words = "one logit per class, in the order of classifier.classes"
    return {"name": "logits", "shape": ["N", len(subject.classes)], "means": words}


def _classifier(subject: Subject) -> dict[str, Any] | None:
    if subject.head is None:
        return None
    record = subject.record
    return {
        "target": record["target"],
        "classes": list(subject.classes),
        "temperature": record["temperature"],
        "probability": "softmax(logits / temperature) along the classes",
        "thresholds": record["thresholds"],
        "threshold_rule": record.get("threshold_rule"),
        "positive": "a class is called where its probability reaches its threshold (>=)",
        "calibrated_on": "validation patients of the source hospital; elsewhere, check before use",
    }


def _ledger_words(subject: Subject, *, with_ledger: bool) -> dict[str, Any]:
    card = subject.card
    stayed = (
        "The digests of patients and pictures that these weights have seen stayed behind. Only with them can "
        "an evaluation elsewhere refuse patients who were trained on: ask for an export --with-ledger, or for "
        "a pack."
    )
    came = (
        f"{LEDGER} holds keyed digests of the patients and digests of the pictures that these weights have "
        "seen, so that an evaluation elsewhere can refuse them. Treat it like the pictures."
    )
    return {
        "travelled": with_ledger,
        "file": LEDGER if with_ledger else None,
        "patients_seen": len(card.seen),
        "pictures_seen": len(card.pictures),
        "words": came if with_ledger else stayed,
    }


def readme(subject: Subject, made: Made, told: dict[str, Any]) -> str:
    """Return the README of the folder, its lines ready to run in that folder."""
    fed, out = told["input"], told["output"]
    what = "An encoder" if subject.head is None else "A classifier"
    shape = (1, *fed["shape"][1:])
    zeros = f'numpy.zeros({shape}, "float32")' if "numpy" in made.needs else f"torch.zeros{shape}"
    pixels = f"pixels = {zeros}  # yours, prepared as {SIDECAR} says"
    place = made.lines.index("")
    return "\n".join(
        [
            f"# {what} for {told['target']}: {told['network']['name']}",
            "",
            USE,
            "",
            f"`{made.file}` was made by {told['made_by']} and read back with {made.proof.reader}: on "
            f"{made.proof.random} random and {made.proof.stored} stored pictures it differs from the original by "
            f"at most {made.proof.difference:.2g}.",
            "",
            f"## Load (needs {', '.join(made.needs)})",
            "",
            "```python",
            *made.lines[: place + 1],
            pixels,
            *made.lines[place + 1 :],
            "```",
            "",
            "## Feed",
            "",
            f"`pixels` is {fed['dtype']} {fed['layout']}, {fed['channels']}, here {_bracketed(fed['shape'])}: "
            f"values in 0..1, then minus {fed['mean']:.6g}, divided by {fed['std']:.6g}. How a file becomes these "
            f"values is in `{SIDECAR}`, step by step (`steps`, `scaling`, `orientation`); other values give other "
            "answers without a warning.",
            "",
            "## Read",
            "",
            f"`answer` is {out['name']} {_bracketed(out['shape'])}: {out['means']}.",
            *_classifier_words(told),
            "",
            "## What stayed, what came",
            "",
            told["ledger"]["words"],
            "",
            _terms(told),
            "",
        ]
    )


def _bracketed(shape: list[Any]) -> str:
    return "[" + ", ".join(str(n) for n in shape) + "]"


def _classifier_words(told: dict[str, Any]) -> list[str]:
    found = told["classifier"]
    if found is None:
        return []
    return [
        "",
        f"Target `{found['target']}`; classes in order: {', '.join(f'`{c}`' for c in found['classes'])}. "
        f"Probability: {found['probability']}, temperature {found['temperature']:.6g}.",
        "",
        "| class | threshold |",
        "|---|---|",
        *(f"| `{name}` | {value:.6g} |" for name, value in found["thresholds"].items()),
        "",
        f"{found['positive'][0].upper()}{found['positive'][1:]}; thresholds and temperature come from "
        f"{found['calibrated_on']}.",
    ]


def _terms(told: dict[str, Any]) -> str:
    found = told["foreign_weights"]
    if not found:
        return "The run names no weights from outside as its start."
    terms = "; ".join(f"`{one['file']}` ({one['licence']})" for one in found)
    return f"Training began with weights from outside, whose terms hold on: {terms}."
