"""What `synthesize` is asked for, and what it reports back."""

from collections.abc import Mapping
from dataclasses import dataclass

from medssl.errors import UsageError


@dataclass(frozen=True)
class SynthesisSettings:
    """How many synthetic patients to make, how large, and with which planted effects.

    Attributes:
        patients: radiograph patients of hospital A; hospital B gets half, rounded up.
        mri_patients: brain MRI patients of each of the two MRI sites.
        size: base of the radiograph matrix in pixels; rows and columns vary around it, never equal.
        seed: every draw is a function of (seed, hospital, patient, study or image).
        subgroup_effect: findings are fainter in women and from the age of 65.
        drift: dose falls and tone steepens slowly with the study date.
        nuisances: lead markers and collimation.
        detector_difference: hospital B has detectors of its own; otherwise hospital A's.
    """

    patients: int = 160
    mri_patients: int = 16
    size: int = 96
    seed: int = 0
    subgroup_effect: bool = True
    drift: bool = True
    nuisances: bool = True
    detector_difference: bool = True

    def check(self) -> None:
        """Refuse numbers that no hospital can be made from.

        Raises:
            UsageError: one sentence for each wrong number, all at once.
        """
        least = {"patients": 1, "mri_patients": 0, "size": 32, "seed": 0}
        most = {"size": 2048}
        problems = [
            f"{name} is {getattr(self, name)}; give at least {low}."
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        problems += [
            f"{name} is {getattr(self, name)}; give at most {high}."
            for name, high in most.items()
            if getattr(self, name) > high
        ]
        if problems:
            raise UsageError(problems, "E-SYNTHESIS-SETTINGS")


@dataclass(frozen=True)
class SynthesisSummary:
    """What was written.

    Attributes:
        files: number of files, SHA256SUMS included.
        size_bytes: sum of their sizes.
        patients: patients per cohort (hospital_a, hospital_b, mri).
        images: radiographs, or volumes for mri, per cohort.
    """

    files: int
    size_bytes: int
    patients: Mapping[str, int]
    images: Mapping[str, int]
