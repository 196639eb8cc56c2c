"""The no-shift control: two random halves of one hospital's patients, again and again.

Command: python benchmarks/false_alarms.py runs/pneumonia --splits 200 --report runs/control
Every split calls one half of the held-out patients the source and the other the new hospital, and runs
the report's own shift tests; with --report the first split's whole report is written. Under no shift a
test at 0.05 should cry wolf in about 5 % of the splits. Beside it a KS test as most tools run it, on rows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import ks_2samp

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.evaluate import attributes, shifted
from medssl.evaluate.answers import answers_of
from medssl.evaluate.evaluate import evaluate
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.reference import Column, about, keys, of_run
from medssl.infer import load
from medssl.stats.metrics import wilson

TESTS = ("embedding", "domain", "outputs")


def halves(reference, pictures, patients, rng):
    """One half of the patients as the source, the other as the new hospital."""
    shuffled = rng.permutation(patients)
    ours = set(shuffled[: len(patients) // 2].tolist())
    first = np.array([p in ours for p in reference.embedded_patient])
    table = pa.table(pictures)
    mine = np.array([p in ours for p in table.column("patient_id").to_pylist()])
    columns = {n: Column(c.values[mine], c.patient[mine]) for n, c in reference.columns.items()}
    source = replace(
        reference,
        embeddings=reference.embeddings[first],
        embedded_patient=reference.embedded_patient[first],
        columns=columns,
        scores=reference.scores[first],
        score_patient=reference.embedded_patient[first],
        answers=None,
    )
    return source, ~first, ~mine


def report(question, source, here, first, out):
    """The whole report of one split: the control to every other report."""
    told = answers_of(first, question.classes, question.thresholds)
    source = replace(source, answers=told, validation=told, embedded_row=np.arange(first.num_rows), masked={},
                     about=about(first, len(told)), name="one half")  # fmt: skip
    asked = replace(
        question, label_table=True, flow=(("pictures of the other half", len(here.patient), 0),)
    )
    out.mkdir(parents=True, exist_ok=True)
    found = evaluate(asked, source, here, EvaluateConfig(), out)
    print(f"one split as a report, {out}/report.html: {found['verdict']}; {found['auroc_source']} and "
          f"{found['auroc_here']}; shift p {found['shift_p']}", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished finetune run")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=199)
    parser.add_argument(
        "--report", type=Path, help="folder for the whole report of the first split"
    )
    args = parser.parse_args()
    model = load(args.run)
    reference = of_run(args.run, model.classes, model.thresholds)
    kept = runs.read_predictions(args.run / "predictions.parquet")
    kept = kept.filter(pa.array(np.asarray(kept.column("mode").to_pylist()) == "classifier"))
    place = {k: i for i, k in enumerate(keys(kept))}
    table = runs.read_table(args.run / "embeddings.parquet")
    held = np.isin(np.asarray(table.column("split").to_pylist()), ["val", "test"])
    order = keys(table.filter(pa.array(held)))
    known = np.array([k in place for k in order])
    at = [place[k] for k in order if k in place]
    scores = np.stack([kept.column(f"score_{c}").to_numpy() for c in model.classes], 1)[at]
    predictions = kept.take(pa.array(at))
    pictures = attributes.read(args.run)
    where = {k: i for i, k in enumerate(keys(pictures))}
    rows = [where[k] for k in keys(predictions)]
    pictures = pictures.take(pa.array(rows))
    reference = replace(
        reference,
        embeddings=reference.embeddings[known],
        embedded_patient=reference.embedded_patient[known],
        columns={n: Column(c.values[rows], c.patient[rows]) for n, c in reference.columns.items()},
        scores=scores,
    )
    patients = np.unique(reference.embedded_patient)
    question = Question(
        model.target, model.classes, model.thresholds, "", False, {}, (), (), {}, {}
    )
    found = {name: [] for name in (*TESTS, "columns, any after BH", "Fréchet beyond its floor",
                                   "KS of the output on rows")}  # fmt: skip
    for number in range(args.splits):
        config = EvaluateConfig(permutations=args.permutations, seed=number)
        source, away, away_pictures = halves(
            reference, pictures, patients, np.random.default_rng([7, number])
        )
        mask = pa.array(away)
        here = Here(
            predictions.filter(mask),
            reference.embeddings[away],
            pictures.filter(pa.array(away_pictures)),
            np.full(int(away.sum()), ""),
            {},
            (),
        )
        if number == 0 and args.report is not None:
            report(question, source, here, predictions.filter(pa.array(~away)), args.report)
        shift = shifted.of(question, source, here, config)
        for name in TESTS:
            found[name].append(shift[name]["p"] <= 0.05)
        adjusted = [r["p_adjusted"] for r in shift["columns"] if r.get("p_adjusted") is not None]
        found["columns, any after BH"].append(min(adjusted) <= 0.05)
        frechet = shift["frechet"]
        found["Fréchet beyond its floor"].append(frechet["distance"] > frechet["floor_upper"])
        last = scores[:, -1]
        found["KS of the output on rows"].append(ks_2samp(last[~away], last[away]).pvalue <= 0.05)
        if (number + 1) % 20 == 0:
            print(
                f"{number + 1} splits: "
                + ", ".join(f"{n} {np.mean(v):.3f}" for n, v in found.items()),
                flush=True,
            )
    print(
        f"\n{len(patients)} held-out patients, {len(scores)} images, {args.splits} random halves\n"
    )
    print("| test | cries wolf | 95 % interval |")
    print("|---|---|---|")
    for name, alarms in found.items():
        low, high = wilson(int(np.sum(alarms)), len(alarms))
        print(f"| {name} | {100 * np.mean(alarms):.1f} % | {100 * low:.1f} to {100 * high:.1f} % |")


if __name__ == "__main__":
    main()
