"""The app in a real browser: its server as a child, the system's Chromium, and what tests do with both."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec

from medssl import serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
NEEDED = [
    n for n, there in (("chromium", CHROMIUM), ("playwright", find_spec("playwright"))) if not there
]
WHY = (
    f"NOT TESTED in a browser: {' and '.join(NEEDED)} absent. Debian: apt-get install chromium "
    "(make test does it as root)."
)
CANVAS = "canvas[data-ready]"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(root, feedback, port, **more):
    """The server as a child process, ready to answer."""
    environment = {
        **os.environ, "MEDSSL_RUNS": str(root), "MEDSSL_FEEDBACK": str(feedback),
        "OMP_NUM_THREADS": "1", **more,
    }  # fmt: skip
    words = serve.command(root, port, "127.0.0.1")
    child = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for _ in range(600):
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/_stcore/health", timeout=2
            ) as got:
                if got.status == 200:
                    return child
        except OSError:
            time.sleep(0.1)
        if child.poll() is not None:
            break
    child.kill()
    raise AssertionError(f"the server did not start: {child.stdout.read()}")


def stop(child):
    """End the server; return what it logged."""
    child.terminate()
    try:
        told, _ = child.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        told, _ = child.communicate()
    return told


@contextmanager
def chromium():
    """One browser; its pages speak to loopback only, which tests count."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        one = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        try:
            yield one
        finally:
            one.close()


def open_page(browser, url, seen=None, width=1400, height=1000):
    """A new page of a new person; every address it asks for goes into ``seen``."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(60_000)
    if seen is not None:
        page.on("request", lambda request: seen.append(request.url))
        page.on("websocket", lambda socket_: seen.append(socket_.url))
    page.goto(url)
    return page


def enter(page, name):
    """Say who reads, and wait for the list."""
    page.get_by_label("Initials or reader number").fill(name)
    page.get_by_role("button", name="Start").click()
    page.locator(".box[data-ready]").wait_for()


def settled(page):
    """Wait until the page has no run of the script under way, and no colour is still changing."""
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    )
    page.wait_for_function(
        "() => !document.getAnimations().some(a => a instanceof CSSTransition && a.playState === 'running')"
    )


def to(page, title):
    """Go to a page by its link."""
    page.get_by_role("link", name=title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    settled(page)


def first_case(page):
    """From the list to its first case by keyboard."""
    page.locator(".box").focus()
    page.keyboard.press("Enter")
    page.locator(CANVAS).first.wait_for()
    settled(page)


def own_read(page, k):
    """Press the k-th of the five answers."""
    page.locator(
        f'[class*="st-key-own_"][class$="_{k}"] button, [class*="st-key-own_"][class*="_{k} "] button'
    ).click()
    page.get_by_role("heading", name="The computer's read").wait_for()
    settled(page)


def case_code(page):
    """The picture at hand, by the address of its pixels."""
    return page.locator(CANVAS).first.get_attribute("data-id")


def pixels(page):
    """The grey levels on the viewer's canvas, row by row."""
    return page.locator(CANVAS).first.evaluate(
        """(canvas) => { const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const out = []; for (let k = 0; k < d.length; k += 4) out.push(d[k]);
        return {width: canvas.width, height: canvas.height, grey: out}; }"""
    )
