"""What mkdocs adds to the site: the notebooks as files, and llms.txt, a list of all pages for language models."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_CODE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_pages: list[Page] = []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, so that pages can link to them."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Note the pages, in the order of the navigation."""
    _pages[:] = nav.pages
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt (see llmstxt.org): each page with its title and first sentence."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}"]
    section = None
    for page in _pages:
        title = page.parent.title if page.parent else "Start here"
        if title != section:
            section = title
            lines += ["", f"## {section}", ""]
        lines.append(f"- [{page.title}]({page.url}){_summary(page.markdown or '')}")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _summary(markdown: str) -> str:
    """The first sentence of a page's first paragraph of prose, as plain text; nothing if it has none."""
    blocks = (block.replace("\n", " ").strip() for block in _CODE.sub("", markdown).split("\n\n"))
    prose = next((block for block in blocks if block[:1].isalpha() or block[:1] in "`*"), "")
    sentence = _LINK.sub(r"\1", prose).replace("**", "").partition(". ")[0].rstrip(".:")
    return f": {sentence}." if sentence else ""
