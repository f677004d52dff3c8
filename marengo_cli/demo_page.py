"""What the demo leaves to look at: a page that plays what was found, and the command for one's own files."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bedrock_marengo import Query
from bedrock_marengo.search import results_from

if TYPE_CHECKING:
    from marengo_cli.demo import Indexed

__all__ = ["open_page", "own_folder", "write_page"]

PAGE = "results.html"
QUESTION = "a rocket standing on its launch pad"
HITS = 3
STAND_IN = "These vectors come from the stand-in, not from Marengo."


def write_page(indexed: Indexed, folder: Path | None) -> Path | None:
    """Search once more, and write the page into the store's folder or a new one; None without the extra ``view``."""
    if find_spec("jinja2") is None:
        return None
    from marengo_view import page

    query, client = Query(text=QUESTION), indexed.client
    hits = results_from([found.hit for found in indexed.search(query, HITS)])
    finished = client.embed_many(sorted({hit.source for hit in hits}), scopes=["clip"], only_done=True)
    segments = [done.segments for done in finished if done.segments is not None]
    path = Path(folder or tempfile.mkdtemp(prefix="marengo-demo-"), PAGE)
    path.write_text(page(hits, client=client, query=query, segments=segments, note=STAND_IN), "utf-8")
    return path


def open_page(path: Path) -> None:
    """Show the page, if someone sits at a terminal of a desktop."""
    is_desktop = sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
    if is_desktop and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(path.as_uri())


def own_folder() -> str:
    """The command that searches one's own files, as it is typed here."""
    beside = Path(sys.executable).with_name("marengo")
    is_elsewhere = beside.exists() and not _is_on_path(beside)
    installed = min(os.path.relpath(beside), str(beside), key=len) if is_elsewhere else "marengo"
    return f'{shlex.quote(installed)} search --local "a dog" FOLDER --html results.html'


def _is_on_path(script: Path) -> bool:
    return str(script.parent) in os.environ.get("PATH", "").split(os.pathsep)
