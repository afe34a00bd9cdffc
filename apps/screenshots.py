"""Pictures of every page, light and dark: `python -m apps.screenshots` writes them to screenshots/.

`python -m apps.screenshots readme` takes those of the README, on the examples that ship. The module serves the
dashboard over a store of its own and drives Chromium (extra `dev`), as the browser tests do.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.examples import example
from workbench.serving import HOST, dashboard_script
from workbench.tour import BUNDLED_MODEL

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from workbench.store import Store

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDTH = 1400
_HEIGHT = 1000
_SECONDS = 60
_STILL = """() => document.querySelector("[data-testid=stApp]").dataset.testScriptState === "notRunning"
    && !document.querySelector("[data-testid=stSkeleton]")
    && [...document.querySelectorAll("[data-testid=stPlotlyChart]")].every(chart => chart.querySelector(".nsewdrag"))"""
"""No page is being made, nothing waits for its place, every chart is drawn."""


@dataclass(frozen=True)
class Served:
    """A dashboard that is being served: its address, and the number of its process."""

    address: str
    pid: int


@contextmanager
def serving(home: Path, script: Path | None = None) -> Generator[Served]:
    """Serve the dashboard, or another script that draws it, over the store in `home` while the block runs."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script or dashboard_script()), f"--server.port={port}"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, "WORKBENCH_HOME": str(home)}, stdout=log, stderr=log)
        try:
            _await(port, server)
            yield Served(f"http://{HOST}:{port}", server.pid)
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
    page.wait_for_function(_STILL)
    page.wait_for_timeout(500)  # a redraw begins a moment after what asks for it, and a chart moves once more
    page.wait_for_function(_STILL)


def take(page: "Page", file: Path, height: int | None = None) -> None:
    """Take a picture of the page, of its whole length or of the first `height` pixels."""
    length = page.locator("[data-testid=stMain]").evaluate("part => part.scrollHeight")
    page.set_viewport_size({"width": _WIDTH, "height": height or max(int(length), _HEIGHT)})
    settle(page)
    page.screenshot(path=file)
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})


def _visit(browser: "Browser", address: str, scheme: Literal["light", "dark"] = "light") -> "Page":
    """A page at an address, with its model loaded."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": _WIDTH, "height": _HEIGHT})
    page.set_default_timeout(10_000 * _SECONDS)
    page.goto(address)
    page.mouse.click(_WIDTH / 2, 5)  # Chromium may swallow the first click after a load
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text("M parameters").wait_for()
    return page


def take_readme_pictures() -> None:
    """Take the pictures of the README that show finished examples: docs/<name>.png."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as served, chromium() as browser:
        for name, (link, height) in readme_links().items():
            page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            page.set_default_timeout(10_000 * _SECONDS)
            page.goto(f"{served.address}/{link}")
            page.locator("h2").first.wait_for()
            settle(page)
            take(page, Path("docs") / f"{name}.png", height)
            page.close()


def readme_links() -> dict[str, tuple[str, int]]:
    """The address and the height of each picture of the README: finished examples, which need no model."""
    shown = example("example-neuron_activity").params
    return {
        "first-page": ("", 1240),
        "attention-wall": ("attention_patterns?run=example-attention_patterns&at=layer2.head0", 1700),
        "neuron": (f"neuron?at=layer{shown['layer']}.neuron{shown['neuron']}&model={BUNDLED_MODEL}", 1240),
        "circuit": ("transcoder_circuit?run=example-transcoder_circuit", 1500),
    }


def _links(store: "Store") -> dict[str, str]:
    """The address of every page, with the runs of the tour on show."""
    runs = {run.analysis: run.id for run in store.runs()}
    pages = {name: f"{name}?run={run}" for name, run in runs.items()}
    some = ",".join(list(runs.values())[:2])
    kept = {"head": "head?at=layer2.head1", "runs": "runs", "compare": "compare", "report": f"report?runs={some}"}
    return {"welcome": "", **pages, **kept}


def take_all_pictures() -> None:
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
        links = _links(store)
        with serving(Path(scratch)) as served, chromium() as browser:
            for scheme in SCHEMES:
                page = _visit(browser, served.address, scheme)
                for name, link in links.items():
                    page.goto(f"{served.address}/{link}")
                    page.locator("h2").first.wait_for()
                    settle(page)
                    take(page, folder / f"{name}-{scheme}.png")
                page.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["readme"]:
            take_readme_pictures()
        case _:
            take_all_pictures()
