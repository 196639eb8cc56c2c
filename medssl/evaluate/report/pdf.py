"""The report as PDF/UA, from the HTML that was already written; nothing is fetched for it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medssl.files import atomic

VARIANT = "pdf/ua-1"
PROTOCOLS = ("data",)
"""The only addresses that are opened: what the page carries itself."""
LOGGERS = ("weasyprint", "fontTools", "PIL")


def write_pdf(html_text: str, path: Path) -> str | None:
    """Write a page as a tagged PDF that a screen reader can follow.

    The bytes are a function of the page, the fonts of the machine and WeasyPrint's version: no time
    and no random identifier goes in.

    Args:
        html_text: a whole page with ``lang`` and ``<title>``; its pictures inline or as data: URI.
            Any other address, of the network or of a file, is refused and left out.
        path: where to write; what stood there is replaced only by a whole file.

    Returns:
        None when written; else a sentence why not, and the HTML stands alone.

    Raises:
        ValueError: if the page lacks its title or its language, which PDF/UA asks for.
        DiskError: if there is no room.
    """
    with _quiet():
        try:
            # Here and not above: Pango is loaded with it, and few commands need either.
            from weasyprint import HTML  # type: ignore[import-untyped]
            from weasyprint.urls import URLFetcher  # type: ignore[import-untyped]
        except (ImportError, OSError) as error:
            return _why_not(path, error)
        # A base that joins nothing: without one, a relative address in a style is an error.
        fetcher = URLFetcher(allowed_protocols=PROTOCOLS)
        page = HTML(string=html_text, base_url="about:blank", url_fetcher=fetcher)
        document = page.render()
        _check(document.metadata)
        content: bytes = document.write_pdf(pdf_variant=VARIANT)
    with atomic(path) as out:
        out.write(content)
    return None


def _check(metadata: Any) -> None:
    lacking = [
        name
        for name, value in (("a <title>", metadata.title), ("a lang on <html>", metadata.lang))
        if not (value or "").strip()
    ]
    if lacking:
        raise ValueError(
            f"A page for PDF/UA lacks {' and '.join(lacking)}; add it to the template."
        )


def _why_not(path: Path, error: ImportError | OSError) -> str:
    if isinstance(error, ModuleNotFoundError):
        what, cure = f"{error.name} is not installed", 'install "medssl[report]"'
    else:
        # WeasyPrint's own text runs over several lines; its first says which library.
        first = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"WeasyPrint could not be loaded ({first})"
        cure = "install Pango and the other packages of packages.txt"
    return f"{path.name} was not written: {what}. The HTML page holds the same; for the PDF {cure}."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep WeasyPrint and the font tools from writing on the terminal, whoever set up logging.

    A missing library is printed at import, style that print does not know is logged; neither is for
    the person who asked for a report.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.propagate for logger in loggers]
    silence = logging.NullHandler()
    try:
        for logger in loggers:
            logger.propagate = False
            logger.addHandler(silence)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.propagate = propagate
            logger.removeHandler(silence)
