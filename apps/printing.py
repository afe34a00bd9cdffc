"""Printing: a report as PDF, by the Chromium of the system if there is one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120


def chromium_program() -> str | None:
    """The path of Chromium or Chrome, None when there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def as_pdf(page: bytes) -> bytes:
    """Print an HTML file.

    Raises:
        FileNotFoundError: there is no Chromium.
        OSError: Chromium failed, with what it said.
    """
    program = chromium_program()
    if program is None:
        raise FileNotFoundError(f"a PDF needs Chromium or Chrome, and none of {', '.join(_NAMES)} was found")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "report.html", Path(folder) / "report.pdf"
        source.write_bytes(page)
        command = [
            program,
            "--headless",
            "--disable-gpu",
            f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer",
        ]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to run as root otherwise
        done = subprocess.run(
            [*command, f"--print-to-pdf={target}", source.as_uri()], capture_output=True, timeout=_SECONDS, check=False
        )
        if not target.is_file():
            raise OSError(f"Chromium made no PDF: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return target.read_bytes()
