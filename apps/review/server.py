"""The server: Streamlit's pages, and one route that hands planes to the viewer by token."""

import logging
import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parent))

import door
from shelf import LISTS, SHELF

QUIET = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def plane(request: Request) -> Response:
    """Return one plane, or 410 where its token is unknown or was put away."""
    return _answer(SHELF.plane(request.path_params["token"], request.path_params["k"]))


def thumb(request: Request) -> Response:
    """Return one small picture of a list."""
    return _answer(LISTS.thumb(request.path_params["token"], request.path_params["k"]))


def _answer(found: bytes | None) -> Response:
    if found is None:
        return PlainTextResponse("gone", status_code=410, headers=QUIET)
    return Response(found, media_type="application/octet-stream", headers=QUIET)


def trouble(error: Exception) -> bool:
    """Draw a sentence instead of a stack; the trace goes to the server's log without its values."""
    import text

    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
    logging.getLogger("medssl.review").error("%s at %s", type(error).__name__, place)
    st.error(text.TROUBLE)
    return True


door.quiet()
app = st.App(
    Path(__file__).parent / "main.py",
    routes=[Route("/planes/{token}/{k:int}", plane), Route("/thumbs/{token}/{k:int}", thumb)],
    middleware=[Middleware(door.Door, names=frozenset(st.get_option("server.allowedHosts")))],
    on_script_error=trouble,
)
