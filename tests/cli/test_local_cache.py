"""`marengo search --local` keeps the vectors of files by their content."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from bedrock_marengo import JobError
from marengo_cli import local_cache
from marengo_cli.local_cache import LocalCache, default_folder
from marengo_cli.undecodable import is_lasting, plainly

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
PHOTOS = ("cat.jpg", "coffee.jpg", "rocket.jpg")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in PHOTOS:
        shutil.copy(REEL / name, tmp_path / "photos")
    age(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def search(marengo):
    """Search a folder: what was found, and which files were embedded for it."""

    def search(folder, *words, query="a cat"):
        result = marengo("search", "--local", query, folder, "--json", "-v", *words)
        assert result.exit_code == 0, result.output
        moments = json.loads(result.stdout)["moments"]
        started = [
            line.split("Started: ")[1].split(" (")[0] for line in result.stderr.splitlines() if "Started: " in line
        ]
        return [(Path(m["name"]).name, round(m["score"], 5)) for m in moments], sorted(
            Path(name).name for name in started
        )

    return search


def age(folder):
    """As if no file was written just now."""
    for path in folder.iterdir():
        os.utime(path, (path.stat().st_atime, time.time() - 60))


def entries(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file() and path.parent.name == "vectors")


def test_an_unchanged_folder_is_not_embedded_again(search, folder, marengo):
    found, embedded = search(folder)
    assert (found[0][0], embedded) == ("cat.jpg", list(PHOTOS))
    assert search(folder) == (found, [])
    other, embedded = search(folder, query="a rocket on its launch pad")
    assert (other[0][0], embedded) == ("rocket.jpg", [])


def test_new_changed_and_renamed_files(search, folder):
    search(folder)
    shutil.copy(REEL / "galaxies.jpg", folder / "new.jpg")
    (folder / "cat.jpg").rename(folder / "renamed.jpg")
    shutil.copy(REEL / "astronaut.jpg", folder / "coffee.jpg")
    found, embedded = search(folder)
    assert embedded == ["coffee.jpg", "new.jpg"]
    assert found[0][0] == "renamed.jpg"


def test_a_rewritten_file_of_the_same_size_and_time(search, folder):
    first, second = ((folder / name).read_bytes() for name in ("cat.jpg", "rocket.jpg"))
    size = max(len(first), len(second)) + 1
    (folder / "cat.jpg").write_bytes(first.ljust(size, b"\0"))
    age(folder)
    before = (folder / "cat.jpg").stat()
    assert search(folder)[0][0][0] == "cat.jpg"
    (folder / "cat.jpg").write_bytes(second.ljust(size, b"\0"))
    os.utime(folder / "cat.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    found, embedded = search(folder)
    assert embedded == ["cat.jpg"]
    assert dict(found)["cat.jpg"] == pytest.approx(dict(found)["rocket.jpg"], abs=0.01)


def test_other_options_are_other_vectors(search, folder):
    search(folder)
    assert search(folder, "--segmentation", "fixed:4")[1] == list(PHOTOS)
    assert search(folder, "--no-cache")[1] == list(PHOTOS)
    assert search(folder, "--cache", folder.parent / "own")[1] == list(PHOTOS)
    assert search(folder, "--cache", folder.parent / "own")[1] == []


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:50] + b"\xff" + data[51:]]
)
def test_a_damaged_entry_is_embedded_again(search, folder, cache_folder, damage):
    found, _ = search(folder)
    for path in cache_folder.rglob("*"):
        if path.is_file():
            path.write_bytes(damage(path.read_bytes()))
    assert search(folder) == (found, list(PHOTOS))
    assert search(folder) == (found, [])


def test_nothing_that_is_read_is_executed(search, folder, cache_folder, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    found, _ = search(folder)
    for path in cache_folder.rglob("*"):
        if path.is_file():
            path.write_bytes(pickle.dumps(Bomb()))
    assert search(folder)[0] == found
    assert not (tmp_path / "executed").exists()


def test_two_at_once(shell, folder, cache_folder):
    words = ("search", "--local", "a cat", folder, "--json", "--cache", cache_folder / "shared")
    results = [process.communicate(timeout=60) for process in [shell(*words), shell(*words)]]
    found = [[moment["name"] for moment in json.loads(out)["moments"]] for out, _ in results]
    assert found[0] == found[1] and len(found[0]) == len(PHOTOS)
    assert len(entries(cache_folder)) == len(PHOTOS)
    assert not list(cache_folder.rglob(".*"))


def test_its_size_is_bounded_and_what_was_used_last_stays(search, folder, cache_folder, monkeypatch):
    search(folder)
    sizes = [path.stat().st_size for path in entries(cache_folder)]
    for i, path in enumerate(sorted(cache_folder.glob("*/*/*"), key=lambda path: path.parent.name == "vectors")):
        os.utime(path, (1000 + i, 1000 + i))
    (cache_folder / "default" / "vectors" / ".abandoned").write_bytes(b"x" * 99999)
    os.utime(cache_folder / "default" / "vectors" / ".abandoned", (0, 0))
    newest = max(entries(cache_folder), key=lambda path: path.stat().st_mtime)
    LocalCache(folder=cache_folder / "default", max_bytes=max(sizes) + 10).trim()
    assert entries(cache_folder) == [newest]


def test_threads_that_write_and_trim(folder, tmp_path):
    cache = LocalCache(folder=tmp_path / "cache", max_bytes=0)
    work = [
        threading.Thread(target=lambda: [local_cache._write(cache.folder / "files" / "a", b"x"), cache.trim()])
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert not [path for path in cache.folder.rglob("*") if path.is_file() and path.name.startswith(".")]


def test_a_folder_that_can_not_be_used(marengo, folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    result = marengo("search", "--local", "a cat", folder, "--cache", tmp_path / "file")
    assert result.exit_code == 2
    assert f"--cache {tmp_path / 'file'}: " in result.stderr and "--no-cache" in result.stderr
    monkeypatch.setattr(local_cache, "default_folder", lambda: tmp_path / "file")
    result = marengo("search", "--local", "a cat", folder)
    assert result.exit_code == 0
    assert "Nothing is kept for the next search" in result.stderr


@pytest.mark.parametrize(
    ("platform", "env", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache"),
        ("linux", {"XDG_CACHE_HOME": ""}, "~/.cache"),
        ("darwin", {"XDG_CACHE_HOME": "/c"}, "~/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l"),
        ("win32", {"LOCALAPPDATA": ""}, "~/AppData/Local"),
    ],
)
def test_the_platforms_folder(platform, env, expected, monkeypatch):
    monkeypatch.setattr(local_cache.sys, "platform", platform)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert DEFAULT_FOLDER() == Path(expected).expanduser() / "bedrock-marengo" / "local-search"


DEFAULT_FOLDER = default_folder
"""Before the fixture replaces it."""


def test_files_that_are_skipped_are_named(marengo, folder):
    (folder / "logo.webp").write_bytes(b"RIFF")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    result = marengo("search", "--local", "a cat", folder)
    assert result.exit_code == 0
    assert "Skipped (unsupported image): logo.webp: convert to JPEG or PNG." in result.stderr
    assert "Skipped (empty): empty.jpg." in result.stderr
    assert "notes.txt" not in result.stderr


def test_the_page_plays_what_was_kept(marengo, folder, tmp_path):
    for _ in range(2):
        page = tmp_path / "page.html"
        assert marengo("search", "--local", "a cat", folder, "--html", page).exit_code == 0
        assert page.read_text().count("data:image/") >= len(PHOTOS)


def test_no_cost_is_shown_where_nothing_is_paid(marengo, folder):
    for words in (["embed", "--local", "--yes", folder], ["search", "--local", "a cat", folder]):
        result = marengo(*words)
        assert result.exit_code == 0
        assert "USD" not in result.output


@pytest.fixture
def undecodable(folder):
    """A video and a photo that can't be decoded, next to the photos."""
    for name in ("broken.mp4", "cut-off.mp4"):
        (folder / name).write_bytes(b"not a video")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"junk" * 99)
    age(folder)
    return folder


def failures(result):
    return sorted(line for line in result.stderr.splitlines() if line.startswith("failed: "))


def test_a_file_that_can_not_be_decoded_is_tried_once(marengo, undecodable):
    first, second = (marengo("search", "--local", "a cat", undecodable, "-v") for _ in range(2))
    assert first.exit_code == second.exit_code == 1
    assert failures(first) == failures(second) and len(failures(first)) == 2
    assert "Started: " in first.stderr and "Started: " not in second.stderr
    (undecodable / "broken.mp4").write_bytes(b"other bytes")
    third = marengo("search", "--local", "a cat", undecodable, "-v")
    assert third.stderr.count("Started: ") == 1


@pytest.mark.parametrize("words", [[], ["--no-cache"]])
def test_why_a_file_can_not_be_decoded_is_said_plainly(marengo, undecodable, words):
    image, video = failures(marengo("search", "--local", "a cat", undecodable, *words))
    assert video.startswith(f"failed: {undecodable / 'broken.mp4'}, {undecodable / 'cut-off.mp4'}: ")
    assert video.endswith(
        "The video could not be decoded: FFmpeg can't decode it: Invalid data found when processing input."
    )
    assert image.startswith(f"failed: {undecodable / 'bad.jpg'}: The image could not be decoded: not an image: ")


@pytest.mark.parametrize(
    "reason", ["it takes longer than 60 s", "the decoder ended with -9", "it needs more than 512 MB of memory"]
)
def test_a_failure_that_the_machine_causes_is_not_kept(reason):
    source, arn = "s3://b/marengo/uploads/a.mp4", "arn:aws:bedrock:us-east-1:123456789012:async-invoke/a"
    text = "The job of {} failed: The video could not be decoded: {} ({})"
    lasting, passing = (
        plainly(JobError(text.format(source, why, arn), source=source, arn=arn)) for why in ("no stream", reason)
    )
    assert str(passing) == f"The video could not be decoded: {reason}."
    assert is_lasting(lasting) and not is_lasting(passing)
