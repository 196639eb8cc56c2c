"""Who comes to the two hospitals: patients, studies and images, each drawn from its own stream."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from medssl.synthetic.anatomy import Finding, Physique, Pose, draw_physique
from medssl.synthetic.detector import DETECTORS, Detector
from medssl.synthetic.settings import SynthesisSettings

FIRST_DAY = date(2021, 1, 4)
STUDY_DAYS = 3 * 365
FAINTER = 0.7  # share of the conspicuity that remains, per subgroup
REDRAWN = 0.2  # share of second studies whose finding came or went since the first
PATIENT, STUDY, IMAGE, TEXTURE, BRAIN = range(5)  # one family of streams per purpose


@dataclass(frozen=True)
class Hospital:
    """A synthetic hospital.

    Attributes:
        index: its number in the keys of the random streams.
        prevalence: share of studies with a finding.
        ap_share: share of studies taken AP (lying or sitting patients).
    """

    name: str
    code: str
    index: int
    modality: str
    prevalence: float
    ap_share: float
    detectors: tuple[Detector, ...]


@dataclass(frozen=True)
class Study:
    """One visit of a patient; the label belongs to it.

    Attributes:
        position: 0 at the first day of the study period, 1 at its last (drift follows it).
        age: completed calendar years at the study date.
    """

    number: int
    day: date
    position: float
    age: int
    view: str
    detector: Detector
    finding: Finding


@dataclass(frozen=True)
class Patient:
    """A synthetic patient with one to four images in one or two studies.

    Attributes:
        study_of_image: for each image, in order, the study it belongs to.
    """

    hospital: Hospital
    number: int
    patient_id: str
    sex: str
    birth_year: int
    birth_date_known: bool
    physique: Physique
    studies: tuple[Study, ...]
    study_of_image: tuple[int, ...]


def stream(seed: int, hospital: int, patient: int, purpose: int, index: int) -> np.random.Generator:
    """The random stream of one thing, the same whatever else is drawn."""
    key = np.random.SeedSequence(seed, spawn_key=(hospital, patient, purpose, index))
    return np.random.Generator(np.random.Philox(key))


def hospitals(settings: SynthesisSettings) -> tuple[Hospital, Hospital]:
    """Hospital A (CR) and hospital B (DX), with the detectors the settings ask for."""
    first, second = DETECTORS["A"], DETECTORS["B"]
    if not settings.detector_difference:
        second = tuple(
            replace(a, maker=b.maker, model=b.model) for a, b in zip(first, second, strict=True)
        )
    return (
        Hospital("hospital_a", "A", 0, "CR", 0.40, 0.20, first),
        Hospital("hospital_b", "B", 1, "DX", 0.30, 0.35, second),
    )


def draw_patient(settings: SynthesisSettings, hospital: Hospital, number: int) -> Patient:
    """Patient `number` (from 0) of a hospital, the same whatever the total number of patients."""
    rng = stream(settings.seed, hospital.index, number, PATIENT, 0)
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(np.clip(rng.normal(56.0, 17.0), 18, 94))
    images = 1 + int(np.searchsorted((0.50, 0.78, 0.92), rng.random(), side="right"))
    visits = 2 if rng.random() < 0.4 and images >= 2 else 1
    first_day = FIRST_DAY + timedelta(days=int(rng.integers(STUDY_DAYS - 60)))
    birth_year = first_day.year - age
    days = (first_day, first_day + timedelta(days=int(rng.integers(3, 60))))[:visits]
    known = bool(rng.random() < 0.5)
    physique = draw_physique(rng, sex, age)
    studies: list[Study] = []
    for visit, day in enumerate(days):
        draws = stream(settings.seed, hospital.index, number, STUDY, visit)
        earlier = studies[0].finding if studies else None
        studies.append(
            _draw_study(draws, settings, hospital, visit, day, sex, day.year - birth_year, earlier)
        )
    return Patient(
        hospital=hospital,
        number=number,
        patient_id=f"{hospital.code}{number + 1:04d}",
        sex=sex,
        birth_year=birth_year,
        birth_date_known=known,
        physique=physique,
        studies=tuple(studies),
        # The first study takes the odd image, so that both studies have at least one.
        study_of_image=tuple(k * visits // images for k in range(images)),
    )


def _draw_study(
    rng: np.random.Generator,
    settings: SynthesisSettings,
    hospital: Hospital,
    number: int,
    day: date,
    sex: str,
    age: int,
    earlier: Finding | None,
) -> Study:
    view = "AP" if rng.random() < hospital.ap_share else "PA"
    detector = hospital.detectors[int(rng.integers(len(hospital.detectors)))]
    fresh = _draw_finding(rng, hospital.prevalence)
    redrawn = rng.random() < REDRAWN
    change = float(rng.uniform(0.8, 1.2))
    if earlier is None or redrawn:
        visible = fresh.conspicuity
        if settings.subgroup_effect:
            visible *= FAINTER ** ((sex == "F") + (age >= 65))
        finding = replace(fresh, conspicuity=visible)
    else:
        # The same opacity in the same place, a little better or worse than before.
        finding = replace(earlier, conspicuity=min(1.0, earlier.conspicuity * change))
    position = (day - FIRST_DAY).days / STUDY_DAYS
    return Study(number, day, position, age, view, detector, finding)


def _draw_finding(rng: np.random.Generator, prevalence: float) -> Finding:
    present = rng.random() < prevalence
    kind = "focal" if rng.random() < 0.6 else "diffuse"
    finding = Finding(
        kind=kind,
        conspicuity=float(rng.uniform(0.10, 1.0)),
        side=-1 if rng.random() < 0.5 else 1,
        lateral=float(rng.uniform(0.30, 0.85)),
        height=float(rng.uniform(0.18, 0.85)),
        radius_cm=float(rng.uniform(1.2, 3.2)),
        lobes=tuple(float(v) for v in rng.normal(0.0, 0.7, 6)),
    )
    return finding if present else replace(finding, kind="normal", conspicuity=0.0)


def draw_pose(rng: np.random.Generator, view: str) -> Pose:
    """How the patient stands for one image; AP images magnify the chest and are less inspired."""
    anteroposterior = view == "AP"
    return Pose(
        right_cm=float(rng.normal(0.0, 0.8)),
        down_cm=float(rng.normal(0.0, 0.8)),
        angle_rad=float(np.deg2rad(rng.normal(0.0, 2.5))),
        magnification=float(rng.normal(1.06 if anteroposterior else 1.0, 0.025)),
        inspiration=float(rng.normal(-0.8 if anteroposterior else 0.0, 0.8)),
        turn=float(rng.normal(0.0, 0.5)),
        heart_magnification=1.12 if anteroposterior else 1.0,
    )
