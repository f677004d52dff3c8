"""Two callables are two cache keys, whatever they are called; the same one has the same key in each process."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash

from bedrock_marengo.contract.words import words_in
from llama_index_marengo import MarengoSegmenter
from llama_index_marengo.cache_keys import callable_key

CAPTIONS = "WEBVTT\n\n00:00.000 --> 00:12.000\n{}\n"


class Reads:
    def __init__(self, words):
        self.words = words

    def __call__(self, uri):
        return CAPTIONS.format(self.words)

    def read(self, uri):
        return CAPTIONS.format(self.words)


class Slotted(Reads):
    __slots__ = ("more",)


def captured(words):
    return lambda uri: CAPTIONS.format(words)


def default(words):
    return lambda uri, words=words: CAPTIONS.format(words)


def nested(words):
    inner = captured(words)
    return lambda uri: inner(uri)


def said(words, uri):
    return CAPTIONS.format(words)


# Words -> a callable that gives them.
KINDS = {
    "captured": captured,
    "default": default,
    "nested": nested,
    "partial": lambda words: functools.partial(said, words),
    "method": lambda words: Reads(words).read,
    "object": Reads,
    "slots": Slotted,
    "mapping": lambda words: {"s3://b/a.mp4": CAPTIONS.format(words)},
    "method of a dict": lambda words: {"s3://b/a.mp4": CAPTIONS.format(words)}.get,
    "path": lambda words: {"s3://b/a.mp4": Path(words)},
    "set": lambda words: lambda uri, names=frozenset({"a", "b", words}): None,
    "keyword": lambda words: lambda uri, *, said=words: said,
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_values_are_other_keys(kind):
    make = KINDS[kind]
    assert callable_key(make("one")) == callable_key(make("one")) != callable_key(make("two"))


def test_other_code_is_another_key():
    found = [lambda uri: "one", lambda uri: "two", lambda uri: uri.upper(), lambda uri: uri.lower(), lambda uri: [1, 2]]
    assert len({callable_key(each) for each in found}) == len(found)


@pytest.mark.parametrize("setting", ["transcripts", "identity"])
def test_in_the_key_of_a_pipelines_cache(embed_model, read, match, setting):
    def key(value):
        model = embed_model.model_copy(update={"identity": value}) if setting == "identity" else embed_model
        how = {"transcripts": value} if setting == "transcripts" else {}
        return get_transformation_hash(read(match), MarengoSegmenter(embed_model=model, **how))

    assert key(captured("one")) == key(captured("one")) != key(captured("two"))


def test_other_captions_are_not_taken_from_the_cache(embed_model, read, match):
    def words(transcripts):
        steps = [MarengoSegmenter(embed_model=embed_model, transcripts=transcripts)]
        nodes = IngestionPipeline(transformations=steps, cache=cache).run(documents=read(match))
        return {words_in(node.text) for node in nodes} - {""}

    cache = IngestionCache()
    assert words(captured("one")) == {"one"}
    assert words(captured("two")) == {"two"}


@pytest.mark.slow
def test_the_same_in_another_process():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_cache_keys import KINDS, callable_key\n"
        "print([callable_key(make('one')) for make in KINDS.values()])"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second != ""


def test_an_object_that_holds_itself_or_a_client_has_a_key(local):
    reads = Reads("one")
    reads.itself, reads.client = reads, local.s3
    assert callable_key(reads) == callable_key(reads)
