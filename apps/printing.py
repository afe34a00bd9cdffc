"""Printing: a report as PDF and a drawing as PNG, by the Chromium of the system if there is one."""

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120


@cache
def chromium_program() -> str | None:
    """The path of Chromium or Chrome, None when there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def as_pdf(page: bytes) -> bytes:
    """Print an HTML file.

    Raises:
        FileNotFoundError: there is no Chromium.
        OSError: Chromium failed, with what it said.
    """
    return _made_by_chromium(page, "report.html", "report.pdf", ["--no-pdf-header-footer", "--print-to-pdf="])


def as_png(drawing: str) -> bytes:
    """Draw an SVG file at twice its size in pixels.

    Raises:
        FileNotFoundError: there is no Chromium.
        OSError: Chromium failed, with what it said.
    """
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', drawing)
    if size is None:
        raise ValueError("the drawing does not say its size")
    wide, tall = (round(float(one)) for one in size.groups())
    page = f"<!doctype html><style>body{{margin:0}}svg{{display:block}}</style>{drawing}"
    look = ["--force-device-scale-factor=2", "--hide-scrollbars", f"--window-size={wide},{tall}", "--screenshot="]
    return _made_by_chromium(page.encode(), "drawing.html", "drawing.png", look)


def _made_by_chromium(content: bytes, source_name: str, target_name: str, options: list[str]) -> bytes:
    """What Chromium makes of a file; the path of the target follows the last option."""
    program = chromium_program()
    if program is None:
        raise FileNotFoundError(f"{target_name} needs Chromium or Chrome, and none of {', '.join(_NAMES)} was found")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / source_name, Path(folder) / target_name
        source.write_bytes(content)
        command = [program, "--headless", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to run as root otherwise
        command += [*options[:-1], f"{options[-1]}{target}", source.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        if not target.is_file():
            told = done.stderr.decode(errors="replace").strip()[-300:]
            raise OSError(f"Chromium made no {target_name}: {told}")
        return target.read_bytes()
