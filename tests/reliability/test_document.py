"""Each promise of docs/reliability.md has a test, and each fault a test that says what happens."""

import ast
import re

import pytest

from .matrix import ROOT, marked

PAGE = (ROOT / "docs/reliability.md").read_text("utf-8")
PROMISES = re.findall(r"^\*\*(.+?)\.\*\*", PAGE, re.M)
FAULTS = """
Throttling / 5xx, 408 or 424 / Connection refused / dropped before, in or after a reply / slow body
404 just after Completed / Access denied on the output / replaced, archived or removed in the middle of its job
Two processes start the same file / failed with a transient message / failed for good / stuck / cut off
wrong dimension, NaN / Missing tracks / rows out of order / Duplicate rows / unknown extra keys
Credentials that expire in the middle of a run / disk is full while a store writes / Ctrl-C / SIGTERM or kill -9
"""


def test_the_page_and_the_tests_name_the_same_promises():
    assert len(PROMISES) >= 10
    assert set(PROMISES) == {promise for _, (promise,) in marked("promise")}


@pytest.mark.parametrize("fault", re.split(r" / |\n", FAULTS.strip()))
def test_each_fault_has_a_test_that_says_what_happens(fault):
    assert [expect for _, (what, expect) in marked("fault") if fault in what]


@pytest.mark.parametrize("place", re.findall(r"`((?:core|reliability)/test_\w+\.py(?:::\w+)?)`", PAGE))
def test_faults_found_and_fixed_name_tests_that_exist(place):
    path, _, name = place.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    assert not name or name in {getattr(node, "name", None) for node in tree.body}


def test_each_test_of_a_fault_says_what_happens():
    named = {place for place, _ in marked("fault")}
    for path in sorted((ROOT / "tests/reliability").glob("test_faults*.py")):
        for outer in ast.parse(path.read_text("utf-8")).body:
            place = f"{path.relative_to(ROOT)}::{getattr(outer, 'name', '')}"
            inner = [node.name for node in getattr(outer, "body", []) if isinstance(node, ast.FunctionDef)]
            tests = [place] if isinstance(outer, ast.FunctionDef) else [f"{place}::{name}" for name in inner]
            assert [test for test in tests if "::test_" in test and not {test, place} & named] == []
