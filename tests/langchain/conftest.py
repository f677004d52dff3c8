"""Each test gets embeddings on a clean stand-in, over real HTTP."""

import pytest

from langchain_marengo import MarengoEmbeddings, MarengoLoader


@pytest.fixture
def local(marengo_bedrock):
    # Vectors from a hash and media of 12 s: what is in them does not matter here.
    marengo_bedrock.synthetic_sec = 12.0
    return marengo_bedrock


@pytest.fixture
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture
def load(embeddings):
    """Load a source without a progress bar."""

    def load(source, **settings):
        return MarengoLoader(source, embeddings=embeddings, show_progress=False, **settings).load()

    return load
