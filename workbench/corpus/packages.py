"""The packages that the corpus is made of, and how their files get here: apt fetches, dpkg unpacks."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from workbench.progress import track


@dataclass(frozen=True)
class Package:
    """A Debian package with English prose in it.

    Attributes:
        name: the package in the archive of Debian 12, section main.
        files: which of its files hold the prose, as patterns under the folder where it is unpacked.
        licence: of those files, as the package's own copyright file says.
        about: what it is.
    """

    name: str
    files: tuple[str, ...]
    licence: str
    about: str


_GPL = "GPL-2.0-or-later"
_GPL_2 = "GPL-2.0-only"

PACKAGES: tuple[Package, ...] = (
    Package("anarchism", ("usr/share/doc/anarchism/html/*.html",), _GPL_2, "An Anarchist FAQ, essays on politics"),
    Package("abs-guide", ("usr/share/doc/abs-guide/html/*.html",), "public domain", "Advanced Bash-Scripting Guide"),
    Package(
        "debian-handbook",
        ("usr/share/doc/debian-handbook/html/en-US/*.html",),
        "GPL-2.0-or-later or CC-BY-SA-3.0",
        "The Debian Administrator's Handbook",
    ),
    Package("debian-reference-en", ("usr/share/debian-reference/*.html",), _GPL, "Debian Reference"),
    Package("developers-reference", ("usr/share/developers-reference/*.html",), _GPL_2, "Debian Developer's Reference"),
    Package("debian-policy", ("usr/share/doc/debian-policy/*.html/*.html",), _GPL, "Debian Policy Manual"),
    Package("debian-faq", ("usr/share/doc/debian/FAQ/*.en.html",), "its own, copyleft", "The Debian GNU/Linux FAQ"),
    Package("debian-history", ("usr/share/doc/debian-history/docs/*.en.html",), _GPL, "A Brief History of Debian"),
    Package("harden-doc", ("usr/share/doc/harden-doc/html/en-US/*.html",), _GPL_2, "Securing Debian Manual"),
    Package("aptitude-doc-en", ("usr/share/doc/aptitude/html/en/*.html",), _GPL, "aptitude user's manual"),
    Package("jargon-text", ("usr/share/doc/jargon-text/jargon.txt.gz",), "public domain", "The Jargon File"),
    Package("python3.11-doc", ("usr/share/doc/python3.11/html/**/*.html",), "PSF-2.0", "Documentation of Python"),
    Package(
        "postgresql-doc-15",
        ("usr/share/doc/postgresql-doc-15/html/*.html",),
        "PostgreSQL",
        "Documentation of PostgreSQL",
    ),
    Package(
        "rust-doc",
        tuple(f"usr/share/doc/rust-doc/html/{book}/**/*.html" for book in ("book", "nomicon", "reference", "cargo")),
        "MIT or Apache-2.0",
        "The Rust Programming Language and other books on Rust",
    ),
    Package("git-doc", ("usr/share/doc/git-doc/**/*.html",), _GPL_2, "Documentation of Git"),
    Package("gnome-user-docs", ("usr/share/help/C/**/*.page",), "CC-BY-SA-3.0", "GNOME Help"),
    Package("gimp-help-en", ("usr/share/gimp/2.0/help/en/*.html",), "GFDL-1.2-or-later", "GIMP User Manual"),
    Package(
        "apache2-doc", ("usr/share/doc/apache2-doc/manual/en/**/*.html",), "Apache-2.0", "Apache HTTP Server manual"
    ),
    Package(
        "linux-doc-6.1", ("usr/share/doc/linux-doc-6.1/html/**/*.html",), _GPL_2, "Documentation of the Linux kernel"
    ),
)


def chosen(names: Sequence[str]) -> tuple[Package, ...]:
    """The packages of some names; all by default.

    Raises:
        ValueError: there is no such package among them.
    """
    known = {package.name: package for package in PACKAGES}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"package {unknown[0]!r} is not one of the corpus: it is made of {', '.join(known)}")
    return tuple(known[name] for name in names) or PACKAGES


def fetch(packages: Sequence[Package], folder: Path) -> dict[str, str]:
    """Download packages, but for those that are there, and unpack each into a folder of its name.

    Returns:
        Their versions by name.

    Raises:
        ValueError: this machine has no apt, or its archive lacks a package.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ValueError("the corpus is made of Debian packages: it needs apt-get and dpkg-deb, which are not here")
    folder.mkdir(parents=True, exist_ok=True)
    versions = {}
    for package in track(packages, "fetching packages"):
        archives = f"{package.name}_*.deb"
        if not any(folder.glob(archives)):
            _told("apt-get", "download", "--quiet", package.name, folder=folder)
        archive = next(folder.glob(archives)).name
        versions[package.name] = _told("dpkg-deb", "--field", archive, "Version", folder=folder).strip()
        _told("dpkg-deb", "--extract", archive, package.name, folder=folder)
    return versions


def prose_files(package: Package, folder: Path) -> Iterator[Path]:
    """The files of an unpacked package that hold prose, in an order that has nothing to do with what they say.

    Raises:
        ValueError: it has none, so that its layout must have changed.
    """
    found = {file for pattern in package.files for file in folder.glob(pattern) if file.is_file()}
    if not found:
        raise ValueError(f"package {package.name} holds no file {' or '.join(package.files)}: has its layout changed?")
    yield from sorted(found, key=lambda file: blake2b(str(file.relative_to(folder)).encode()).digest())


def _told(*words: str, folder: Path) -> str:
    """Run a program in a folder and return what it printed. Raises ValueError with its own words if it fails."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{words[0]} {words[1]} failed: {' '.join(done.stderr.split())}")
    return done.stdout
