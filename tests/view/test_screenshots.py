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
PHONE = {"width": 390, "is_mobile": True, "has_touch": True, "device_scale_factor": 1.5}
DESKTOP = {"width": 1280, "device_scale_factor": 1.5}
WIDE = {"width": 2200, "device_scale_factor": 1}
SCREENS = {
    "results-phone": PHONE,
    "results-phone-dark": {**PHONE, "scheme": "dark"},
    "results-light": DESKTOP,
    "results-dark": {**DESKTOP, "scheme": "dark"},
    "results-wide": WIDE,
    "results-wide-dark": {**WIDE, "scheme": "dark"},
}
# README's is the largest on a page; the others are thumbnails first.
QUALITY = {"results-light": 72}


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
        with opened(html, **screen) as tab:
            for video in range(tab.run("document.querySelectorAll('video').length")):
                tab.until(f"document.querySelectorAll('video')[{video}].readyState >= 1")
            tab.page.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=QUALITY.get(name, 60))


def test_they_are_small_and_shown():
    sizes = {path.stem: path.stat().st_size for path in IMAGES.glob("results-*.jpg")}
    assert sizes.keys() == SCREENS.keys()
    assert sum(sizes.values()) < 700_000
    walk, show = (
        re.findall(r"images/([\w-]+)\.jpg", (ROOT / "docs" / page).read_text("utf-8"))
        for page in ("walk.md", "show.md")
    )
    assert set(walk) == SCREENS.keys() >= set(show)
    assert "docs/images/results-light.jpg" in (ROOT / "README.md").read_text("utf-8").partition("\n## ")[0]
