"""What a release consists of: versions, metadata, workflows and recipes agree, and what is unfinished is refused."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CHECK = runpy.run_path(str(ROOT / "release/check.py"))
PROJECTS = {path: tomllib.loads((ROOT / path).read_text("utf-8"))["project"] for path in CHECK["PROJECTS"]}
MAIN = PROJECTS["pyproject.toml"]
EXTRAS = MAIN["optional-dependencies"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
RECIPE = yaml.safe_load((ROOT / "distributions/conda/recipe.yaml").read_text("utf-8"))
OWNER = {
    "repository": "https://github.com/o/r",
    "documentation": "https://docs.example",
    "security_contact": "security@example.org",
    "conduct_contact": "https://example.org/conduct",
    "maintainers": ["someone"],
}
SCHEMAS = {
    "vendor.citation-file-format": ["CITATION.cff"],
    "vendor.dependabot": [".github/dependabot.yml"],
    "vendor.github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.github-issue-forms": [f".github/ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "feature", "question")],
    "vendor.github-workflows": [f".github/workflows/{name}.yml" for name in ("ci", "release")],
}


class TestCheck:
    def test_all_versions_are_the_same_and_metadata_is_the_owners(self):
        owner = CHECK["read"]("release/owner.toml")
        assert [*CHECK["stale"](owner)] == []
        assert [line for line in CHECK["versions"](None) if "CHANGELOG" not in line] == []

    @pytest.mark.parametrize("name", OWNER)
    def test_an_empty_value_is_refused(self, name):
        empty = [] if name == "maintainers" else ""
        assert [*CHECK["missing"](OWNER)] == []
        assert [*CHECK["missing"]({**OWNER, name: empty})] == [f"release/owner.toml: {name} is empty."]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("repository", "github.com/o/r"),
            ("repository", "https://github.com/o"),
            ("documentation", "TODO"),
            ("security_contact", "someone"),
            ("maintainers", ["TODO: name"]),
        ],
    )
    def test_a_value_of_another_form_is_refused(self, name, value):
        [problem] = CHECK["missing"]({**OWNER, name: value})
        assert name in problem

    def test_another_tag_is_refused(self):
        assert any("v9.9.9" in line for line in CHECK["versions"]("v9.9.9"))

    @pytest.mark.parametrize("path", CHECK["PROJECTS"])
    def test_urls_are_written_once_and_taken_away_again(self, path):
        text = (ROOT / path).read_text("utf-8")
        nobody, urls = {**OWNER, "repository": ""}, CHECK["urls"](OWNER)
        bare = CHECK["with_urls"](path, text, nobody)
        filled = CHECK["with_urls"](path, bare, OWNER)
        assert tomllib.loads(filled)["project"]["urls"] == urls
        assert "urls" not in tomllib.loads(bare)["project"]
        assert CHECK["with_urls"](path, filled, OWNER) == filled
        assert CHECK["with_urls"](path, filled, nobody) == bare
        # Nothing else changes.
        assert {**tomllib.loads(filled)["project"], "urls": None} == {**tomllib.loads(bare)["project"], "urls": None}

    def test_a_release_is_refused_while_nobody_owns_it(self, tmp_path):
        for path in (*CHECK["PROJECTS"], CHECK["CITATION"], "CHANGELOG.md", "release/check.py"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, tmp_path / path)
        for owner, code in (({**OWNER, "repository": ""}, 1), (OWNER, 0)):
            lines = (f"{name} = {json.dumps(value)}" for name, value in owner.items())
            (tmp_path / "release/owner.toml").write_text("\n".join(lines))
            dated = f"## {MAIN['version']} (2026-12-31)\n"
            (tmp_path / "CHANGELOG.md").write_text(dated)
            command = [sys.executable, "release/check.py", "--write", "--tag", f"v{MAIN['version']}"]
            checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert checked.returncode == code, checked.stdout
            assert ("repository is empty" in checked.stdout) == bool(code)


class TestMetadata:
    @pytest.mark.parametrize("path", PROJECTS)
    def test_nobody_is_invented(self, path):
        assert PROJECTS[path]["authors"] == [{"name": "The Marengo for RAG authors"}]

    def test_the_matrix_and_the_classifiers_name_the_same_pythons(self):
        pythons = WORKFLOWS["ci"]["jobs"]["extras"]["strategy"]["matrix"]["python"]
        for path in ("pyproject.toml", "marengo_local/pyproject.toml"):
            named = (line.rpartition(":: ")[2] for line in PROJECTS[path]["classifiers"] if "Python :: 3." in line)
            assert [*named] == pythons

    def test_the_release_builds_every_distribution(self):
        [build] = [
            step["run"] for step in WORKFLOWS["release"]["jobs"]["build"]["steps"] if "-m build" in step.get("run", "")
        ]
        folders = [Path(path).parent.as_posix() for path in CHECK["PROJECTS"]]
        assert f"for project in {' '.join(folders)};" in build


class TestConda:
    """The recipe needs what pyproject does. conda has no extras: theirs are constraints, or outputs of their own."""

    def test_versions(self):
        assert RECIPE["context"]["version"] == MAIN["version"]
        assert f">={RECIPE['context']['python_min']}" == MAIN["requires-python"]

    @pytest.mark.parametrize(
        ("name", "needed"),
        [
            ("bedrock-marengo", MAIN["dependencies"]),
            ("langchain-marengo", EXTRAS["langchain"]),
            ("llama-index-embeddings-marengo", EXTRAS["llama-index"]),
        ],
    )
    def test_what_it_runs_with(self, name, needed):
        [run] = [output["requirements"]["run"] for output in RECIPE["outputs"] if output["package"]["name"] == name]
        assert required(line for line in run if "python_min" not in line and "pin_subpackage" not in line) == required(
            needed
        )

    def test_constraints_are_those_of_the_extras(self):
        constraints = required(RECIPE["outputs"][0]["requirements"]["run_constraints"])
        assert constraints <= required(line for lines in EXTRAS.values() for line in lines)


def required(lines):
    """Requirements in one spelling, whether they are written for pip or for conda."""
    return {str(Requirement(line.replace(" ", ""))) for line in lines if ";" not in line}


@pytest.mark.slow
class TestWorkflows:
    @pytest.mark.parametrize("schema", SCHEMAS)
    def test_a_file_is_valid(self, schema):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *SCHEMAS[schema]]
        checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_every_file_is_checked(self):
        there = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}
        assert there == {path for paths in SCHEMAS.values() for path in paths} - {"CITATION.cff"}

    def test_zizmor_finds_nothing(self):
        zizmor = Path(sys.executable).with_name("zizmor")
        checked = subprocess.run(
            [zizmor, "--offline", "--pedantic", ".github"], cwd=ROOT, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_actions_are_pinned_by_commit(self):
        steps = [step for flow in WORKFLOWS.values() for job in flow["jobs"].values() for step in job["steps"]]
        used = [step["uses"] for step in steps if "uses" in step]
        assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used)
