"""iter_embed_texts(): any number of texts in limited memory."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bedrock_marengo import InputError, ServiceError
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, AwsSettings
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.embedding.invoke import Invoker
from marengo_local import Fault


def test_vectors_and_order_match_embed_texts(client, local):
    texts = [f"text {i % 40}" for i in range(100)]
    whole = client.embed_texts(texts)
    local.calls.reset()
    found = list(client.iter_embed_texts(iter(texts)))
    assert np.array_equal(found, whole) and local.calls["InvokeModel"] == 40
    found[0][:] = 0
    assert np.array_equal(found[40], whole[40])
    assert list(client.iter_embed_texts([])) == []


async def test_for_asyncio(client):
    texts = [f"text {i}" for i in range(300)]
    found = [vector async for vector in client.aiter_embed_texts(iter(texts))]
    assert np.array_equal(found, client.embed_texts(texts))


class Echo(Invoker):
    """Responds without HTTP, whose memory would distort the measurement."""

    def vector(self, body, what="a text", *, kind="text"):
        return np.full(512, len(body), np.float32)


def test_memory_is_limited():
    """20,000 texts would be 40 MB of vectors; the latest 4,096 are 8."""
    taken = 0

    def texts():
        nonlocal taken
        for taken in range(1, 20_001):
            yield f"text {taken}"

    invoker = Echo(Aws(AwsSettings()), None, RetryLimiter(4), MODELS["3.0"])
    ahead = 0
    with ThreadPoolExecutor(4) as threads:
        tracemalloc.start()
        try:
            for given, _ in enumerate(invoker.iter_embed(threads, texts(), ahead=128), 1):
                ahead = max(ahead, taken - given)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert given == 20_000 and ahead < 128 and peak < 20e6


def test_texts_are_consumed_lazily(client):
    endless = (f"text {i}" for i in itertools.count())
    assert len(list(itertools.islice(client.iter_embed_texts(endless), 3))) == 3


def test_a_failure_is_raised_after_the_earlier_results(client, local):
    local.faults = [Fault("InvokeModel", error="ValidationException", when=lambda c: "no. 30" in str(c.body))]
    given = []
    with pytest.raises(ServiceError):
        for vector in client.iter_embed_texts(f"no. {i}" for i in range(1000)):
            given.append(vector)
    assert len(given) == 30 and local.calls["InvokeModel"] < 300


async def test_a_failure_for_asyncio(client):
    given = []
    with pytest.raises(InputError, match="Text 20: "):
        async for vector in client.aiter_embed_texts(["a"] * 20 + [""]):
            given.append(vector)
    assert len(given) == 20


@pytest.mark.parametrize(("texts", "match"), [("a string", "pass a list, even for"), (["a", 3], "Text 1: ")])
def test_invalid_texts(client, texts, match):
    with pytest.raises(InputError, match=match):
        list(client.iter_embed_texts(texts))
