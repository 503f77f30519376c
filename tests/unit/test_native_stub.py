"""The stub that mypy reads names what the header declares, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from arsync.uring import _build

URING = Path(_build.__file__).parent


def declared() -> tuple[set[str], dict[str, int]]:
    """Return the header's constants, and its functions with their number of parameters."""
    text = _build.cut_cdef((URING / "src" / "arsync.h").read_text())
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    constants = set(re.findall(r"^#define (\w+)", text, re.MULTILINE))
    functions = {}
    for name, parameters in re.findall(r"\b(ar_\w+)\s*\(([^)]*)\)\s*;", text):
        functions[name] = 0 if parameters.strip() == "void" else parameters.count(",") + 1
    return constants, functions


def stubbed() -> tuple[set[str], dict[str, int]]:
    """Return the same of the stub."""
    tree = ast.parse((URING / "_native.pyi").read_text())
    library = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Lib"
    )
    constants = {
        node.target.id
        for node in library.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    functions = {
        node.name: len(node.args.posonlyargs + node.args.args) - 1
        for node in library.body
        if isinstance(node, ast.FunctionDef)
    }
    return constants, functions


def test_each_constant_is_in_the_stub() -> None:
    """A constant of the header is one of the stub, and the reverse."""
    assert stubbed()[0] == declared()[0]


def test_each_function_is_in_the_stub() -> None:
    """A function of the header is one of the stub, with as many parameters, and the reverse."""
    assert stubbed()[1] == declared()[1]


@pytest.mark.parametrize(
    "prefix", ["AR_SCAN_", "AR_PAIR_", "AR_CHILD_", "AR_KEEP_", "AR_WHY_", "AR_LANE_", "AR_ROW_"]
)
def test_each_flag_is_a_bit_of_its_own(prefix: str) -> None:
    """No two flags of one word have the same value."""
    text = (URING / "src" / "arsync.h").read_text()
    values = [int(value) for value in re.findall(rf"^#define {prefix}\w+ (\d+)\b", text, re.M)]
    assert values
    assert len(set(values)) == len(values)
    assert all(value.bit_count() == 1 for value in values)
