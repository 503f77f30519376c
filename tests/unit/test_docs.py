"""The documents: what they point to is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("**/*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# A path of the checkout between backticks, with the test in it where one is named.
NAMED_PATH = re.compile(r"`((?:arsync|docs|tests|tools)/[\w./-]+?)/?(?:::(\w+))?`")
C_NAME = re.compile(r"`(ar_\w+|AR_\w+)`")
TERM = re.compile(r"^\| ((?:\*\*[^*]+\*\*(?:, )?)+) \|", re.MULTILINE)


def name_of(document: Path) -> str:
    """Return how a test calls a document."""
    return str(document.relative_to(CHECKOUT))


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that the headings of a document make."""
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in HEADING.findall(text(document)))
    return {heading.strip().replace(" ", "-") for heading in plain}


def text(document: Path) -> str:
    """Return what a document says."""
    return document.read_text(encoding="utf-8")


def broken_links(document: Path) -> Iterator[str]:
    """Yield the relative links that lead nowhere."""
    for link in LINK.findall(text(document)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document: Path) -> None:
    """Each link to a file of the checkout, and to a heading in it, resolves."""
    assert list(broken_links(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_and_tests_are_there(document: Path) -> None:
    """Each module, tool and test that a document names exists."""
    missing = [
        f"{path}::{test}" if test else path
        for path, test in NAMED_PATH.findall(text(document))
        if not (CHECKOUT / path).exists() or (test and f"def {test}(" not in text(CHECKOUT / path))
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_c_functions_are_there(document: Path) -> None:
    """Each function, struct and constant of the C that a document names is in its sources."""
    sources = "".join(text(path) for path in (CHECKOUT / "arsync/uring/src").glob("*.[ch]"))
    known = set(re.findall(r"\b(?:ar|AR)_\w+", sources))
    assert sorted(set(C_NAME.findall(text(document))) - known) == []


def test_each_term_is_defined_once() -> None:
    """docs/terms.md has one row for each term."""
    cells = TERM.findall(text(CHECKOUT / "docs/terms.md"))
    terms = Counter(term for cell in cells for term in re.findall(r"\*\*([^*]+)\*\*", cell))
    assert len(terms) > 40
    assert [term for term, count in terms.items() if count > 1] == []


def test_the_links_of_a_document_are_found() -> None:
    """The patterns above see what they are for."""
    assert LINK.findall("see [a](b.md#c) and [d](#e)") == ["b.md#c", "#e"]
    assert NAMED_PATH.findall("`tests/a.py::test_b`, `tools/check`, `docs/`") == [
        ("tests/a.py", "test_b"),
        ("tools/check", ""),
    ]
    assert "differences-from-rsync" in anchors_of(CHECKOUT / "docs/manual.md")
