"""The demo: real photographs and clips, indexed and searched through the code that runs on AWS, without AWS."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import marengo_local
from bedrock_marengo import MarengoClient, Media, Query
from bedrock_marengo.contract.words import words_in
from bedrock_marengo.errors import visible
from marengo_cli import escape_what_cannot_be_encoded
from marengo_cli.demo_page import open_page, own_folder, write_page
from marengo_local import reel


class Found(NamedTuple):
    """A segment that a question found, and the framework's own hit."""

    metadata: Mapping[str, Any]
    text: str
    score: float
    hit: Any


Hits = list[Found]
"""The most similar first, with their cosine similarity."""
Search = Callable[[Query, int], Hits]


class Indexed(NamedTuple):
    """A store with the reel's segments: how many there are, how it is searched, and the client that embedded them."""

    segments: int
    search: Search
    client: MarengoClient


FRAMEWORKS = {"langchain": "marengo_cli.demo_langchain", "llama-index": "marengo_cli.demo_llama_index"}
S3_VECTORS = "s3vectors"
QUESTIONS = 4
HITS = 3
ANSWERED = "When does a rocket stand on its launch pad?"


def main(arguments: list[str] | None = None) -> int:
    """Index the reel and ask four questions; 0 if each finds its scene and an absent scene scores below them."""
    parser = argparse.ArgumentParser(prog="marengo demo", description=__doc__)
    parser.add_argument(
        "--store", default="demo-store", help=f"folder of the store, or {S3_VECTORS} for the stand-in's S3 Vectors"
    )
    parser.add_argument("--framework", choices=FRAMEWORKS, default="langchain", help="default: langchain")
    escape_what_cannot_be_encoded()
    given = parser.parse_args(arguments)
    store_path = Path(given.store).resolve() if given.store != S3_VECTORS else None
    if store_path is not None and store_path.exists() and not store_path.is_dir():
        parser.exit(2, f"--store {given.store}: this is a file; expected a folder, or {S3_VECTORS}.\n")
    try:
        if store_path is not None:
            store_path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=store_path).close()
    except OSError as error:
        parser.exit(2, f"--store {given.store}: {error.strerror}. Expected a folder that you can write to.\n")
    began = time.monotonic()
    framework = _framework(parser, given.framework)
    if store_path is None and (missing := framework.missing_for_s3_vectors()):
        parser.exit(2, f"The demo with S3 Vectors needs {missing}: pip install {missing}\n")
    with marengo_local.serve(bucket="marengo-demo") as local, tempfile.TemporaryDirectory() as folder:
        say(f"A stand-in for Amazon Bedrock runs at {local.endpoint_url}. Nothing leaves this machine.")
        scenes = reel.scenes()
        say(f"Making a video of {len(scenes)} scenes from real photos and clips ...")
        path = Path(folder, "reel.mp4")
        reel.build(path)
        uri = local.put(path)
        say(f"Embedding its {scenes[-1].end_sec:.0f} seconds, and storing the segments ...")
        indexed = framework.index(uri, local.client_options, store_path)
        say(f"{indexed.segments} segments of {uri} are in the store.")
        passed = ask(indexed.search)
        answer(indexed.search)
        say("\nCutting clips for a page that plays them ...")
        page = write_page(indexed, store_path)
    place = f"The store is in {store_path}." if store_path else "The vectors were in the stand-in's S3 Vectors."
    say(f"\n{visible(place)} {time.monotonic() - began:.0f} s in total, and nothing was paid.")
    if page:
        say(f"A page that plays what was found: {visible(str(page))}")
        open_page(page)
    say(f"Your own folder: {own_folder()}")
    return 0 if passed else 1


def _framework(parser: argparse.ArgumentParser, name: str) -> ModuleType:
    """The framework's module: only the chosen one need be installed."""
    try:
        return importlib.import_module(FRAMEWORKS[name])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("marengo_cli"):
            raise
        extras = "demo" if name == "langchain" else f"demo,{name}"
        parser.exit(2, f"--framework {name} needs {error.name}: pip install 'bedrock-marengo[{extras}]'\n")


def ask(search: Search) -> bool:
    """Ask the reel's first questions and one about an absent scene; print what was found."""
    right, lowest = True, 1.0
    for question in reel.questions()[:QUESTIONS]:
        query = (
            Query(text=question.text) if question.text else Query(image=Media.from_bytes(reel.query_image(question)))
        )
        hits = search(query, HITS)
        show(question.text or f"an image: the {question.answer}, mirrored and cropped", hits)
        right &= scene_of(hits[0].metadata) == question.answer
        lowest = min(lowest, hits[0].score)
    absent = reel.absent().text or ""
    hits = search(Query(text=absent), HITS)
    show(f"{absent} (which is not there)", hits)
    say(f"\nLowest score of a right answer: {lowest:.3f}. Highest score of the absent scene: {hits[0].score:.3f}.")
    return right and hits[0].score < lowest


def answer(search: Search) -> None:
    """Answer a question with a time code, by the words of what it finds: the transcript of that time range."""
    best = search(Query(text=ANSWERED), 1)[0]
    name, seconds = str(best.metadata["source"]).rpartition("/")[2], int(best.metadata["start_sec"])
    time_code = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    say(f"\n? {ANSWERED}\n  {name} {time_code}: {words_in(best.text)}.")
    say("  (The words are in the segment's text, where a language model reads them. Here they are the reel's captions,")
    say("  which the stand-in's Amazon Transcribe returns. No language model was asked.)")


def show(question: str, hits: Hits) -> None:
    """Print hits with time codes, tracks and scores."""
    say(f"\n? {question}")
    for hit, _, score, _ in hits:
        times = f"{tenths(hit['start_sec'])} to {tenths(hit['end_sec'])}"
        say(f"    {times}  {hit['embedding_option']:<14} {score:6.3f}  {scene_of(hit)}")


def tenths(seconds: float) -> str:
    """Seconds as minutes, seconds and tenths."""
    return f"{int(seconds // 60):02d}:{seconds % 60:04.1f}"


def scene_of(hit: Mapping[str, Any]) -> str:
    """The reel's scene in the middle of a segment."""
    return reel.scene_at((hit["start_sec"] + hit["end_sec"]) / 2).name


def say(text: str) -> None:
    """A line at once, also where stdout is a file."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
