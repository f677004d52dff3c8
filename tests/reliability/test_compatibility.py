"""What noxfile.py tries: every extra, the lowest versions on the oldest Python, the newest on the newest."""

import contextlib
import runpy
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.promise("Each extra works on its own, with the lowest and the newest versions")

ROOT = Path(__file__).parents[2]
UNTRIED = {
    "demo": "other extras, and Chroma",
    "dev": "what the suite itself runs in",
    "docs": "for this repository's pages alone",
    "ray": "takes minutes to install; the suite runs it",
}


@pytest.fixture(scope="module")
def nox():
    with contextlib.chdir(ROOT):
        return runpy.run_path("noxfile.py")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_extra_has_an_environment(nox, project):
    assert set(project["optional-dependencies"]) - set(UNTRIED) == set(nox["EXTRAS"]) - {"bare"}


def test_every_requirement_has_a_lowest_version_to_be_tried(nox, project):
    needs = [need for extra in set(nox["EXTRAS"]) - {"bare"} for need in project["optional-dependencies"][extra]]
    assert [need for need in [*project["dependencies"], *needs] if ">=" not in need] == []


def test_the_oldest_python_gets_the_lowest_versions_and_the_newest_the_newest(nox, project):
    tried = {environment.args for environment in nox["environments"]() if "quick" in environment.tags}
    assert {("3.11", extra, "lowest") for extra in nox["EXTRAS"]} <= tried
    assert {("3.13", extra, "newest") for extra in ("langchain", "llama-index", "local", "media")} <= tried
    assert project["requires-python"] == ">=3.11"
