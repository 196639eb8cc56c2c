"""Scan and decode the two file zoos by the command line; print every file, expected and actual.

Command: .venv/bin/python benchmarks/zoo.py --data DATA  (the folder with dicom_zoo and nifti_zoo)
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def medssl(*words):
    subprocess.run(
        [sys.executable, "-m", "medssl.cli", *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def verdicts(zoo, out, more=()):
    """Return the final verdict of every file of a zoo, by its path in the zoo."""
    medssl("scan", zoo, "--site", "zoo", *more, "--out", out)
    medssl("decode", out, "--size", 64)
    return {os.path.relpath(r["file"], zoo): r for r in rows(out / "private" / "files.csv")}


def dicom_expected(row):
    if row["has_pixels"] != "True":
        return "no pixels"
    return "decodes" if row["decodes"] == "yes" else "does not decode"


def told(row):
    return f"{row['verdict']} {row['code']}".strip()


def read(path):
    """Return the values of one file, or the code of its refusal."""
    from medssl.formats.geometry import FormatError
    from medssl.formats.tasks import read_pixels

    try:
        return read_pixels([path]).array
    except FormatError as error:
        return error.code


def families(zoo, table):
    """Decode every member of a same-picture family alone, and compare the values after rescale.

    Lossless members are compared with each other; of lossy ones the difference to a lossless one is
    told beside the one that ``files.csv`` has for them.
    """
    groups = {}
    for row in table:
        if row.get("family"):
            groups.setdefault(row["family"], []).append(row)
    for family, members in sorted(groups.items()):
        arrays = {r["file"]: read(zoo / r["file"]) for r in members}
        lossless = [
            r["file"] for r in members if r["max_abs_diff_vs_family_reference"] in {"0", "0.0"}
        ]
        good = [f for f in lossless if not isinstance(arrays[f], str)]
        want = arrays[good[0]] if good else None
        worst, lossy = 0.0, []
        for row in members:
            got, told = arrays[row["file"]], row["max_abs_diff_vs_family_reference"]
            if isinstance(got, str) or want is None or not told:
                continue
            difference = float(np.nanmax(np.abs(got - want))) if got.shape == want.shape else np.inf
            if row["file"] in lossless:
                worst = max(worst, difference)
            else:
                lossy.append(f"{difference:g} ({told.removesuffix('.0')})")
        refused = Counter(a for a in arrays.values() if isinstance(a, str))
        yield family, len(members), len(good), worst, "; ".join(lossy), refused


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSSL_KEYS"] = f"{folder}/keys"
        zoo = data / "dicom_zoo"
        table = rows(zoo / "files.csv")
        got = verdicts(zoo, Path(folder) / "d")
        print("### dicom_zoo\n\n| file | stored as | expected | actual |\n|---|---|---|---|")
        for row in table:
            name = row["file"].replace("|", "/")
            print(
                f"| {name} | {row['transfer_syntax']} | {dicom_expected(row)} | {told(got[row['file']])} |"
            )
        count = Counter((dicom_expected(r), told(got[r["file"]])) for r in table)
        print("\n| expected | actual | files |\n|---|---|---|")
        for (want, have), n in sorted(count.items()):
            print(f"| {want} | {have} | {n} |")
        print(
            "\n| family | files | lossless | largest difference | lossy: difference (as listed) | refused |"
        )
        print("|---|---|---|---|---|---|")
        for family, files, lossless, worst, lossy, refused in families(zoo, table):
            why = ", ".join(f"{c} {n}" for c, n in refused.items()) or "none"
            print(f"| {family} | {files} | {lossless} | {worst:g} | {lossy or 'none'} | {why} |")
        zoo = data / "nifti_zoo"
        table = rows(zoo / "files.csv")
        got = verdicts(zoo, Path(folder) / "n", ["--table", zoo / "files.csv"])
        print(
            "\n### nifti_zoo\n\n| file | shape | orientation | expected | actual |\n|---|---|---|---|---|"
        )
        for row in table:
            what = (row["shape"], row["orientation"], row["kind"], told(got[row["file"]]))
            print(f"| {row['file']} | " + " | ".join(what) + " |")
        stored = sum(
            pq.read_metadata(p).num_rows for p in Path(folder).glob("*/store/*/index.parquet")
        )
        print(f"\nStored pictures and slices of both zoos: {stored}.")


if __name__ == "__main__":
    main()
