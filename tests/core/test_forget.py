"""forget(): everything stored for a source is deleted, and nothing else."""

import functools

import numpy as np
import pytest

from bedrock_marengo import InputError, SegmentNotFoundError, ServiceError
from bedrock_marengo.jobs import invocations
from bedrock_marengo.jobs.fingerprint import source_prefix
from marengo_local import Fault


def keys(local):
    return sorted(item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket).get("Contents", []))


@pytest.fixture
def others(client, local):
    """Another video with its own output, which must not be deleted."""
    uri = local.put(b"another", "other.mp4")
    client.embed_media(uri)
    return keys(local)


def test_everything_stored_for_a_source_is_deleted(client, local, others, video):
    first = client.embed_media(video)
    client.embed_media(video, scopes=["clip"])
    dry = client.forget(video, dry_run=True)
    assert len(keys(local)) == len(others) + 1 + 6
    receipt = client.forget(video)
    assert keys(local) == sorted([*others, "match.mp4"])
    for told in (dry, receipt):
        assert (told.outputs, told.requests, told.others, told.uploads, told.unfinished) == (2, 2, 2, 0, 0)
        assert len(told.uris) == 6 and told.bytes > 1000
    assert str(dry).startswith("would delete 2 outputs, 2 requests, 2 others (")
    assert str(receipt).startswith("deleted 2 outputs")
    with pytest.raises(SegmentNotFoundError):
        client.segment_vectors([first[0]])
    assert client.forget(video).uris == ()


def test_a_source_that_no_longer_exists(client, local, others, video):
    client.embed_media(video)
    local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
    assert client.forget(video).outputs == 1 and keys(local) == others


def test_a_forgotten_source_can_be_embedded_again(client, local, video, monkeypatch):
    # Bedrock still knows the first attempt's token, and answers with a job whose output is gone.
    monkeypatch.setattr(invocations, "LATE_SEC", 0.1)
    first = client.embed_media(video)
    client.forget(video)
    assert np.array_equal(client.embed_media(video).vectors, first.vectors)


@pytest.mark.parametrize("by_uri", [True, False])
def test_uploads(client, local, others, tmp_path, by_uri):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"local video")
    source = client.embed_media(path).source
    receipt = client.forget(source if by_uri else path)
    assert (receipt.sources, receipt.uploads, receipt.outputs) == ((source,), 1, 1)
    assert keys(local) == others and path.exists()


def test_a_local_file_that_no_longer_exists(client, tmp_path):
    with pytest.raises(InputError, match="There is no file at"):
        client.forget(tmp_path / "a.mp4")
    with pytest.raises(InputError):
        client.forget("a string")


def test_staged_copies(connect, local, video):
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    local.put(
        b"copy",
        client._runtime.copies.prefix_of(source_prefix(local.output_s3_uri, video)).split("/", 3)[3] + "0123.mp4",
    )
    local.put(b"copy", "stage/another/0123.mp4")
    receipt = client.forget(video)
    assert receipt.copies == 1 and keys(local) == ["match.mp4", "stage/another/0123.mp4"]


def test_running_jobs(client, local, video, held):
    job = client.start(video)
    receipt = client.forget(video)
    assert receipt.unfinished == 1 and "1 jobs have no output yet" in str(receipt)
    held.set()
    while job.status() == "InProgress":
        pass
    client.forget(video)
    assert keys(local) == ["match.mp4"]


def test_segments_in_a_store(client, local, video):
    client.embed_media(video)
    asked = []

    def delete(store, uri):
        asked.append((store, uri))
        return 12

    store = functools.partial(delete, "a store")
    assert client.forget(video, dry_run=True, store=store).segments == () and asked == []
    assert client.forget(video, store=store).segments == (12,) and asked == [("a store", video)]


def test_if_the_store_fails_the_output_is_kept(client, local, video):
    client.embed_media(video)
    before = keys(local)

    def store(uri):
        raise RuntimeError("the store is away")

    with pytest.raises(RuntimeError):
        client.forget(video, store=store)
    assert keys(local) == before


def test_deletion_in_several_batches(client, local, video, monkeypatch):
    monkeypatch.setattr("bedrock_marengo.s3.objects.DELETE_BATCH", 2)
    client.embed_media(video)
    client.embed_media(video, scopes=["clip"])
    assert len(client.forget(video).uris) == 6 and keys(local) == ["match.mp4"]


def test_access_denied(client, local, video):
    client.embed_media(video)
    local.faults = [Fault("s3:DeleteObjects", error="AccessDenied")]
    with pytest.raises(ServiceError, match=r"DeleteObjects for .*AccessDenied"):
        client.forget(video)


async def test_for_asyncio(client, video):
    await client.aembed_media(video)
    assert (await client.aforget(video)).outputs == 1
