"""The files of a synthesis: written once, digested as they are written, described and listed."""

import hashlib
from pathlib import Path

from medssl.errors import RefusedError
from medssl.synthetic.settings import SynthesisSettings

README = """\
# Synthetic hospitals

Everything here is synthetic: no patient, hospital, maker or image is real. Made by

    {command}

The same command, with the locked codecs, writes the same bytes. `SHA256SUMS` lists every other
file.

| folder | what | labels |
|---|---|---|
| `hospital_a/` | chest radiographs, DICOM CR | `labels.csv` |
| `hospital_b/` | chest radiographs, DICOM DX{detectors} | `labels.csv` |
| `mri/` | brain FLAIR volumes of two sites, gzipped NIfTI | `participants.tsv`, `slices.csv` |

| table | column | meaning |
|---|---|---|
| `labels.csv` | `sop_instance_uid` | the image |
| | `patient_id` | Patient ID of its header |
| | `finding` | 1 if its study shows a finding, else 0 |
| | `kind` | normal, focal (one soft opacity) or diffuse (reticular and ground-glass) |
| | `conspicuity` | share of air the finding displaces: 0 normal, 0.05 hardly visible, 1 obvious |
| `participants.tsv` | `participant_id`, `site`, `sex`, `age` | site MA or MB; age in years |
| `slices.csv` | `participant_id`, `slice` | volume; index along the file's third axis, from 0 |
| | `lesion`, `lesion_pixels` | 1 if the slice shows a lesion, else 0; its pixels |

The label belongs to a study: a patient with two studies may have both labels. A second study keeps
the first one's finding four times in five, and draws anew otherwise. Number of images, sex, age,
maker, view and date are drawn independently of the label.

| effect | planted here | what it does |
|---|---|---|
| subgroup effect | {subgroup_effect} | findings are fainter in women and from the age of 65 |
| drift | {drift} | dose falls and tone steepens slowly with the study date |
| nuisances | {nuisances} | lead markers and collimation |
| detector difference | {detector_difference} | hospital B has detectors of its own |
"""


class Tree:
    """A directory that fills file by file and remembers the digest and size of each.

    Nothing appears under the final name before `finish`: files go to a neighbour with the suffix
    `.partial`, which is then renamed.

    Raises:
        RefusedError: the final directory holds something, or an earlier synthesis was cut short.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._partial = out.with_name(out.name + ".partial")
        self._digests: dict[str, str] = {}
        self._folders: set[Path] = set()
        self.size_bytes = 0
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RefusedError(
                f"{out} already exists and is not an empty folder; name a new one.",
                "E-SYNTHESIS-OUT",
            )
        if self._partial.exists():
            raise RefusedError(
                f"{self._partial} is left from a synthesis that did not finish; delete it, "
                "or name another folder.",
                "E-SYNTHESIS-PARTIAL",
            )
        self._partial.mkdir(parents=True)

    def write(self, relative: str, content: bytes) -> None:
        """Write one file; `relative` is its path below the root, with forward slashes."""
        path = self._partial / relative
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        path.write_bytes(content)
        self._digests[relative] = hashlib.sha256(content).hexdigest()
        self.size_bytes += len(content)

    def write_table(self, relative: str, rows: list[tuple[object, ...]], separator: str) -> None:
        """Write rows, the header first, as lines of separated values that need no quotes."""
        lines = [separator.join(str(value) for value in row) + "\n" for row in rows]
        self.write(relative, "".join(lines).encode())

    def finish(self) -> int:
        """List the digests, move the tree to its final name and count its files."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self._digests.items())]
        self.write("SHA256SUMS", "".join(lines).encode())
        self._partial.replace(self._out)
        return len(self._digests)


def readme(settings: SynthesisSettings) -> bytes:
    """The README of a synthesis with these settings."""
    switches = ("subgroup_effect", "drift", "nuisances", "detector_difference")
    planted = {name: getattr(settings, name) for name in switches}
    command = (
        f"medssl synthesize --patients {settings.patients} "
        f"--mri-patients {settings.mri_patients} --size {settings.size} --seed {settings.seed}"
    )
    command += "".join(f" --no-{n.replace('_', '-')}" for n, on in planted.items() if not on)
    words = {name: "yes" if on else "no" for name, on in planted.items()}
    detectors = " (other detectors)" if settings.detector_difference else ""
    text = README.format(command=f"{command} --out DIR", detectors=detectors, **words)
    return text.encode()
