"""Each test gets an embedding model on a clean stand-in, over real HTTP."""

import pytest

from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter


@pytest.fixture
def local(marengo_bedrock):
    # Vectors from a hash and media of 12 s: what is in them does not matter here.
    marengo_bedrock.synthetic_sec = 12.0
    return marengo_bedrock


@pytest.fixture
def embed_model(local):
    return MarengoEmbedding(**local.client_options)


@pytest.fixture
def read(embed_model):
    """A source's Documents."""
    return lambda source, **settings: MarengoReader(source, embed_model=embed_model, **settings).load_data()


@pytest.fixture
def segment(embed_model, read):
    """A source's segment nodes."""
    return lambda source, **settings: MarengoSegmenter(embed_model=embed_model, **settings)(read(source))


@pytest.fixture
def match(local):
    """A video of 12 s with captions: two clips on three tracks."""
    local.put(b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n", "match.srt")
    return local.put(b"a match", "match.mp4")
