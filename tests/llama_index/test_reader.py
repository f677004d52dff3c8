"""MarengoReader: a Document for each file, and resources."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from llama_index.core.readers.base import ReaderConfig
from llama_index.core.schema import MetadataMode

from bedrock_marengo import InputError, Manifest, MediaNotFoundError, ServiceError
from llama_index_marengo import MarengoEmbedding, MarengoReader
from marengo_local import Fault

CAPTIONS = "1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n"


def test_a_document_is_a_medium(local, read):
    uri = local.put(b"a match", "videos/my match #1.mp4")
    local.calls.reset()
    [document] = read(f"s3://{local.bucket}/videos/")
    etag = local.s3.head_object(Bucket=local.bucket, Key="videos/my match #1.mp4")["ETag"].strip('"')
    assert document.id_ == uri
    assert document.metadata == {"source": uri, "media_type": "video", "size": 7, "etag": etag}
    assert document.text == f"{uri}\n7 bytes, ETag {etag}"
    assert document.get_content(MetadataMode.LLM).startswith(f"source: {uri}\nmedia_type: video\n\n{uri}")
    assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == local.calls["s3:GetObject"] == 0


def test_other_bytes_are_another_document(local, read):
    uri = local.put(b"a match", "match.mp4")
    before, again = read(uri)[0], read(uri)[0]
    local.put(b"b match", "match.mp4")
    [after] = read(uri)
    assert before.hash == again.hash != after.hash
    assert before.id_ == after.id_


def test_it_is_lazy(local, embed_model):
    for i in range(3):
        local.put(b"a match", f"videos/{i}.mp4")
    local.calls.reset()
    documents = MarengoReader(f"s3://{local.bucket}/videos/", embed_model=embed_model).lazy_load_data()
    assert local.calls["s3:ListObjectsV2"] == 0
    assert next(documents).metadata["source"].endswith("/0.mp4")


async def test_async(local, embed_model, match):
    reader = MarengoReader(match, embed_model=embed_model)
    [document] = await reader.aload_data()
    assert list(await reader.alazy_load_data()) == [document] == reader.load_data()
    assert await reader.alist_resources() == [match]
    assert await reader.aget_resource_info(match) == reader.get_resource_info(match)
    assert await reader.aload_resource(match) == [document]


def test_filters_and_what_was_left_out(local, embed_model):
    for key in ("v/a.mp4", "v/b.mp4", "v/c.mov", "v/raw/d.mp4", "v/notes.txt"):
        local.put(key.encode(), key)
    prefix = f"s3://{local.bucket}/v/"
    reader = MarengoReader(prefix, embed_model=embed_model, suffixes=[".mp4"], exclude=["*/raw/*"])
    assert [document.id_ for document in reader.load_data()] == [f"{prefix}a.mp4", f"{prefix}b.mp4"]
    assert reader.skipped == {"not media": 1, "suffix": 1, "excluded": 1}
    assert len(MarengoReader(prefix, embed_model=embed_model, limit=2).load_data()) == 2


async def test_what_is_not_media_is_not_uploaded(local, embed_model, tmp_path):
    (tmp_path / "@eaDir").mkdir()
    for name in ("._a.mp4", "@eaDir/a.jpg", "photo.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "index.ts").write_text("export const answer: number = 42;")
    reader = MarengoReader(tmp_path, embed_model=embed_model)
    for documents in (reader.load_data(), await reader.aload_data()):
        assert documents == [] and reader.skipped == {"hidden": 2, "not media": 1, "unsupported image": 1}
    assert not local.calls["s3:PutObject"]


def test_a_path_object_for_s3(embed_model, match):
    for path in (Path(match), Path(match).parent):
        assert [document.id_ for document in MarengoReader(path, embed_model=embed_model).load_data()] == [match]


def test_plain_keywords_in_place_of_an_embed_model(local, match):
    local.secret_access_key = "s3cr3t/of+this+test"
    reader = MarengoReader(match, **local.client_options)
    assert reader.load_data()[0].id_ == match
    assert isinstance(reader.embed_model, MarengoEmbedding)
    assert "s3cr3t" not in f"{reader!r} {reader.to_dict()}"
    with pytest.raises(ValueError, match="not both"):
        MarengoReader(match, embed_model=reader.embed_model, region_name="us-east-1")


def test_as_a_pipeline_takes_it(embed_model, match):
    [document] = ReaderConfig(reader=MarengoReader(match, embed_model=embed_model)).read()
    assert document.id_ == match


class TestOwnFields:
    def test_are_on_the_document(self, read, match):
        [document] = read(match, metadata=lambda uri: {"tenant": "acme", "title": uri[-9:]})
        assert document.metadata["tenant"] == "acme"
        assert document.metadata["title"] == "match.mp4"

    @pytest.mark.parametrize("own", [{"source": "x"}, {"etag": "x"}, {"tags": ["a"]}, {"title": None}])
    def test_reserved_or_nested_ones_are_refused(self, read, match, own):
        with pytest.raises(InputError, match=next(iter(own))):
            read(match, metadata=lambda uri: own)


class TestLocalFiles:
    def test_are_uploaded_and_their_captions_go_along(self, local, read, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"a")
        (tmp_path / "a.srt").write_text(CAPTIONS)
        [document] = read(tmp_path)
        assert document.id_.startswith(f"{local.output_s3_uri}uploads/")
        assert document.id_.endswith("/a.mp4")
        assert document.metadata["captions"] == CAPTIONS
        assert "shoots" not in document.get_content(MetadataMode.LLM)
        assert [document] == read(tmp_path / "a.mp4")

    def test_a_string_opens_none(self, embed_model, read, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"a")
        (tmp_path / "b.mp4").write_bytes(b"b")
        with pytest.raises(InputError, match="never opens a file"):
            read(str(tmp_path / "a.mp4"))
        reader = MarengoReader(tmp_path / "a.mp4", embed_model=embed_model)
        assert reader.load_resource(str(tmp_path / "a.mp4")) == reader.load_data()
        with pytest.raises(InputError, match="is not a file of this reader"):
            reader.load_resource(str(tmp_path / "b.mp4"))


class TestResources:
    def test_listed_described_and_loaded(self, local, embed_model):
        uris = [local.put(b"a match", f"videos/{i}.mp4") for i in range(2)]
        reader = MarengoReader(f"s3://{local.bucket}/videos/", embed_model=embed_model)
        assert reader.list_resources() == uris
        info = reader.get_resource_info(uris[0])
        assert (info["source"], info["media_type"], info["size"]) == (uris[0], "video", 7)
        assert reader.list_resources_with_info()[uris[1]]["etag"] == info["etag"]
        assert [*reader.load_resource(uris[0]), *reader.load_resource(uris[1])] == reader.load_data()

    def test_one_that_is_not_there(self, embed_model, match):
        with pytest.raises(MediaNotFoundError, match=r"other\.mp4"):
            MarengoReader(match, embed_model=embed_model).get_resource_info(match.replace("match", "other"))


class TestFailures:
    def test_one_bad_medium_does_not_stop_the_others(self, embed_model, match):
        gone, failed = match.replace("match", "gone"), []
        documents = MarengoReader([gone, match], embed_model=embed_model).lazy_load_data()
        assert next(documents).id_ == match
        with pytest.raises(MediaNotFoundError, match=r"gone\.mp4"):
            next(documents)
        reader = MarengoReader([gone, match], embed_model=embed_model, on_error=lambda *args: failed.append(args))
        assert len(reader.load_data()) == 1
        assert failed[0][0] == gone
        assert len(MarengoReader([gone, match], embed_model=embed_model, on_error="skip").load_data()) == 1

    def test_a_prefix_that_cannot_be_listed_says_why(self, local, read):
        local.faults.append(Fault("s3:ListObjectsV2", error="AccessDenied"))
        with pytest.raises(ServiceError, match="s3:ListBucket"):
            read(f"s3://{local.bucket}/videos/")


def test_tags_manifests_and_times(local, read, match, tmp_path):
    bucket, key = match.removeprefix("s3://").split("/", 1)
    tags = [{"Key": "tenant", "Value": "x"}]
    local.s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})
    (tmp_path / "list.csv").write_text(f"bucket,key\n{bucket},{key}\n")
    [document] = read(Manifest(tmp_path / "list.csv"), object_tags=["tenant", "rights"])
    assert (document.id_, document.metadata["tenant"], document.metadata["rights"]) == (match, "x", "")
    assert read(f"s3://{bucket}/", modified_after=datetime.now(UTC) + timedelta(days=1)) == []
