"""What the headers say of a cohort: mixes, gaps, odd spacings, sizes, images per patient."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medssl.check.health import Finding, Level, Part, Section, Table, finding

MIXES = {
    "modality": "Modality",
    "view": "View",
    "laterality": "Laterality",
    "body_part": "Body part",
    "photometric": "Photometric interpretation",
    "transfer_syntax": "Transfer syntax",
    "bits": "Bits stored",
    "intent": "Presentation intent",
    "manufacturer": "Maker",
    "model": "Model",
    "sex": "Sex",
    "age_band": "Age band",
    "kind": "Kind",
    "format": "Format",
}
WANTED = {
    "sex": "sex",
    "age_band": "age",
    "view": "view",
    "day": "day",
    "spacing_row_mm": "spacing",
    "manufacturer": "maker",
}
# Names as PS3.6 of the DICOM standard gives them, shortened.
SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "explicit big endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline, lossy",
    "1.2.840.10008.1.2.4.51": "JPEG Extended, lossy",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE lossless",
}
ABSENT = "not stated"
MOST_ROWS = 15
LEAST_GROUP = 10
FAR = 5.0  # robust standard deviations
SPREAD = 0.05  # smallest spread of log spacing taken seriously: devices of one kind differ by 5 %
LARGEST_MM = 20.0
Places = list[npt.NDArray[np.int64]]
BINS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (10, 19), (20, None))


def check(manifest: pa.Table) -> Section:
    """Judge the manifest's columns.

    Args:
        manifest: one row per image.
    """
    tables = [_mix(manifest, n, t) for n, t in MIXES.items() if n in manifest.column_names]
    gaps, missing = _missing(manifest)
    findings = [gaps, _photometry(manifest), *_spacing(manifest), *_intent(manifest)]
    patients = [_per_patient(manifest), _per_site(manifest)]
    return Section(
        tuple(findings), (*patients, *tables, missing, _sizes(manifest), _notes(manifest))
    )


def _mix(manifest: pa.Table, name: str, title: str) -> Table:
    counts = pc.value_counts(manifest[name]).to_pylist()
    counts.sort(key=lambda row: -row["counts"])
    rows = [
        (_shown(name, r["values"]), Part(r["counts"], manifest.num_rows))
        for r in counts[:MOST_ROWS]
    ]
    rest = sum(row["counts"] for row in counts[MOST_ROWS:])
    if rest:
        rows.append((f"{len(counts) - MOST_ROWS} others", Part(rest, manifest.num_rows)))
    return Table(title, (title.lower(), "images"), tuple(rows))


def _shown(name: str, value: object) -> str:
    if value is None or value == "":
        return ABSENT
    if name == "transfer_syntax" and value in SYNTAXES:
        return f"{SYNTAXES[str(value)]} ({value})"
    return str(value)


def _empty(column: pa.ChunkedArray) -> int:
    blank = pc.sum(pc.equal(column, "")).as_py() if pa.types.is_string(column.type) else 0
    return int(column.null_count + (blank or 0))


def _missing(manifest: pa.Table) -> tuple[Finding, Table]:
    lost = {title: _empty(manifest[name]) for name, title in WANTED.items()}
    total = manifest.num_rows
    table = Table(
        "Images without an identifier",
        ("identifier", "images without it"),
        tuple((title, Part(n, total)) for title, n in lost.items()),
    )
    gaps = [title for title, n in lost.items() if n]
    if not gaps:
        return finding("ok", "H-MISSING", "Every image has {what}.", what=", ".join(lost)), table
    every = [title for title in gaps if lost[title] == total]
    words = "Of {total} images some lack {what}{none}; reports by these groups leave them out or are impossible."
    none = f" (all of them {', '.join(every)})" if every else ""
    return finding("note", "H-MISSING", words, total=total, what=", ".join(gaps), none=none), table


def _photometry(manifest: pa.Table) -> Finding:
    told = Counter(manifest["photometric"].drop_null().to_pylist())
    mono = [name for name in ("MONOCHROME1", "MONOCHROME2") if told[name]]
    if len(mono) < 2:
        return finding("ok", "H-PHOTOMETRIC", "Light and dark mean the same in every header.")
    words = (
        "{one} images are MONOCHROME1 and {two} MONOCHROME2; decoding turns the first round, so a header "
        "that lies gives a negative picture: see the check for negatives."
    )
    return finding("note", "H-PHOTOMETRIC", words, one=told[mono[0]], two=told[mono[1]])


def _groups(manifest: pa.Table) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return the rows of every modality."""
    codes = pc.fill_null(manifest["modality"], ABSENT).combine_chunks().dictionary_encode()
    where = np.asarray(codes.indices)
    return [(str(name), np.flatnonzero(where == k)) for k, name in enumerate(codes.dictionary)]


def _spacing(manifest: pa.Table) -> list[Finding]:
    odd: Places = []
    wrong: Places = []
    known = 0
    for name in ("spacing_row_mm", "spacing_col_mm", "spacing_slice_mm"):
        values = manifest[name].to_numpy(zero_copy_only=False).astype(float)
        stated = ~np.isnan(values)
        known += int(stated.sum())
        bad = stated & ~((values > 0) & (values <= LARGEST_MM))
        wrong.append(np.flatnonzero(bad))
        for _, rows in _groups(manifest):
            here = rows[stated[rows] & ~bad[rows]]
            if len(here) >= LEAST_GROUP:
                odd.append(here[np.abs(_robust_z(np.log(values[here]), SPREAD)) > FAR])
    if not known:
        words = "No image states its pixel spacing, so sizes in mm are unknown throughout."
        return [finding("note", "H-SPACING", words)]
    out = []
    impossible = "{n} images state a spacing that is not above 0 and at most {far} mm."
    far = "{n} images have a spacing far from the others of their modality."
    sorts: tuple[tuple[Level, Places, str], ...] = (
        ("warn", wrong, impossible),
        ("note", odd, far),
    )
    for level, places, words in sorts:
        found = np.unique(np.concatenate([np.empty(0, np.int64), *places]))
        if len(found):
            names = manifest["image_id"].take(pa.array(found[:20])).to_pylist()
            words += " Look at their headers: a wrong scale changes what the network sees."
            out.append(finding(level, "H-SPACING", words, names, n=len(found), far=LARGEST_MM))
    return out or [finding("ok", "H-SPACING", "No spacing stands apart within its modality.")]


def _robust_z(values: npt.NDArray[np.float64], floor: float) -> npt.NDArray[np.float64]:
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(float(spread), floor))


def _intent(manifest: pa.Table) -> list[Finding]:
    if "intent" not in manifest.column_names:
        return []
    counts = manifest.group_by(["modality", "intent"]).aggregate([("image_id", "count")])
    raw: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for row in counts.to_pylist():
        text = (row["intent"] or "").upper()
        side = raw if "PROCESSING" in text else done if "PRESENTATION" in text else Counter()
        side[row["modality"] or ABSENT] += row["image_id_count"]
    mixed = [m for m in raw if done[m]]
    if mixed:
        words = (
            "{names}: {raw} images are FOR PROCESSING and {done} FOR PRESENTATION; the same anatomy looks "
            "unlike in the two. Keep one kind, or check that the kind does not tell the label."
        )
        told = {"raw": sum(raw[m] for m in mixed), "done": sum(done[m] for m in mixed)}
        return [finding("warn", "H-INTENT", words, names=", ".join(sorted(mixed)), **told)]
    if raw:
        words = "{n} images are FOR PROCESSING: raw detector values, unlike the pictures of other hospitals."
        return [finding("note", "H-INTENT", words, n=sum(raw.values()))]
    return [finding("ok", "H-INTENT", "No modality mixes raw and processed images.")]


def _sizes(manifest: pa.Table) -> Table:
    sizes = manifest.group_by(["rows", "columns"]).aggregate([("image_id", "count")])
    ordered = sizes.sort_by([("image_id_count", "descending")]).to_pylist()
    total = manifest.num_rows
    rows = [
        (f"{r['rows']} x {r['columns']}", Part(r["image_id_count"], total))
        for r in ordered[:MOST_ROWS]
    ]
    rest = sum(r["image_id_count"] for r in ordered[MOST_ROWS:])
    if rest:
        rows.append((f"{len(ordered) - MOST_ROWS} others", Part(rest, total)))
    return Table("Matrix sizes", ("rows x columns", "images"), tuple(rows))


def _per_patient(manifest: pa.Table) -> Table:
    counts = manifest.group_by("patient_id").aggregate([("image_id", "count")])
    images = counts["image_id_count"].to_numpy()
    rows = []
    for low, high in BINS:
        inside = (images >= low) & (images <= (high or images.max()))
        name = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        rows.append((name, Part(int(inside.sum()), len(images))))
    return Table("Images per patient", ("images", "patients"), tuple(rows))


def _per_site(manifest: pa.Table) -> Table:
    pairs = manifest.group_by(["site", "patient_id"]).aggregate([("image_id", "count")])
    sites = pairs.group_by("site").aggregate([("patient_id", "count"), ("image_id_count", "sum")])
    rows = [
        (r["site"], Part(r["patient_id_count"], pairs.num_rows), r["image_id_count_sum"])
        for r in sites.sort_by("site").to_pylist()
    ]
    return Table("Patients per site", ("site", "patients", "images"), tuple(rows))


def _notes(manifest: pa.Table) -> Table:
    counts: Counter[str] = Counter()
    for row in pc.value_counts(manifest["notes"]).to_pylist():
        for code in (row["values"] or "").split():
            counts[code] += row["counts"]
    rows = tuple((code, Part(n, manifest.num_rows)) for code, n in counts.most_common(MOST_ROWS))
    return Table("Notes of the scan", ("code", "images"), rows)
