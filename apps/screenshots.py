"""Pictures of every page, light and dark: `python -m apps.screenshots` writes them to screenshots/.

It serves the dashboard over a store of its own and drives Chromium (extra `dev`); the browser tests use the
same two functions.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.serving import HOST, dashboard_script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SCHEMES = ("light", "dark")
README_PICTURE = ("logit_lens", "light")
"""The page of the picture in the README, docs/screenshot.png."""
_WIDTH = 1400
_HEIGHT = 1000
_README_HEIGHT = 1240
_SECONDS = 60


@contextmanager
def serving(home: Path) -> Generator[str]:
    """Serve the dashboard over the store in `home` while the block runs; gives its address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(dashboard_script()), f"--server.port={port}"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, "WORKBENCH_HOME": str(home)}, stdout=log, stderr=log)
        try:
            _await(port, server)
            yield f"http://{HOST}:{port}"
        finally:
            server.terminate()
            server.wait()


def _await(port: int, server: subprocess.Popen) -> None:
    limit = time.monotonic() + _SECONDS
    while time.monotonic() < limit and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise OSError(f"the dashboard did not answer on port {port} within {_SECONDS} s")


@contextmanager
def chromium() -> Generator["Browser"]:
    """A browser that the system brings along. Raises FileNotFoundError when there is none."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).is_file():
        raise FileNotFoundError(f"{CHROMIUM} is missing: install Chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def settle(page: "Page") -> None:
    """Wait until nothing on the page is being drawn."""
    page.wait_for_load_state("networkidle")
    page.locator("[data-testid=stStatusWidget]").wait_for(state="detached")
    page.wait_for_timeout(500)  # the charts have no sign of their own


def take(page: "Page", file: Path, height: int | None = None) -> None:
    """Take a picture of the page, of its whole length or of the first `height` pixels."""
    length = page.locator("[data-testid=stMain]").evaluate("part => part.scrollHeight")
    page.set_viewport_size({"width": _WIDTH, "height": height or max(int(length), _HEIGHT)})
    settle(page)
    page.screenshot(path=file)
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})


def _load_model(page: "Page", address: str) -> None:
    page.goto(address)
    page.mouse.click(_WIDTH / 2, 5)  # Chromium may swallow the first click after a load
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text("M parameters").wait_for(timeout=1000 * _SECONDS)


def main() -> None:
    """Take the tour, then a picture of every page with its result."""
    from workbench.model import load
    from workbench.store import Store
    from workbench.tour import tour, tour_model

    folder = Path("screenshots")
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(scratch)
        for _ in tour(load(tour_model()), Path(scratch) / "out", store):
            pass
        links = {"welcome": "", **{run.analysis: f"{run.analysis}?run={run.id}" for run in store.runs()}}
        with serving(Path(scratch)) as address, chromium() as browser:
            for scheme in SCHEMES:
                page = browser.new_page(color_scheme=scheme, viewport={"width": _WIDTH, "height": _HEIGHT})
                _load_model(page, address)
                for name, link in links.items():
                    page.goto(f"{address}/{link}")
                    page.locator("h2").first.wait_for()
                    settle(page)
                    take(page, folder / f"{name}-{scheme}.png")
                    if (name, scheme) == README_PICTURE:
                        take(page, Path("docs") / "screenshot.png", _README_HEIGHT)
                page.close()


if __name__ == "__main__":
    main()
