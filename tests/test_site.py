"""The documentation as a site: opened from disk, it loads nothing from elsewhere, and search works."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.settings import ClientSettings

from .test_docs import PACKAGES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder]
    # Not --quiet: --strict counts only what is printed.
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def opened(site):
    """Opens a page of the site in Chromium, from disk."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])

        def opened(name, width=1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto((site / name).as_uri())
            return page

        yield opened
        browser.close()


@pytest.mark.slow
class TestSite:
    def test_nothing_is_loaded_from_elsewhere(self, site):
        html = re.compile(r"""<(?:script|img|iframe|source|link)[^>]*\s(?:src|href)=["']?(?:https?:)?//""")
        css = re.compile(r"""@import|url\(["']?(?:https?:)?//""")
        for pattern, form in ((html, "*.html"), (css, "*.css")):
            pages = {page.name: page.read_text("utf-8") for page in site.rglob(form)}
            assert pages and not [name for name, text in pages.items() if pattern.search(text)]

    def test_the_reference_has_every_public_name(self, site):
        from mkdocstrings import Inventory

        with (site / "objects.inv").open("rb") as file:
            known = set(Inventory.parse_sphinx(file))
        homes = [*PACKAGES, "marengo_local"]
        for package in homes:
            # The frameworks' packages hand on names of the core.
            public = import_module(package).__all__
            assert not [name for name in public if not known & {f"{home}.{name}" for home in homes}]

    def test_llms_txt_lists_every_page(self, site):
        listed = set(re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text("utf-8"), re.M))
        pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
        assert listed == pages - {"404.html"}

    @pytest.mark.parametrize("name", ["index.html", "reference/stand-in.html"])
    def test_search_works_from_disk(self, opened, name):
        page = opened(name)
        page.keyboard.press("/")
        page.keyboard.type("cosine", delay=20)
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        assert "cosine" in page.inner_text(".md-search-result__list").lower()

    @pytest.mark.parametrize("width", [390, 1280])
    @pytest.mark.parametrize("name", ["index.html", "tutorial-llama-index.html", "credentials.html"])
    def test_a_page_fits(self, opened, name, width):
        page = opened(name, width)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        if name == "index.html" and width == 1280:
            assert page.evaluate(
                "[...document.querySelectorAll('pre code')].every((c) => c.scrollWidth <= c.clientWidth)"
            )


def test_every_notebook_has_a_row():
    listed = re.findall(r"\(notebooks/(\w+\.ipynb)\)", (ROOT / "docs/notebooks.md").read_text("utf-8"))
    assert listed == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_setting_is_documented_with_its_default():
    tables = (ROOT / "docs/credentials.md").read_text("utf-8").partition("## Names in the frameworks")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", tables, re.M))
    assert documented == {field.name: repr(field.default) for field in fields(ClientSettings)}


def test_names_in_the_frameworks_are_theirs():
    table = (ROOT / "docs/credentials.md").read_text("utf-8").partition("## Names in the frameworks")[2]
    for setting, *names in re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|", table, re.M)[1:]:
        for name, package in zip(names, ("langchain_marengo", "llama_index_marengo"), strict=True):
            renamed = import_module(f"{package}.embeddings")._RENAMED
            assert renamed.get(setting, setting) == name


@pytest.mark.parametrize("kind", KINDS)
def test_every_suffix_is_documented(kind):
    text = (ROOT / "docs/your-own-folder.md").read_text("utf-8")
    [row] = re.findall(rf"^\| {kind} \| (.*) \|$", text, re.M)
    assert tuple(re.findall(r"`([^`]+)`", row)) == KINDS[kind].suffixes


def test_environment_variables_that_we_read_are_documented():
    code = "\n".join(
        path.read_text("utf-8")
        for package in ("bedrock_marengo", "marengo_cli")
        for path in (ROOT / package).rglob("*.py")
    )
    read = set(re.findall(r"\b(?:environ\S*|envvar=)\W*\"((?:AWS|MARENGO)_\w+)\"", code))
    text = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    assert read and not [name for name in read if f"`{name}`" not in text]
