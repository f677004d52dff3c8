"""`embed_many(only_done=True)`: finished output is read; nothing is uploaded, started or waited for."""

import pytest

from bedrock_marengo import NotEmbeddedError, OutputError

WRITES = ("StartAsyncInvoke", "InvokeModel", "s3:PutObject", "s3:CreateMultipartUpload", "s3:CopyObject")


def writes(local):
    return sum(local.calls[name] for name in WRITES)


def read(client, sources, **settings):
    return {done.uri or done.source: done for done in client.embed_many(sources, only_done=True, **settings)}


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("identity", ["etag", "checksum"])
def test_finished_files_are_read_and_the_others_reported(connect, local, video, png, ahead, identity):
    client = connect(identity=identity)
    image, other = local.put(png(), "a.png"), local.put(b"another", "other.mp4")
    done = {uri: client.embed_media(uri) for uri in (video, image)}
    local.calls.reset()
    found = read(connect(identity=identity), [video, image, other], read_ahead=ahead)
    for uri, segments in done.items():
        assert (found[uri].segments.vectors == segments.vectors).all()
    assert isinstance(found[other].error, NotEmbeddedError)
    assert found[other].segments is None
    assert writes(local) == 0


def test_a_running_job_is_not_waited_for(client, local, video):
    local.job_duration_sec = float("inf")
    client.start(video)
    assert isinstance(read(client, video)[video].error, NotEmbeddedError)


def test_different_options_content_and_prefixes_are_not_reused(client, connect, local, video):
    client.embed_media(video)
    assert read(client, video)[video].error is None
    assert read(client, video, scopes=["clip"])[video].error is not None
    assert read(connect(output_s3_uri=f"s3://{local.bucket}/elsewhere/"), video)[video].error is not None
    local.put(b"other bytes", "match.mp4")
    assert read(client, video)[video].error is not None


def test_a_local_file_is_found_by_its_content_and_not_uploaded(client, local, tmp_path):
    path, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    path.write_bytes(b"a video")
    other.write_bytes(b"another")
    uri = client.embed_media(path).source
    local.calls.reset()
    found = list(client.embed_many([path, other], only_done=True))
    assert [done.segments.source for done in found if done.segments] == [uri]
    assert sum(isinstance(done.error, NotEmbeddedError) for done in found) == 1
    assert writes(local) == 0


def test_an_unusable_output_is_an_error_and_is_kept(client, connect, local, video):
    client.embed_media(video)
    [key] = [
        item["Key"]
        for item in local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]
        if item["Key"].endswith("output.json")
    ]
    local.put(b'{"data": [', key)
    local.calls.reset()
    [done] = connect().embed_many(video, only_done=True, read_ahead=True)
    assert isinstance(done.error, OutputError)
    assert writes(local) == 0


async def test_for_asyncio(client, local, video):
    assert [type(done.error) async for done in client.aembed_many(video, only_done=True)] == [NotEmbeddedError]
    assert writes(local) == 0
