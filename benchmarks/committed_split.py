"""The committed split of a public cohort, so that its figures can be made again under any key.

Command: python benchmarks/committed_split.py cohorts/a docs/results/split-cxr.csv --out split.csv
         then: medssl split cohorts/a --file split.csv
Kept are digests of the public data set's own patient identifiers, never these; --write makes the committed
file from a cohort that is split.
"""

import argparse
import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from medssl.files import read_table, write_csv


def digest(patient: str) -> str:
    """Return what stands for a patient of a public data set."""
    return hashlib.sha256(b"medssl committed split\0" + patient.encode()).hexdigest()[:12]


def patients(cohort: Path) -> dict[str, str]:
    """Return every patient's digest by pseudonym."""
    rows = read_table(cohort / "private" / "identifiers.csv")
    return {r["pseudonym"]: digest(r["patient_id"]) for r in rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cohort", type=Path)
    parser.add_argument("committed", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    known = patients(args.cohort)
    if args.write:
        table = pq.read_table(args.cohort / "split.parquet").to_pylist()
        rows = sorted({(known[r["patient_id"]], r["split"]) for r in table})
        write_csv(args.committed, ["patient", "split"], rows)
        return
    place = {r["patient"]: r["split"] for r in read_table(args.committed)}
    absent = [p for p, d in known.items() if d not in place]
    if absent:
        raise SystemExit(
            f"{len(absent)} of {len(known)} patients are not in {args.committed}: another data set, or "
            "identifiers that were changed. Nothing was written."
        )
    write_csv(args.out, ["patient_id", "split"], [(p, place[d]) for p, d in known.items()])


if __name__ == "__main__":
    main()
