"""configs/REFERENCE.md, written from the settings and the manifest's columns."""

from medssl.cohort.manifest import COLUMNS
from medssl.config import DecodeConfig, EvaluateConfig, FinetuneConfig, PretrainConfig, Settings
from medssl.loading import describe

VERBS: dict[str, type[Settings]] = {
    "decode": DecodeConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
}


def markdown() -> str:
    """Return the whole page: every setting of every verb, and every column of the manifest."""
    lines = [
        "# Every setting",
        "",
        "Written by `make reference`; a test keeps it current. The same text: `medssl VERB --settings`.",
        "",
    ]
    for verb, model in VERBS.items():
        lines += [f"## {verb}", "", "| setting | default | meaning |", "|---|---|---|"]
        lines += [f"| `{n}` | `{d}` | {s} |" for n, d, s in describe(model)]
        lines.append("")
    lines += ["## manifest.parquet", "", "| column | type | DICOM | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.type} | {c.keyword} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines) + "\n"
