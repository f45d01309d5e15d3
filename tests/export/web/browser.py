"""A web server for a bundle, and a browser without a window that opens its page."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, urlencode

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 90
"""How long a browser may take; it needs a few seconds."""


def find_browser() -> str:
    """Path of Chromium, or skip the test."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium is installed (apt-get install chromium)")


def find_runtime() -> Path:
    """The folder ``dist`` of onnxruntime-web, or skip the test."""
    root = Path(__file__).parents[3]
    named = os.environ.get("SLIMASR_ORT_WEB")
    for folder in [Path(named)] if named else [root / "node_modules/onnxruntime-web/dist"]:
        if folder.is_dir():
            return folder
    pytest.skip("no onnxruntime-web: npm install onnxruntime-web, or name its folder dist in $SLIMASR_ORT_WEB")


Posted = queue.Queue[tuple[str, Any]]
"""Reports with their names."""


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, counts what is fetched, and keeps what is posted."""

    def __init__(self, *args: Any, fetched: Counter[str], posted: Posted, **kwargs: Any) -> None:
        self.fetched, self.posted = fetched, posted
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.fetched[self.path.partition("?")[0].lstrip("/")] += 1
        super().do_GET()

    def do_POST(self) -> None:
        name = self.path.removeprefix("/report/")
        self.posted.put((name, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Served:
    """A folder on a web server of this machine."""

    def __init__(self, folder: Path) -> None:
        self.fetched: Counter[str] = Counter()
        self.posted: Posted = queue.Queue()
        handler = partial(_Handler, directory=str(folder), fetched=self.fetched, posted=self.posted)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    served = Served(folder)
    Thread(target=served.server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()


def query_of(*pairs: tuple[str, str], name: str = "page") -> str:
    """The query by which the page works without hands (`automate.js` lists the keys); the report gets a name."""
    return urlencode([*pairs, ("post", f"/report/{name}")], quote_via=quote)


def reports_of(
    served: Served, scratch: Path, path: str, count: int, options: Sequence[str] = (), host: str = "127.0.0.1"
) -> dict[str, Any]:
    """Open a page, and return by their names what it and the pages within it post.

    Args:
        served: the web server.
        scratch: an empty folder for the browser's profile and log.
        path: the page with its query.
        count: how many reports to wait for.
        options: more options of the browser.
        host: another name by which the browser calls the server.
    """
    log = scratch / "browser.log"
    address = f"http://{host}:{served.port}/{path}"
    reports: dict[str, Any] = {}
    with open(log, "wb") as file, running([*options, address], scratch, file):
        while len(reports) < count:
            try:
                name, report = served.posted.get(timeout=SECONDS)
            except queue.Empty:
                text = log.read_text(errors="replace")[-2000:]
                pytest.fail(f"{path}: {len(reports)} of {count} reports in {SECONDS} s; the browser says: {text}")
            reports[name] = report
    return reports


def browser_command(scratch: Path, *arguments: str) -> list[str]:
    """Chromium without a window, with a profile of its own."""
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={scratch / 'profile'}",
    ]
    return [find_browser(), *options, "--autoplay-policy=no-user-gesture-required", *arguments]


@contextmanager
def running(arguments: list[str], scratch: Path, log: Any) -> Iterator[None]:
    command = browser_command(scratch, "--enable-logging=stderr", *arguments)
    # A session of its own: Chromium is many processes, which end together.
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
