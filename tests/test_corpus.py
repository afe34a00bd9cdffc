"""The corpus: prose out of pages, each paragraph once, nothing held out that is learnt from, nobody too loud."""

import gzip
import json
import shutil
import subprocess

import pytest

from workbench.coders.training import read_documents
from workbench.corpus import PACKAGES, Package, build, chosen
from workbench.corpus.packages import fetch
from workbench.corpus.prose import paragraphs

SENTENCE = "The keeper of the lighthouse number {} counted every ship that passed in the long night."
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def page(sentences: list[str]) -> str:
    body = "".join(f"<p>{sentence}</p>\n" for sentence in sentences)
    return f"<html><head><title>A title of more than eight words is no prose at all</title></head><body>{body}</body>"


def story(name: str, count: int = 8) -> list[str]:
    return [SENTENCE.format(f"{name} and {number}") for number in NUMBERS[:count]]


@pytest.fixture
def packages(monkeypatch):
    """Two packages of a few pages, which nobody has to fetch."""
    made = tuple(Package(name, ("pages/*.html",), "CC0-1.0", f"stories of {name}") for name in ("east", "west"))

    def unpack(asked, folder):
        for package in asked:
            place = folder / package.name / "pages"
            place.mkdir(parents=True)
            for number in NUMBERS:
                (place / f"{number}.html").write_text(page(story(f"{package.name} {number}")))
            (place / "copy.html").write_text(page(story(f"{package.name} one")))
            (place / "short.html").write_text(page(story("short", 1)))
        return {package.name: "1.0" for package in asked}

    monkeypatch.setattr("workbench.corpus.building.fetch", unpack)
    return made


def test_html_gives_its_sentences_and_nothing_else(tmp_path) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        "<html><head><title>The title of this page is not a sentence of it</title><style>p {color: red}</style></head>"
        "<body><nav>Next page previous page up one level of the tree and home</nav>"
        "<p>The <b>first</b> sentence runs over\n two lines &amp; holds <code>some.code</code> in its middle.</p>"
        "<pre>for word in the_words_of_the_page do print this and that and more</pre>"
        "<ul><li>Too short.</li><li>A second one stands in a list and is long enough to be kept.\u00b6</li></ul>"
        "<p>0x00 0x01 0x02 0x03 0x04 0x05 0x06 0x07 0x08 0x09</p></body></html>"
    )
    assert list(paragraphs(file)) == [
        "The first sentence runs over two lines & holds some.code in its middle.",
        "A second one stands in a list and is long enough to be kept.",
    ]


def test_mallard_pages_plain_text_and_old_encodings_are_read(tmp_path) -> None:
    mallard = tmp_path / "help.page"
    mallard.write_text(
        '<page xmlns="http://projectmallard.org/1.0/"><info><desc>What this page of the help is about in short.</desc>'
        "</info><p>Press <key>Enter</key> to open the folder that you chose in the list.</p></page>"
    )
    assert list(paragraphs(mallard)) == ["Press Enter to open the folder that you chose in the list."]
    plain = tmp_path / "words.txt.gz"
    plain.write_bytes(gzip.compress(b"A paragraph of plain text goes\n   over some lines of a file.\n\nNo.\n"))
    assert list(paragraphs(plain)) == ["A paragraph of plain text goes over some lines of a file."]
    old = tmp_path / "old.html"
    old.write_bytes("<p>In the café they sat and spoke of ships until it was late.</p>".encode("latin-1"))
    assert list(paragraphs(old)) == ["In the café they sat and spoke of ships until it was late."]


def test_every_paragraph_is_there_once_and_nothing_held_out_is_learnt_from(packages, tmp_path) -> None:
    made = build(tmp_path / "corpus.txt", packages=packages, share_held_out=0.3)
    learnt, held_out = read_documents(made.text), read_documents(made.held_out)
    lines = [line for document in learnt + held_out for line in document.splitlines()]
    assert sorted(lines) == sorted(
        line for side in ("east", "west") for number in NUMBERS for line in story(f"{side} {number}")
    )
    assert 0 < len(held_out) < len(learnt)
    sides = ["east" if "east" in document else "west" for document in learnt]
    assert sides != sorted(sides), "the packages are mixed"
    record = json.loads(made.record.read_text())
    assert [(row["package"], row["version"], row["licence"]) for row in record] == [
        ("east", "1.0", "CC0-1.0"),
        ("west", "1.0", "CC0-1.0"),
    ]
    assert made.characters == sum(len(document) for document in learnt + held_out)
    again = build(tmp_path / "again.txt", packages=packages, share_held_out=0.3)
    assert again.text.read_bytes() == made.text.read_bytes()


def test_no_package_is_louder_than_it_may_be(packages, tmp_path) -> None:
    made = build(tmp_path / "corpus.txt", packages=packages, most=2000, share_held_out=0.0)
    longest = max(len(document) for document in read_documents(made.text))
    for row in json.loads(made.record.read_text()):
        assert 2000 <= row["characters"] < 2000 + longest
    assert made.held_out.read_text() == ""


def test_what_cannot_be_built_is_refused(packages, tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="share held out is from 0 up to 1, found 1.0"):
        build(tmp_path / "a.txt", packages=packages, share_held_out=1.0)
    with pytest.raises(ValueError, match="package 'emacs' is not one of the corpus"):
        chosen(["emacs"])
    lost = Package("east", ("nowhere/*.html",), "CC0-1.0", "")
    with pytest.raises(ValueError, match=r"package east holds no file nowhere/\*.html"):
        build(tmp_path / "b.txt", packages=[lost])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match="it needs apt-get and dpkg-deb"):
        fetch(packages, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_that_is_there_is_unpacked_without_a_download(tmp_path) -> None:
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "pages").mkdir()
    (source / "DEBIAN" / "control").write_text(
        "Package: east\nVersion: 2.5-1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: tales\n"
    )
    (source / "pages" / "one.html").write_text(page(story("one")))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["dpkg-deb", "--build", source, folder / "east_2.5-1_all.deb"], check=True, capture_output=True)
    made = Package("east", ("pages/*.html",), "CC0-1.0", "")
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    assert fetch([made], folder) == {"east": "2.5-1"}
    assert (folder / "east" / "pages" / "one.html").is_file()


def test_every_package_is_named_once_with_its_licence() -> None:
    assert len({package.name for package in PACKAGES}) == len(PACKAGES) == len(chosen([]))
    assert all(package.licence and package.about and package.files for package in PACKAGES)
