"""`prune`: segments of files that are gone leave the store, and no others."""

from collections import Counter
from pathlib import Path

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import InputError, ServiceError
from langchain_marengo import MarengoLoader, add_segments, aprune, create_track_stores, prune
from marengo_local import Fault

KEYS = ("v/a.mp4", "v/b é#1%.mp4", "v/deep/c.mp3", "v2/d.mp4", "other/e.mp4")


@pytest.fixture
def filled(local, embeddings):
    """A store with segments of five sources: key -> URI."""
    uris = {key: local.put(key.encode(), key) for key in KEYS}
    store = InMemoryVectorStore(embeddings)
    add_segments(store, MarengoLoader(list(uris.values()), embeddings=embeddings, show_progress=False).lazy_load())
    return store, uris


def counts(store):
    return Counter(row["metadata"]["source"] for row in store.store.values())


def delete(local, *keys):
    for key in keys:
        local.s3.delete_object(Bucket=local.bucket, Key=key)


def test_only_what_is_gone_from_the_place_is_deleted(filled, local):
    store, uris = filled
    delete(local, "v/b é#1%.mp4", "v/deep/c.mp3", "v2/d.mp4", "other/e.mp4")
    before, gone = counts(store), [uris["v/b é#1%.mp4"], uris["v/deep/c.mp3"]]
    expected = {source: before[source] for source in gone}
    dry = prune(store, f"s3://{local.bucket}/v/", dry_run=True)
    assert dict(dry.sources) == expected and counts(store) == before
    pruned = prune(store, f"s3://{local.bucket}/v/")
    assert pruned == dry and pruned.kept == counts(store).total() == before.total() - pruned.segments
    assert not counts(store).keys() & set(gone)
    assert not prune(store, f"s3://{local.bucket}/v/").sources
    # A whole bucket, and single objects.
    assert set(prune(store, [uris["v/a.mp4"], uris["v2/d.mp4"]]).sources) == {uris["v2/d.mp4"]}
    assert set(prune(store, f"s3://{local.bucket}").sources) == {uris["other/e.mp4"]}
    assert set(counts(store)) == {uris["v/a.mp4"]}


async def test_for_asyncio(filled, local):
    store, uris = filled
    delete(local, "v/a.mp4")
    assert set((await aprune(store, f"s3://{local.bucket}/v/")).sources) == {uris["v/a.mp4"]}


def test_an_archived_or_replaced_file_still_exists(filled, local):
    store, _ = filled
    local.s3.put_object(Bucket=local.bucket, Key="v/a.mp4", Body=b"x", StorageClass="GLACIER")
    local.s3.put_object(Bucket=local.bucket, Key="v/deep/c.mp3", Body=b"other bytes")
    assert not prune(store, f"s3://{local.bucket}/v/").sources


@pytest.mark.parametrize(
    ("place", "settings", "message"),
    [
        ("v/", {"max_segments": 3}, "more than max_segments=3"),
        ("v", {}, "no slash at the end"),
        ("v/", {"max_segments": -1}, "0 or more"),
        (None, {}, "not a place"),
        (Path("/nowhere/at/all"), {}, "nowhere"),
    ],
)
def test_nothing_is_deleted_if(filled, local, place, settings, message):
    store, _ = filled
    delete(local, *KEYS)
    before = counts(store)
    with pytest.raises(InputError, match=message):
        prune(store, [f"s3://{local.bucket}/{place}" if isinstance(place, str) else place], **settings)
    assert counts(store) == before


def test_a_listing_that_is_refused_deletes_nothing(filled, local):
    store, _ = filled
    before = counts(store)
    local.faults = [Fault("s3:ListObjectsV2", error="AccessDenied")]
    with pytest.raises(ServiceError, match="AccessDenied"):
        prune(store, f"s3://{local.bucket}/v/")
    assert counts(store) == before


def test_local_folders(local, embeddings, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    store = InMemoryVectorStore(embeddings)
    on_s3 = local.put(b"x", "v/x.mp4")
    add_segments(store, MarengoLoader([tmp_path, on_s3], embeddings=embeddings, show_progress=False).lazy_load())
    (tmp_path / "a.mp4").rename(tmp_path / "renamed.mp4")
    assert not prune(store, tmp_path).sources
    (tmp_path / "b.mp4").unlink()
    [gone] = prune(store, tmp_path).sources
    assert gone.endswith("/b.mp4") and len(counts(store)) == 2


def test_a_store_for_each_track(local, embeddings, tmp_path):
    chroma = pytest.importorskip("langchain_chroma")
    uris = [local.put(key.encode(), key) for key in ("v/a.mp4", "v/b.mp4")]
    stores = create_track_stores(chroma.Chroma, "videos", embeddings, persist_directory=str(tmp_path))
    add_segments(stores, MarengoLoader(uris, embeddings=embeddings, show_progress=False).lazy_load())
    delete(local, "v/a.mp4")
    pruned = prune(stores, f"s3://{local.bucket}/v/")
    assert set(pruned.sources) == {uris[0]} and pruned.segments == pruned.kept > 0
    assert all({row["source"] for row in store.get()["metadatas"]} == {uris[1]} for store in stores.values())
