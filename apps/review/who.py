"""Who is at the screen: a person signed in by OpenID Connect, or a reader of this machine."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

import pixels
import text
import text_settings
from journal import Journal

ROLES = ("clinician", "evaluation", "research", "admin")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}")
CLAIM = "roles"
HOURS = 12
SKEW_S = 300.0


@dataclass(frozen=True)
class Reader:
    """One person.

    Attributes:
        code: what feedback is kept under: a digest of issuer and subject, or the name given here.
        shown: how the page calls them.
        roles: of ``ROLES``.
        signed_in: whether an identity provider vouches for them.
    """

    code: str
    shown: str
    roles: frozenset[str]
    signed_in: bool


def sign_in_is_set_up() -> bool:
    """Return whether people must sign in: the server was started so, or a provider is configured.

    The first alone is enough: where the provider's file was lost since, the door stays shut.
    """
    return os.environ.get("MEDSSL_SIGN_IN") == "required" or _provider_is_known()


def _provider_is_known() -> bool:
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False


def reader() -> Reader | None:
    """Return who is here; where nobody is yet, draw the page that asks, and return None."""
    return _signed_in() if sign_in_is_set_up() else _named()


def arrived(who: Reader, journal: Journal) -> None:
    """Write once per session that a reader came."""
    if st.session_state.get("arrived") != who.code:
        data = {"roles": sorted(who.roles), "signed_in": who.signed_in}
        journal.add(who.code, "signed in", data)
        st.session_state["arrived"] = who.code


def way_out(who: Reader) -> None:
    """Draw who is reading, and how to leave."""
    with st.sidebar.container(key="who"):
        st.text(text_settings.HERE.format(name=who.shown))
        if who.signed_in:
            st.button(text.SIGN_OUT, on_click=_leave, args=(st.logout,), key="sign_out")
            return
        st.caption(text_settings.LOCAL_NAME)
        st.button(
            text_settings.CHANGE_READER,
            on_click=_leave,
            args=(st.session_state.clear,),
            key="sign_out",
        )


def _leave(how: Callable[[], None]) -> None:
    """Put this session's pictures away, then go."""
    pixels.leave(str(st.session_state.get("session", "")))
    how()


def _signed_in() -> Reader | None:
    if not _provider_is_known():
        st.header(text_settings.DOOR_SHUT)
        st.error(text_settings.DOOR_SHUT_WHY)
        return None
    if not st.user.is_logged_in:
        _ask_to_sign_in(text.SIGN_IN, text.SIGN_IN_WHY)
        return None
    claims, own = st.user.to_dict(), dict(st.secrets.get("medssl", {}))
    if is_stale(claims, float(own.get("session_hours", HOURS)), time.time()):
        _ask_to_sign_in(text_settings.STALE, text_settings.STALE_WHY)
        return None
    found = of_claims(claims, str(own.get("roles_claim", CLAIM)))
    if not found.roles:
        st.header(text.NO_ROLE)
        st.write(text.NO_ROLE_WHY.format(roles=", ".join(ROLES)))
        st.button(text.SIGN_OUT, on_click=st.logout)
        return None
    return found


def _ask_to_sign_in(title: str, why: str) -> None:
    st.header(title)
    st.write(why)
    st.button(text.SIGN_IN_BUTTON, on_click=st.login, type="primary")


def is_stale(claims: Mapping[str, Any], hours: float, now: float) -> bool:
    """Return whether a sign-in is too old to count, or does not say when it was.

    Args:
        claims: of the identity token; ``iat`` is when it was issued, seconds since 1970.
        hours: how long a sign-in counts.
        now: seconds since 1970.
    """
    issued = claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return True
    return not -SKEW_S <= now - issued <= hours * 3600.0


def of_claims(claims: Mapping[str, Any], claim: str) -> Reader:
    """Return the reader that an identity provider describes.

    Args:
        claims: of the identity token; ``iss`` and ``sub`` name the person.
        claim: which of them lists the roles, as a list or as words with blanks between; a claim
            inside another is named with dots, such as ``realm_access.roles``.
    """
    told = _told(claims, claim)
    words = told.split() if isinstance(told, str) else told
    roles = frozenset(r for r in ROLES if r in words) if isinstance(words, list) else frozenset()
    person = f"{claims.get('iss', '')}\n{claims.get('sub', '')}"
    code = hashlib.sha256(person.encode()).hexdigest()[:16]
    shown = str(claims.get("name") or claims.get("preferred_username") or code)[:64]
    return Reader(f"oidc:{code}", shown, roles, signed_in=True)


def _told(claims: Mapping[str, Any], claim: str) -> Any:
    """Return a claim by its name, else by its path; a name may have dots of its own."""
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for step in claim.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _named() -> Reader | None:
    name = st.session_state.get("reader_name", "")
    if name:
        return Reader(f"local:{name.casefold()}", name, frozenset(ROLES), signed_in=False)
    st.header(text.WHO)
    st.write(text.WHO_WHY)
    with st.form("who"):
        given = st.text_input(text.WHO_NAME, max_chars=32, autocomplete="off")
        if st.form_submit_button(text.WHO_BUTTON, type="primary"):
            if NAME.fullmatch(given.strip()):
                st.session_state["reader_name"] = given.strip()
                st.rerun()
            st.error(text.WHO_WRONG)
    return None
