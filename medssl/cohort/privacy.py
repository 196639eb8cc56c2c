"""Keyed pseudonyms, shifted values, and the key files behind them."""

import hashlib
import hmac
import os
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import RefusedError, UsageError

KEY_BYTES = 32
BAND_YEARS = 5
OLDEST_BAND = 90
SPACES = str.maketrans(dict.fromkeys("\0\u00a0\u2007\u202f\ufeff", " "))


@dataclass(frozen=True)
class SiteKey:
    """The secret of one site. ``digest`` tells two keys apart without giving either away."""

    site: str
    secret: bytes

    @property
    def digest(self) -> str:
        """Return 16 hex digits that may leave the site."""
        return hashlib.sha256(b"medssl key digest\0" + self.secret).hexdigest()[:16]

    def pseudonym(self, prefix: str, *parts: str) -> str:
        """Return ``prefix_`` and 16 hex digits of HMAC-SHA256 over the site and the parts."""
        message = "\x1f".join((self.site, *parts)).encode(errors="surrogateescape")
        return f"{prefix}_{hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:16]}"


def normalise_id(text: str) -> str:
    """Return an identifier without padding: NFC, no NUL, no outer or exotic blanks; case is kept."""
    return unicodedata.normalize("NFC", text.translate(SPACES)).strip()


def default_key_file(site: str) -> Path:
    """Return where the key of a site lives unless ``--key-file`` says otherwise."""
    base = os.environ.get("MEDSSL_KEYS")
    return (Path(base) if base else Path.home() / ".medssl" / "keys") / f"{site}.key"


def make_key(where: Path) -> None:
    """Write a new random key file, mode 0600, in a folder of mode 0700."""
    where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_hex(KEY_BYTES) + "\n")


def open_key(site: str, path: Path | None, cohort: Path) -> SiteKey:
    """Read a site's key, or make it on first use (mode 0600).

    Raises:
        RefusedError: the key would lie inside a cohort, or is readable by others.
        UsageError: not a key file.
    """
    where = (path if path is not None else default_key_file(site)).expanduser()
    homes = [p for p in where.resolve().parents if (p / "manifest.parquet").is_file()]
    if where.resolve().is_relative_to(cohort.resolve()) or homes:
        words = f"{where}: a key inside a cohort would travel with it. Keep it elsewhere."
        raise RefusedError(words, "E-KEY-PLACE")
    if not where.exists():
        make_key(where)
    if not where.is_file():
        raise UsageError(f"{where}: not a key file.", "E-KEY")
    if where.stat().st_mode & 0o077:
        words = (
            f"{where}: readable by others (mode {where.stat().st_mode & 0o777:o}). Run: chmod 600."
        )
        raise RefusedError(words, "E-KEY-MODE")
    text = where.read_text(encoding="utf-8", errors="replace").strip()
    if len(text) < KEY_BYTES:
        words = f"{where}: {len(text)} characters; a key has at least {KEY_BYTES}."
        raise UsageError(words, "E-KEY")
    return SiteKey(site, text.encode())


def age_band(years: float | None) -> str | None:
    """Return a five-year band such as ``40-44``; 90 and over are one band."""
    if years is None or not 0 <= years < 130:
        return None
    low = int(years) // BAND_YEARS * BAND_YEARS
    return f"{OLDEST_BAND}+" if low >= OLDEST_BAND else f"{low:02d}-{low + BAND_YEARS - 1:02d}"


def patient_digest(patient_id: str) -> str:
    """Return what an encoder remembers of a pretraining patient: a digest of the pseudonym."""
    return hashlib.sha256(b"medssl seen patient\0" + patient_id.encode()).hexdigest()[:20]


def check_keys(first: dict[str, str], second: dict[str, str]) -> None:
    """Raise RefusedError if one site appears under two keys."""
    torn = sorted(s for s in first if s in second and first[s] != second[s])
    if torn:
        words = (
            f"site {', '.join(torn)}: the encoder and the cohort were made with different keys, so the "
            "same patient has two names and a leak could not be seen. Scan again with the site's key."
        )
        raise RefusedError(words, "E-KEY-CHANGED")
