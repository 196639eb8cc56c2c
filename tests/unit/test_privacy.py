"""Pseudonyms by an independent line of hmac, key files, bands."""

import hashlib
import hmac

import pytest

from medssl.cohort import privacy
from medssl.errors import RefusedError, UsageError


def test_pseudonym_by_hand():
    key = privacy.SiteKey("a", b"k" * 32)
    wanted = hmac.new(b"k" * 32, b"a\x1fISSUER\x1f007", hashlib.sha256).hexdigest()[:16]
    assert key.pseudonym("p", "ISSUER", "007") == f"p_{wanted}"


def test_site_issuer_and_key_all_matter():
    a, b = privacy.SiteKey("a", b"k" * 32), privacy.SiteKey("b", b"k" * 32)
    other = privacy.SiteKey("a", b"j" * 32)
    names = {k.pseudonym("p", i, "1") for k in (a, b, other) for i in ("", "X")}
    assert len(names) == 6
    assert a.digest == b.digest != other.digest


@pytest.mark.parametrize("text", [" 12 ", "12\0", "\u00a012", "12\u2007"])
def test_padding_is_no_identity(text):
    assert privacy.normalise_id(text) == "12"


def test_case_is_kept_and_forms_are_joined():
    assert privacy.normalise_id("aB") != privacy.normalise_id("ab")
    assert privacy.normalise_id("e\u0301") == privacy.normalise_id("\u00e9")


def test_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "k" / "a.key"
    first = privacy.open_key("a", path, tmp_path / "cohort")
    assert path.stat().st_mode & 0o777 == 0o600
    assert privacy.open_key("a", path, tmp_path / "cohort") == first


def test_key_refusals(tmp_path):
    with pytest.raises(RefusedError, match="inside a cohort"):
        privacy.open_key("a", tmp_path / "cohort" / "a.key", tmp_path / "cohort")
    loose = tmp_path / "loose.key"
    loose.write_text("x" * 64)
    loose.chmod(0o644)
    with pytest.raises(RefusedError, match="chmod"):
        privacy.open_key("a", loose, tmp_path / "cohort")
    loose.chmod(0o600)
    loose.write_text("short")
    with pytest.raises(UsageError, match="at least"):
        privacy.open_key("a", loose, tmp_path / "cohort")


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (0, "00-04"),
        (4.99, "00-04"),
        (44, "40-44"),
        (89.9, "85-89"),
        (90, "90+"),
        (104, "90+"),
        (None, None),
        (-1, None),
        (200, None),
    ],
)
def test_age_bands(years, band):
    assert privacy.age_band(years) == band


def test_two_keys_for_one_site_are_refused():
    privacy.check_keys({"a": "1"}, {"a": "1", "b": "2"})
    with pytest.raises(RefusedError, match="different keys"):
        privacy.check_keys({"a": "1"}, {"a": "2"})
