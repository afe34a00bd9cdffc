"""Serve the dashboard: one Streamlit process that only this machine can reach."""

import socket
import subprocess
import sys
import threading
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path

HOST = "127.0.0.1"

_SETTINGS = {
    "server.address": HOST,
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
}
_PATIENCE = 60.0
"""Seconds to wait for the server before giving up on opening the browser."""


def serve_dashboard(port: int, browser: bool) -> None:
    """Serve the dashboard until it ends or Ctrl-C stops it.

    Args:
        port: where to listen on 127.0.0.1.
        browser: open the page once the server answers.

    Raises:
        ValueError: the port is taken.
        FileNotFoundError: the dashboard is not installed.
    """
    script = dashboard_script()
    if _answers(port):
        raise ValueError(f"port {port} is taken by another program: choose one with --port, as {port + 1}")
    settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "server.port": port}.items()]
    if browser:
        threading.Thread(target=_open_browser, args=(port,), daemon=True).start()
    process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", str(script), *settings])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise OSError(f"the dashboard ended with exit code {code}; its own words are above")


def dashboard_script() -> Path:
    """The file that Streamlit runs. Raises FileNotFoundError when the apps are not installed."""
    found = find_spec("apps")
    for folder in found.submodule_search_locations or [] if found else []:
        if (Path(folder) / "dashboard.py").is_file():
            return Path(folder) / "dashboard.py"
    raise FileNotFoundError("the dashboard is not installed: apps/dashboard.py is missing")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _open_browser(port: int) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        if _answers(port):
            webbrowser.open(f"http://{HOST}:{port}")
            return
        time.sleep(0.2)
