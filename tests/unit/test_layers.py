"""The shape of the package: who may import whom, and what a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "arsync"

# A module imports only from those that stand before it; a package counts as one and is free
# inside. "arsync" is the package's own __init__.py, the public API.
ORDER = (
    # L0
    "errors",
    "sizes",
    "modes",
    "owners",
    "labelled",
    "wildcards",
    "patterns",
    "filters",
    "model",
    "clock",
    "consequences",
    "options",
    "stop",
    "listener",
    # L1
    "mounts",
    "uring",
    "manifest",
    # L2
    "diff",
    "prune",
    "scan",
    "filelist",
    "roots",
    "destination",
    "sources",
    "doctor",
    "settings",
    "plan",
    "recorder",
    "renames",
    "checkpoint",
    # L3
    "execute",
    "figures",
    "itemize",
    "wording",
    "refusal",
    "deletion",
    "progress",
    "report",
    "events",
    "inventory",
    "account",
    # L4
    "sync",
    "planfile",
    "arsync",
    # L5
    "cli",
    "__main__",
)
TOP = ("cli", "__main__")
ONLY_IN = {"arsync.uring._native": "uring", "cffi": "uring", "lmdb": "manifest"}
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
MOST_LINES = 600


def test_each_module_imports_only_from_above() -> None:
    """No module imports one that stands after it, or beside it, in the order of layers."""
    wrong = [
        f"{module} imports {imported}"
        for module, path in modules()
        for imported in imports_of(path.read_text(), module)
        if {part_of(module), part_of(imported)} <= set(ORDER)
        and not may_import(part_of(module), part_of(imported))
    ]
    assert wrong == []


def test_each_module_has_its_place() -> None:
    """Whoever adds a module says which layer it belongs to."""
    assert {part_of(module) for module, _ in modules()} - set(ORDER) == set()


def test_some_modules_have_one_owner() -> None:
    """The compiled module and the database are each imported by one package only."""
    wrong = [
        f"{module} imports {imported}"
        for module, path in modules()
        for imported in imports_of(path.read_text(), module)
        for guarded, owner in ONLY_IN.items()
        if is_within(imported, guarded) and part_of(module) != owner
    ]
    assert wrong == []


def test_only_the_command_line_reads_argv_and_exits() -> None:
    """Below cli/ nothing uses sys.argv, sys.exit, os._exit, exit or SystemExit."""
    forbidden = {"sys.argv", "sys.exit", "os._exit", "exit", "quit", "SystemExit"}
    wrong = [
        f"{module} uses {name}"
        for module, path in modules()
        if part_of(module) not in TOP
        for name in names_used(path.read_text())
        if name in forbidden
    ]
    assert wrong == []


def test_names_say_something() -> None:
    """No module is a drawer for odds and ends."""
    parts = {part for module, _ in modules() for part in module.split(".")}
    assert parts & EMPTY_NAMES == set()


def test_modules_stay_short() -> None:
    """A module past 600 lines is split."""
    long = {module: lines for module, path in modules() if (lines := line_count(path)) > MOST_LINES}
    assert long == {}


def test_every_form_of_import_is_seen() -> None:
    """Absolute, relative, aliased, nested and member imports are all found."""
    source = """
import arsync.scan as s
from arsync import plan, __version__
from arsync.uring import _native
from arsync.model import Batch
from . import sibling
from ..errors import UsageError
def later():
    import lmdb
"""
    assert set(imports_of(source, "arsync.uring.ring")) == {
        "arsync.scan",
        "arsync.plan",
        "arsync.__version__",
        "arsync.uring._native",
        "arsync.model.Batch",
        "arsync.uring.sibling",
        "arsync.errors.UsageError",
        "lmdb",
    }
    assert part_of("arsync.__version__") == "arsync"
    assert part_of("arsync.uring._native.lib") == "uring"


def test_the_order_forbids_upward_imports() -> None:
    """What is below may use what is above, never the reverse, and a package may use itself."""
    assert may_import("scan", "uring")
    assert not may_import("uring", "scan")
    assert may_import("uring", "uring")
    assert not may_import("errors", "arsync")


@cache
def modules() -> tuple[tuple[str, Path], ...]:
    """Return each module's dotted name and file."""
    return tuple(
        (".".join(("arsync", *_stem(path.relative_to(PACKAGE)))), path)
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def _stem(relative: Path) -> tuple[str, ...]:
    return (
        relative.parent.parts if relative.name == "__init__.py" else relative.with_suffix("").parts
    )


def part_of(module: str) -> str:
    """Return the entry of ORDER that a dotted name belongs to; a foreign name is its own part."""
    first, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    if first != "arsync":
        return module
    is_module = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
    return part if part and is_module else "arsync"


def may_import(importer: str, imported: str) -> bool:
    """Tell whether the order of layers allows an import."""
    return importer == imported or ORDER.index(imported) < ORDER.index(importer)


def is_within(imported: str, guarded: str) -> bool:
    """Tell whether a dotted name is a module or something inside it."""
    return imported == guarded or imported.startswith(guarded + ".")


def imports_of(source: str, module: str) -> Iterator[str]:
    """Yield the dotted name of everything that a module's source imports, wherever it does so.

    A relative import is resolved as in a module, not as in a package's __init__.py.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def names_used(source: str) -> Iterator[str]:
    """Yield each name and each `name.attribute` that occurs in a source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def line_count(path: Path) -> int:
    """Count a file's lines."""
    return len(path.read_text().splitlines())
