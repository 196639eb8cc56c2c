"""The value tables: which text of a header may leave. What is not in its table becomes ``other``.

Terms of the standard: modalities PS3.3 C.7.3.1.1.1, views and body parts PS3.16 CID 4010, 4014 and
Annex L, laterality and intent PS3.3. Makers and model families are those named on current devices;
the output is always the table's own spelling, never the file's.
"""

import re
from typing import Any

OTHER = "other"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES = _words(
    "AR BI BMD CR CT DG DX ECG EPS ES FID GM HD IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP OPM OPT "
    "OPV OSS OT PT PX RF RG RTIMAGE SC SM SMR SRF TG US VA XA XC"
)
VIEWS = _words(
    "AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO LAT LATERAL OBLIQUE AXIAL DECUB LORDOTIC TANGENTIAL "
    "SKYLINE SUNRISE TOWNE WATERS CALDWELL FROG INLET OUTLET JUDET MORTISE SWIMMERS DV VD "
    "CC MLO ML LM LMO SIO ISO XCC XCCL XCCM FB CV AT RM RL TAN SUP INF AXILLA SPECIMEN"
)
LATERALITIES = _words("L R B U")
SEXES = _words("F M O")
INTENTS = frozenset({"FOR PRESENTATION", "FOR PROCESSING"})
PHOTOMETRICS = frozenset(
    {
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",
        "YBR_PARTIAL_422",
        "YBR_ICT",
        "YBR_RCT",
        "XYB",
    }
)
BODY_PARTS = _words(
    "ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BILEDUCT BLADDER BRAIN BREAST BRONCHUS "
    "BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS "
    "CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY "
    "EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS IAC "
    "ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LOWERARM LOWERLEG LSPINE LSSPINE LUNG "
    "MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY "
    "PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB RIBS SACRUM SCALP SCAPULA SCLERA "
    "SCROTUM SELLA SHOULDER SIJOINT SINUS SKIN SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR "
    "TESTIS THIGH THORAX THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE "
    "ULNA UPPERARM URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA"
)
# A part of the file's text, upper case without punctuation, and what is written for it.
MAKERS = (
    ("GE", r"\bGE\b|GENERAL ELECTRIC|GEMS|LUNAR"),
    ("Siemens", r"SIEMENS"),
    ("Philips", r"PHILIPS|ADAC|MARCONI|PICKER"),
    ("Canon", r"CANON|TOSHIBA"),
    ("Fujifilm", r"FUJI|HITACHI|SONOSITE"),
    ("Agfa", r"AGFA"),
    ("Carestream", r"CARESTREAM|KODAK"),
    ("Hologic", r"HOLOGIC|LORAD|\bSUPERSONIC\b"),
    ("Konica Minolta", r"KONICA|MINOLTA"),
    ("Shimadzu", r"SHIMADZU"),
    ("Samsung", r"SAMSUNG|MEDISON|NEUROLOGICA"),
    ("United Imaging", r"\bUIH\b|UNITED IMAGING"),
    ("Mindray", r"MINDRAY"),
    ("Neusoft", r"NEUSOFT"),
    ("Esaote", r"ESAOTE"),
    ("Acuson", r"ACUSON"),
    ("Bruker", r"BRUKER"),
    ("Varian", r"VARIAN"),
    ("Elekta", r"ELEKTA"),
    ("Accuray", r"ACCURAY"),
    ("Elscint", r"ELSCINT"),
    ("Swissray", r"SWISSRAY"),
    ("Planmed", r"PLANMED|PLANMECA"),
    ("IMS Giotto", r"GIOTTO|\bIMS\b"),
    ("Imaging Dynamics", r"IMAGING DYNAMICS"),
    ("Vidar", r"VIDAR"),
    ("Zeiss", r"ZEISS"),
    ("Heidelberg Engineering", r"HEIDELBERG"),
    ("Topcon", r"TOPCON"),
    ("Nidek", r"NIDEK"),
    ("Olympus", r"OLYMPUS"),
    ("Leica", r"LEICA|APERIO"),
    ("Hamamatsu", r"HAMAMATSU"),
    ("3DHISTECH", r"3DHISTECH"),
    ("Roche", r"ROCHE|VENTANA"),
    # The makers of sample_data/ do not exist.
    ("Aurora Imaging", r"AURORA IMAGING"),
    ("Borealis Medical", r"BOREALIS MEDICAL"),
    ("Corvid Radiology", r"CORVID RADIOLOGY"),
    ("Dunlin Systems", r"DUNLIN SYSTEMS"),
)
# Model families: words that a maker prints on the device. Longer names first.
MODELS = (
    "Aera", "Achieva", "Aisys", "Allegra", "Amira", "Aquilion", "Artis", "Avanto", "Avento", "Axiom",
    "Biograph", "Brilliance", "BrightSpeed", "Brivo", "Clinapps", "Cirrus", "Cura", "CX50",
    "DigitalDiagnost", "Definium", "Definition", "Digital Diagnost", "Discovery MR750", "Discovery",
    "DRX", "DX-D", "Echospeed", "Eleva", "Elevate", "Eminence", "Emotion", "Encore", "Epiq", "Espree",
    "Essenza", "Evolution", "Excite", "FCR", "FDR", "Fluorospot", "Force", "Gemini", "Gyroscan",
    "HiSpeed", "Horizon", "HDxt", "HDx", "iCT", "iE33", "Incisive", "Infinia", "Ingenia", "Ingenuity",
    "Innova", "Inspiration", "Integris", "Intera", "IQon", "LightSpeed VCT", "LightSpeed", "Logiq",
    "Lumina", "Magnetom", "Mammomat", "Mobilett", "Multix", "MX8000", "NeuViz", "Novaris", "Optima",
    "Orian", "Panorama", "Perspective", "Precedence", "Prisma", "Prodigy", "Prospeed", "RADspeed",
    "Revolution", "Scenaria", "Selenia", "Senographe", "Sensation", "Sequoia", "Signa", "Skyra", "Sola",
    "Somatom", "Sonata", "Spectra", "Symbia", "Symphony", "Titan", "Trio", "Turbo", "Vantage",
    "Verio", "Vida", "Vision", "Vivid", "Voluson", "Volume Zoom", "Xario", "Ysio",
    "Lumen CR", "Plate 5", "FlatView", "DX One",
)  # fmt: skip


def _flat(text: str) -> str:
    return " ".join(re.findall(r"[A-Z0-9]+", text.upper()))


def _member(text: str, table: frozenset[str], joined: bool = False) -> str | None:
    flat = text.strip().upper()
    flat = re.sub(r"[^A-Z0-9]", "", flat) if joined else flat
    if not flat:
        return None
    return flat if flat in table else OTHER


def maker(text: str) -> str | None:
    """Return the table's name of a maker, ``other`` for one it does not hold, None for nothing."""
    flat = _flat(text)
    if not flat:
        return None
    return next((name for name, pattern in MAKERS if re.search(pattern, flat)), OTHER)


def model(text: str) -> str | None:
    """Return the model family, ``other`` where the table holds none, None for nothing."""
    flat = _flat(text)
    if not flat:
        return None
    found = (m for m in MODELS if re.search(rf"\b{_flat(m)}\b", flat))
    return max(found, key=len, default=OTHER)


def public(values: dict[str, Any]) -> dict[str, Any]:
    """Return header values that may leave: every text through its table, numbers as they are.

    Args:
        values: the ``public`` part that a reader returns; raw text.
    """
    checked: dict[str, Any] = {
        "modality": _member(values.get("modality") or "", MODALITIES),
        "view": _member(values.get("view") or "", VIEWS),
        "laterality": _member(values.get("laterality") or "", LATERALITIES),
        "body_part": _member(values.get("body_part") or "", BODY_PARTS, joined=True),
        "sex": _member(values.get("sex") or "", SEXES),
        "intent": _member(values.get("intent") or "", INTENTS),
        "photometric": _member(values.get("photometric") or "", PHOTOMETRICS),
        "manufacturer": maker(values.get("manufacturer") or ""),
        "model": model(values.get("model") or ""),
    }
    if checked["sex"] == OTHER:
        checked["sex"] = None
    syntax = str(values.get("transfer_syntax") or "")
    checked["transfer_syntax"] = (
        syntax if re.fullmatch(r"1\.2\.840\.10008[0-9.]{0,40}", syntax) else None
    )
    return {**values, **checked}
