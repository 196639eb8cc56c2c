"""The door before every page: answers only under known names, and tells browsers to stay here."""

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/_stcore/health"
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline' blob:",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def quiet() -> None:
    """Keep Streamlit from logging what an error says: it may quote a patient's data."""
    logging.getLogger("streamlit.error_util").disabled = True


class Door:
    """Refuses other names of this server and foreign pages, before anything looks them up.

    A page elsewhere may point its name at this machine, or call it from a reader's browser. And
    Streamlit, met with a foreign page, asks a machine outside for the own address.

    Args:
        app: what stands behind the door.
        names: hosts under which browsers reach this server; none stands for all.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if not self._is_known(scope):
            await _refuse(scope, receive, send)
            return

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with)

    def _is_known(self, scope: Scope) -> bool:
        if not self.names or scope["path"] == HEALTH:
            return True
        told = Headers(scope=scope)
        origin = told.get("origin")
        if _host(f"//{told.get('host', '')}") not in self.names:
            return False
        return origin is None or _host(origin) in self.names


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse("forbidden", status_code=403, headers=HEADERS)(scope, receive, send)


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
