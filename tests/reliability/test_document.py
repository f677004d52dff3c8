"""docs/reliability.md names tests for each promise and each fault: they exist, and no test of a fault goes unnamed."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/reliability.md").read_text("utf-8")
ROW = re.compile(r"^\|(.+)\|$", re.M)
NAMED = re.compile(r"`((?:tests|benchmarks)/[\w/]+\.py)((?:::\w+)*)`")
ASKED_FOR = (
    "Throttling",
    "500, 502, 503; 408 and 424",
    "Connection refused",
    "in the middle of a reply",
    "slow body",
    "404 just after Completed",
    "Access denied on the output",
    "replaced in the middle of its job",
    "Two processes start the same medium",
    "Failed, with a message that reads as passing",
    "Failed for good",
    "Stuck",
    "Cut off",
    "Wrong dimension; NaN",
    "Missing tracks",
    "rows out of order",
    "Duplicate rows",
    "unknown extra keys",
    "Credentials that expire in the middle of a run",
    "disk is full while a store writes",
    "Ctrl-C",
    "SIGTERM, kill -9",
)


def rows():
    """The cells of each table's rows, without heads, rules and the matrix's headings."""
    found = [[cell.strip() for cell in row.split("|")] for row in ROW.findall(DOC)]
    return [row for row in found if row[-1] not in ("test", "---") and any(row[1:])]


def names_in(path):
    """The names of a file's tests, as pytest has them."""
    names = set()
    for node in ast.parse((ROOT / path).read_text("utf-8")).body:
        inner = [node] if not isinstance(node, ast.ClassDef) else node.body
        prefix = f"::{node.name}" if isinstance(node, ast.ClassDef) else ""
        functions = [n for n in inner if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        names |= {f"{prefix}::{n.name}" for n in functions if n.name.startswith("test_")}
    return names


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_each_row_names_tests_that_exist(row):
    named = NAMED.findall(row[-1])
    assert named or row[-1] == "the same"
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert not name or name in names_in(path), f"{path}{name}"


def test_each_fault_that_was_asked_for_has_a_row():
    faults = [row[0] for row in rows() if len(row) == 5]
    assert [fault for fault in ASKED_FOR if not any(fault in row for row in faults)] == []


def test_no_test_of_a_fault_goes_unnamed():
    named = set(NAMED.findall(DOC))
    for path in sorted(Path(__file__).parent.glob("test_faults*.py")):
        where = str(path.relative_to(ROOT))
        assert {name for name in names_in(where) if (where, name) not in named} == set()
