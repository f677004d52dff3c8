"""What a release needs: an owner, one version everywhere, a dated changelog, and metadata that names the owner's URLs.

python release/check.py                 lists what is missing; exits with 1 if anything is
python release/check.py --tag v0.1.0    also compares the version with a tag
python release/check.py --write         copies the URLs of owner.toml into the metadata first
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECTS = (
    "pyproject.toml",
    "marengo_local/pyproject.toml",
    "distributions/langchain-marengo/pyproject.toml",
    "distributions/llama-index-embeddings-marengo/pyproject.toml",
)
CITATION = "CITATION.cff"
_URL = re.compile(r"https://[\w.-]+(/[\w./~-]+)?")
_FORMS = {
    "repository": re.compile(r"https://github\.com/[\w-]+/[\w.-]+"),
    "documentation": _URL,
    "security_contact": re.compile(rf"[^@\s]+@[\w-]+(\.[\w-]+)+|{_URL.pattern}"),
    "conduct_contact": re.compile(rf"[^@\s]+@[\w-]+(\.[\w-]+)+|{_URL.pattern}"),
    "maintainers": re.compile(r"[\w-]+"),
}
_URL_TABLE = re.compile(r"^\[project\.urls\]\n(?:[^\[\n][^\n]*\n)*\n?", re.M)
_END_OF_PROJECT = re.compile(r"^\[project\]\n(?:(?!\[)[^\n]*\n)*?(?=\n*^\[)", re.M)
_CITATION_URL = re.compile(r"^repository-code: .*\n", re.M)


def main(arguments: list[str]) -> int:
    """Print what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--tag", help="the tag of the release: v and its version")
    parser.add_argument("--write", action="store_true", help="first copy the URLs of owner.toml into the metadata")
    options = parser.parse_args(arguments)
    owner = read("release/owner.toml")
    if options.write:
        write(owner)
    found = [*missing(owner), *stale(owner), *versions(options.tag)]
    print("\n".join(found) or "Ready for release.")
    return int(bool(found))


def missing(owner: Mapping[str, Any]) -> Iterator[str]:
    """Values of owner.toml that are empty, or not of their form."""
    for name, form in _FORMS.items():
        values = owner[name] if isinstance(owner[name], list) else [owner[name]]
        if not any(values):
            yield f"release/owner.toml: {name} is empty."
        elif bad := [value for value in values if not form.fullmatch(value)]:
            yield f"release/owner.toml: {name} is not valid: {bad[0]!r}."


def urls(owner: Mapping[str, Any]) -> dict[str, str]:
    """The URLs of a distribution's metadata; none without a repository."""
    repository = owner["repository"]
    if not repository:
        return {}
    known = {
        "Homepage": owner["documentation"] or repository,
        "Documentation": owner["documentation"],
        "Repository": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }
    return {name: url for name, url in known.items() if url}


def stale(owner: Mapping[str, Any]) -> Iterator[str]:
    """Files whose URLs are not those of owner.toml."""
    for path in (*PROJECTS, CITATION):
        text = (ROOT / path).read_text("utf-8")
        if with_urls(path, text, owner) != text:
            yield f"{path}: its URLs are not those of owner.toml: run python release/check.py --write"


def versions(tag: str | None) -> Iterator[str]:
    """Versions that differ, and a changelog that does not have this one with its date."""
    projects = {path: read(path)["project"] for path in PROJECTS}
    version = projects["pyproject.toml"]["version"]
    for path, project in projects.items():
        if project["version"] != version:
            yield f"{path}: version {project['version']}, expected {version}."
        for needed in project["dependencies"]:
            if needed.startswith("bedrock-marengo[") and not needed.endswith(f"=={version}"):
                yield f"{path}: depends on {needed}, expected =={version}."
    for path, line in ((CITATION, f"version: {version}"), ("CHANGELOG.md", f"## {version} (YYYY-MM-DD)")):
        form = re.escape(line).replace(r"YYYY\-MM\-DD", r"\d{4}-\d\d-\d\d")
        if not re.search(rf"^{form}$", (ROOT / path).read_text("utf-8"), re.M):
            yield f"{path}: there is no line {line!r}."
    if tag is not None and tag != f"v{version}":
        yield f"The tag is {tag}, expected v{version}."


def write(owner: Mapping[str, Any]) -> None:
    """Copy the URLs of owner.toml into the metadata."""
    for path in (*PROJECTS, CITATION):
        file = ROOT / path
        file.write_text(with_urls(path, file.read_text("utf-8"), owner), "utf-8")


def with_urls(path: str, text: str, owner: Mapping[str, Any]) -> str:
    """A file's text with the URLs of owner.toml, and no others."""
    if path == CITATION:
        text, repository = _CITATION_URL.sub("", text), owner["repository"]
        return f'{text.rstrip()}\nrepository-code: "{repository}"\n' if repository else text
    text = _URL_TABLE.sub("", text)
    table = "".join(f'{name} = "{url}"\n' for name, url in urls(owner).items())
    return _END_OF_PROJECT.sub(lambda found: f"{found[0]}\n[project.urls]\n{table}", text) if table else text


def read(path: str) -> dict[str, Any]:
    """A TOML file of the project."""
    return tomllib.loads((ROOT / path).read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
