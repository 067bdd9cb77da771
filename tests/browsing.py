"""The demo in a real browser: a server on a run that was trained for a minute, and pages that fail on whatever they should not do."""

import base64
import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

# nothing that a browser does of itself: no look for updates, no lookups of hosts
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run folder: digits of 8x8 pixels, hardly trained, or a copy of what SFUMATO_RUN names, since comparisons are kept there."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    if os.environ.get("SFUMATO_RUN"):
        shutil.copytree(os.environ["SFUMATO_RUN"], folder, ignore=shutil.ignore_patterns("compare"))
        return folder
    command(["train", "digits", "--steps", "150", "--out", str(folder)])
    return folder


def command(words):
    """`sfumato` with words, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "sfumato.tools.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def served(run, log, *more):
    """The address of a server of its own, as anybody starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "sfumato.tools.cli", "demo", str(run), "--port", str(port), *more]
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
    address = f"http://127.0.0.1:{port}/"
    try:
        end = time.monotonic() + 90
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no answer in 90 s: {log.read_text()}"
            try:
                urllib.request.urlopen(address, timeout=10).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="session")
def address(run, tmp_path_factory):
    """Of the server that the tests share."""
    with served(run, tmp_path_factory.mktemp("served") / "log.txt") as found:
        yield found


@pytest.fixture(scope="session")
def chromium():
    """A browser, found by SFUMATO_CHROMIUM or its usual name."""
    api = pytest.importorskip("playwright.sync_api", reason="make test-demo installs playwright")
    found = os.environ.get("SFUMATO_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "no chromium; make test-demo installs it, or SFUMATO_CHROMIUM names one"
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """Someone at a page of the demo: clicks, waits and looks.

    page: of playwright. faults: what the page did that it should not: errors of its console, requests to other hosts, refused answers.
    """

    def __init__(self, context, address, path=""):
        self.address, self.faults, self._asked, self._open = address, [], 0, 0
        self.context, self.page = context, context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfinished", self._ended)
        self.page.on("requestfailed", self._ended)
        self.page.on("response", self._response)
        self.page.goto(address + path)
        self.ready()

    def ready(self):
        """Wait until the page is there, and its form has met the model."""
        self.page.wait_for_selector("#make")
        self.settle()

    def reload(self):
        """Load the page again, whatever goes on there, and wait until it is ready."""
        before = list(self.faults)
        self.page.reload()
        # a page that is left while it listens says that it was cut off
        self.faults[:] = before + [fault for fault in self.faults[len(before) :] if not _CUT.search(fault)]
        self._asked = self._open = 0
        self.ready()

    def expected(self, *words):
        """Take back the faults that a test provokes: each must be there, and nothing else may be."""
        for word in words:
            assert any(word in fault for fault in self.faults), (word, self.faults)
        self.faults[:] = [fault for fault in self.faults if not any(word in fault for word in words)]

    def _console(self, message):
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _request(self, request):
        url = request.url
        if not url.startswith((self.address, "data:", f"blob:{self.address}")):
            self.faults.append(f"another host was asked: {url}")
        if _work(request):
            self._asked, self._open = self._asked + 1, self._open + 1

    def _ended(self, request):
        self._open -= _work(request)

    def _response(self, response):
        if response.status >= 400:
            self.faults.append(f"{response.status} for {response.url}")

    def settle(self, least=1, seconds=30.0):
        """Wait until nothing is asked of the server any more.

        Args:
            least: pieces of work that must have been asked for since the last time.
            seconds: to wait.
        """
        end, quiet = time.monotonic() + seconds, 0
        while quiet < 3:
            assert time.monotonic() < end, (
                f"still at work after {seconds} s; {self._asked} were asked, {self._open} open"
            )
            self.page.wait_for_timeout(40)
            quiet = quiet + 1 if self._asked >= least and self._open <= 0 else 0
        self._asked = 0

    def tab(self, name):
        """Change to a tab, where there is room for its name or from the menu of others."""
        there = self.page.get_by_role("tab", name=name, exact=True)
        if there.count() and there.first.is_visible():
            there.first.click()
        else:
            self.page.get_by_role("button", name="More tabs").click()
            self.page.locator(".overflow-dropdown button", has_text=name).click()
        self.page.wait_for_timeout(100)

    def choose(self, menu, name):
        """Choose from a menu by its element's id."""
        box = self.page.locator(f"#{menu} input")
        box.click()
        self.page.get_by_role("option", name=name, exact=True).click()

    def write(self, field, text):
        """Write into a field by its element's id, and leave it."""
        box = self.page.locator(f"#{field} :is(textarea, input)").first
        box.fill(str(text))
        box.blur()

    def open(self, part):
        """Unfold a part of the form by its element's id."""
        button = self.page.locator(f"#{part} .label-wrap")
        if "open" not in (button.get_attribute("class") or "").split():
            button.click()

    def number(self, field, value):
        """Set a slider's number by its element's id."""
        box = self.page.locator(f"#{field} input[type=number]")
        box.fill(str(value))
        box.blur()

    def sample(self):
        """Press Sample and wait for the end; returns the pictures."""
        self.page.click("#make")
        self.made()
        return self.pictures("#tiles")

    def made(self, seconds=40.0):
        """Wait for the end of what Sample began."""
        self.settle(2, seconds)
        self.page.locator("#make:not([disabled])").wait_for()

    def compare(self, seconds=120.0):
        """Press Compare, twice where the machine is so slow that the page asks whether that is meant, and wait for the end."""
        self.page.click("#compare-make")
        self.settle(seconds=seconds)
        if "once more" in self.text("#compare-bar"):
            self.page.click("#compare-make")
            self.settle(seconds=seconds)

    def pictures(self, where):
        """What is seen, as arrays: every picture within an element that is its own content."""
        sources = self.page.eval_on_selector_all(f"{where} img", "all => all.filter(i => i.complete).map(i => i.src)")
        return [pixels(source) for source in sources if source.startswith(("data:image/png", "data:image/webp"))]

    def text(self, where):
        """What is read in an element."""
        return self.page.locator(where).inner_text()

    def sideways(self):
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def close(self):
        """Go away; fails for what the page should not have done."""
        self.page.close()
        assert not self.faults, "\n".join(self.faults)


_CUT = re.compile("AbortError|Connection errored out|network error|Failed to fetch", re.IGNORECASE)


def _work(request):
    """Whether a request is work for the server: not the stream that says that the page is still there, and no file."""
    return any(part in request.url for part in ("/gradio_api/run/", "/gradio_api/queue/", "/gradio_api/call/"))


def pixels(source):
    """The picture of a data: address."""
    return np.asarray(Image.open(io.BytesIO(decoded(source))).convert("RGB"), np.float64)


def decoded(source):
    """The bytes of a data: address."""
    kind, _, text = source.partition(",")
    assert kind.startswith("data:image/"), kind
    assert kind.endswith(";base64"), kind
    return base64.b64decode(text)


def equal(one, other):
    """Whether two lists of pictures are the same, pixel by pixel."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def drawn(pictures):
    """Whether there are pictures, and none of one colour."""
    return len(pictures) > 0 and all(picture.std() > 8 for picture in pictures)


class Contexts:
    """Browsers without a past: one per kind, whose files from the server are kept, and whose memory of the form is not."""

    def __init__(self, chromium, address):
        self._chromium, self._address, self._there = chromium, address, {}

    def one(self, phone, dark, apart):
        """A context. apart: one of its own, as another person's."""
        key = (phone, dark, len(self._there) if apart else None)
        if key not in self._there:
            self._there[key] = self._chromium.new_context(
                viewport=PHONE if phone else DESK, has_touch=phone, is_mobile=phone, color_scheme="dark" if dark else "light",
                accept_downloads=True, reduced_motion="reduce",
            )  # fmt: skip
        else:
            page = self._there[key].new_page()
            page.goto(f"{self._address}favicon.ico")
            page.evaluate("localStorage.clear()")
            page.close()
        return self._there[key]

    def close(self):
        """Close them."""
        for context in self._there.values():
            context.close()


@pytest.fixture(scope="session")
def contexts(chromium, address):
    """Of all tests."""
    there = Contexts(chromium, address)
    yield there
    there.close()


@pytest.fixture
def visit(contexts, address):
    """Makes visitors, of whom each must have seen a page without faults in the end."""
    there = []

    def come(*, phone=False, dark=False, apart=False, path=""):
        there.append(Visitor(contexts.one(phone, dark, apart), address, path))
        return there[-1]

    yield come
    for one in there:
        one.close()


@pytest.fixture
def visitor(visit):
    """One at a desk, in daylight."""
    return visit()
