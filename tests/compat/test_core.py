"""What every extra stands on."""

import asyncio
import pickle

import numpy as np
import pytest

from bedrock_marengo import InputError, MarengoClient, Media, Query, Segmentation


@pytest.fixture
def client(options):
    with MarengoClient(**options) as client:
        yield client


def test_texts_and_images(client, png):
    vectors = client.embed_texts(["a dog", "a cat", "a dog"])
    assert vectors.shape == (3, 512) and vectors.dtype == np.float32
    assert np.array_equal(vectors[0], vectors[2]) and np.array_equal(vectors[1], client.embed_text("a cat"))
    image = Media.from_bytes(png, kind="image")
    assert client.embed_query(Query(text="at night", image=image)).shape == (512,)
    assert client.embed_multi_input("<@a>", {"a": image}).shape == (512,)


def test_media(client, videos, options):
    done = list(client.embed_many(videos, segmentation=Segmentation.fixed(6), scopes=["clip"]))
    assert [(item.error, len(item.segments)) for item in done] == [(None, 6)] * 3
    segments = [segment for item in done for segment in item.segments]
    with MarengoClient(**options) as other:
        known = other.segment_vectors([segment.uri for segment in segments])
    assert np.array_equal(known, np.concatenate([item.segments.vectors for item in done]))
    assert client.plan(videos, segmentation=Segmentation.fixed(6), scopes=["clip"], probe=False).reused == 3
    assert client.forget(done[0].uri, dry_run=True).sources


@pytest.mark.parametrize("size", [6, 9 << 20], ids=["whole", "in parts"])
def test_local_media_are_uploaded(client, tmp_path, size):
    (tmp_path / "a.mp4").write_bytes(b"f" * size)
    assert len(client.embed_media(tmp_path / "a.mp4")) == 9
    assert client.plan(tmp_path / "a.mp4", probe=False).reused == 1


def test_asyncio(client, videos):
    async def ask():
        one, many = await asyncio.gather(client.aembed_text("a"), client.aembed_texts(["a", "b"]))
        return np.array_equal(one, many[0]), [done.error async for done in client.aembed_many(videos)]

    assert asyncio.run(ask()) == (True, [None] * 3)


def test_a_pickle(client):
    assert repr(pickle.loads(pickle.dumps(client))) == repr(client)


def test_bad_input_is_refused(client):
    for text in ("", None, 1):
        with pytest.raises(InputError):
            client.embed_text(text)
