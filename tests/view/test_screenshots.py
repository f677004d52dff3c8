"""The pictures of the page in README and docs. MARENGO_SCREENSHOTS=1 makes them again."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marengo_local import reel

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PHOTOS = ("rocket.jpg", "astronaut.jpg", "galaxies.jpg")
SCREENS = {
    "results-light": {"width": 1280},
    "results-dark": {"width": 1280, "scheme": "dark"},
    "results-phone": {"width": 390, "is_mobile": True, "has_touch": True},
}


@pytest.mark.skipif("MARENGO_SCREENSHOTS" not in os.environ, reason="only when the pictures are made again")
def test_make_them(opened, tmp_path):
    folder, html = tmp_path / "archive", tmp_path / "results.html"
    folder.mkdir()
    reel.build(folder / "reel.mp4")
    (folder / "reel.vtt").write_text(reel.captions(), "utf-8")
    for name in PHOTOS:
        shutil.copy(Path(reel.__file__).with_name(name), folder)
    question = "a rocket standing on its launch pad"
    command = ["search", "--local", question, f"{folder}", "--html", f"{html}", "-k", "6"]
    subprocess.run([sys.executable, "-m", "marengo_cli", *command], check=True)
    IMAGES.mkdir(exist_ok=True)
    for name, screen in SCREENS.items():
        with opened(html, device_scale_factor=1.5, **screen) as tab:
            for video in range(tab.run("document.querySelectorAll('video').length")):
                tab.until(f"document.querySelectorAll('video')[{video}].readyState >= 1")
            tab.page.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=72)


def test_they_are_small_and_shown():
    sizes = {path.stem: path.stat().st_size for path in IMAGES.glob("results-*.jpg")}
    assert sizes.keys() == SCREENS.keys()
    assert sum(sizes.values()) < 600_000
    shown = re.findall(r"images/([\w-]+)\.jpg", (ROOT / "docs" / "show.md").read_text("utf-8"))
    assert set(shown) == SCREENS.keys()
    assert "docs/images/results-light.jpg" in (ROOT / "README.md").read_text("utf-8").partition("\n## ")[0]
