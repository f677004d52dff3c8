"""That what is promised of versions is tried out: tests/compat/run.py does it, in environments of their own."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNTRIED = {
    "demo": "other extras, and Chroma",
    "dev": "what the suite itself runs in",
    "docs": "for this repository's pages alone",
    "ray": "takes minutes to install; the suite runs it",
}


@pytest.fixture(scope="module")
def compat():
    spec = importlib.util.spec_from_file_location("compat_run", ROOT / "tests" / "compat" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_extra_has_an_environment(compat, project):
    assert set(project["optional-dependencies"]) - set(UNTRIED) == set(compat.EXTRAS) - {""}


def test_every_lower_bound_is_tried(compat, project):
    for extra in set(compat.EXTRAS) - {"", "local"}:
        needs = [*project["dependencies"], *project["optional-dependencies"][extra]]
        tried = dict(pin.split("==") for pin in compat.lowest_versions(extra))
        assert tried == {need.partition(">=")[0]: need.partition(">=")[2].partition(",")[0] for need in needs}


def test_the_oldest_python_gets_the_lowest_versions_and_the_newest_the_newest(compat, project):
    pythons = {11: Path("a"), 12: Path("b"), 13: Path("c")}
    tried = {(e.extra, e.minor, e.lowest) for e in compat.environments(pythons, quick=True)}
    for framework in ("langchain", "llama-index"):
        assert {(framework, 11, True), (framework, 13, False)} <= tried
    assert project["requires-python"] == ">=3.11" and min(compat.MINORS) == 11
