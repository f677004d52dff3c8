"""MarengoLoader: what becomes a Document, and what does not."""

import asyncio
import copy
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps, loads

from bedrock_marengo import (
    InputError,
    JobError,
    Manifest,
    MarengoError,
    MarengoWarning,
    MediaFailedError,
    MediaNotFoundError,
    Prices,
)
from bedrock_marengo.contract.segments import METADATA_KEYS
from bedrock_marengo.contract.words import words_in
from langchain_marengo import MarengoLoader, Media, Segment, Segmentation
from marengo_local import Fault

CAT = Path(__file__).parents[2] / "marengo_local/marengo_local/reel/cat.jpg"
CAPTIONS = "1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nand he <i>scores</i>!\n"


@pytest.mark.parametrize("copied", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_loads_the_same(copied, used, local, embeddings):
    local.put(b"a video", "videos/a.mp4")
    loader = MarengoLoader(f"s3://{local.bucket}/videos/", embeddings=embeddings, object_tags=["owner"])
    if used:
        loader.load()
    assert local.client_options["aws_access_key_id"].encode() not in pickle.dumps(loader)
    assert copied(loader).load() == loader.load()


def test_a_document_is_a_segment(local, load):
    uri = local.put(b"a match", "videos/my match #1.mp4")
    documents = load(uri)
    # 12 s, cut in two by the stand-in, on three tracks; clips only.
    assert len(documents) == 6
    for document in documents:
        segment = Segment.find(document.page_content)
        assert document.id == segment.id
        times = {0.0: "00:00 to 00:06", 6.0: "00:06 to 00:12"}[segment.start_sec]
        assert document.page_content == f"{segment.uri}\nmy match #1.mp4, {times}"
        assert set(document.metadata) == set(METADATA_KEYS)
        assert document.metadata["source"] == uri == segment.source
        assert document.metadata["embedding_scope"] == "clip"
        assert document.metadata["media_type"] == "video"
    assert {d.metadata["embedding_option"] for d in documents} == {"visual", "audio", "transcription"}
    assert [(d.metadata["start_sec"], d.metadata["end_sec"]) for d in documents[::3]] == [(0.0, 6.0), (6.0, 12.0)]


def test_options_scopes_cuts_and_ranges_reach_the_job(local, load):
    uri = local.put(b"a match", "match.mp4")
    load(uri, options=["visual", "audio"], scopes=["asset"], segmentation=Segmentation.fixed(4), end_sec=8, fused=True)
    [start] = local.calls.of("StartAsyncInvoke")
    video = start.body["modelInput"]["video"]
    assert video["embeddingOption"] == ["visual", "audio"]
    assert video["embeddingScope"] == ["asset"]
    assert video["embeddingType"] == ["separate_embedding", "fused_embedding"]
    assert video["segmentation"] == {"method": "fixed", "fixed": {"durationSec": 4}}
    assert video["endSec"] == 8.0


def test_fused_only_gives_one_vector_a_moment(local, load):
    documents = load(local.put(b"a match", "match.mp4"), fused="only")
    assert [d.metadata["embedding_option"] for d in documents] == ["fused", "fused"]


def test_a_prefix_gives_its_media_and_counts_the_rest(local, embeddings):
    for key in ("videos/a.mp4", "videos/sub/b.mp3", "videos/c.JPG", "videos/notes.txt", "videos/d.srt", "other/e.mp4"):
        local.put(CAT.read_bytes() if key.endswith("JPG") else key.encode(), key)
    local.put(b"", "videos/empty.mp4")
    loader = MarengoLoader(f"s3://{local.bucket}/videos/", embeddings=embeddings, show_progress=False)
    kinds = {d.metadata["source"].rpartition("/")[2]: d.metadata["media_type"] for d in loader.load()}
    assert kinds == {"a.mp4": "video", "b.mp3": "audio", "c.JPG": "image"}
    assert loader.skipped == {"not media": 1, "empty": 1}


async def test_what_is_not_media_is_neither_uploaded_nor_paid(local, embeddings, tmp_path):
    (tmp_path / "__MACOSX").mkdir()
    for name in ("._a.mp4", "__MACOSX/._a.mp4", "photo.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "index.ts").write_text("export const answer: number = 42;")
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html>")
    loader = MarengoLoader(tmp_path, embeddings=embeddings, show_progress=False)
    for documents in (loader.load(), await loader.aload()):
        assert documents == [] and loader.skipped == {"hidden": 2, "not media": 2, "unsupported image": 1}
    assert not local.calls["StartAsyncInvoke"] + local.calls["InvokeModel"] + local.calls["s3:PutObject"]
    with pytest.raises(InputError, match="an HTML page"):
        MarengoLoader(tmp_path / "page.mp4", embeddings=embeddings, show_progress=False).load()


def test_a_path_object_for_s3(local, load):
    uri = local.put(b"a match", "v/match.mp4")
    for path in (Path(uri), Path(uri).parent, [Path(uri)]):
        assert {d.metadata["source"] for d in load(path)} == {uri}


def test_filters(local, load):
    for key in ("v/a.mp4", "v/b.mp4", "v/c.mov", "v/raw/d.mp4"):
        local.put(key.encode(), key)
    documents = load(f"s3://{local.bucket}/v/", suffixes=[".mp4"], exclude=["*/raw/*"], limit=1)
    assert {d.metadata["source"] for d in documents} == {f"s3://{local.bucket}/v/a.mp4"}


def test_the_output_prefix_is_never_a_source(local, load, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"uploaded under the output prefix")
    load(path)
    assert load(f"s3://{local.bucket}/") == []


def test_local_files_and_folders(local, load, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "a.srt").write_text(CAPTIONS)
    (tmp_path / "b.txt").write_text("no medium")
    from_folder, from_file = load(tmp_path), load(tmp_path / "a.mp4")
    assert from_folder == from_file
    assert from_file[0].metadata["source"].endswith("/a.mp4")
    assert from_file[0].page_content.endswith("\nHe shoots")
    assert local.calls["StartAsyncInvoke"] == 1


def test_an_image_is_one_segment_found_again_for_nothing(local, load):
    uri = local.put(CAT)
    [document] = load(uri)
    assert document.page_content.startswith(f"{uri}#t=0,0&track=image&job=")
    assert document.metadata["start_sec"] == document.metadata["end_sec"] == 0.0
    local.calls.reset()
    assert load(uri) == [document]
    assert local.calls["InvokeModel"] == 0


class TestLaziness:
    def test_a_segment_can_be_used_while_later_media_still_run(self, local, embeddings):
        sources = [local.put(name.encode(), f"{name}.mp4") for name in ("quick", "stuck")]
        local.faults.append(Fault(op="Job", when=lambda call: "stuck" in str(call.body), delay_sec=float("inf")))
        loader = MarengoLoader(sources, embeddings=embeddings, show_progress=False)
        documents = loader.lazy_load()
        assert next(documents).metadata["source"] == sources[0]
        documents.close()

    async def test_async(self, local, embeddings, load):
        uri = local.put(b"a match", "match.mp4")
        loader = MarengoLoader(uri, embeddings=embeddings, show_progress=False)
        assert [d async for d in loader.alazy_load()] == await asyncio.to_thread(load, uri)

    def test_sources_are_taken_as_they_are_needed(self, local, embeddings):
        taken = []

        def sources():
            for i in range(100):
                taken.append(i)
                yield local.put(str(i).encode(), f"{i}.mp4")

        documents = MarengoLoader(sources(), embeddings=embeddings, show_progress=False, jobs_at_once=2).lazy_load()
        next(documents)
        documents.close()
        assert len(taken) < 10


class TestTranscripts:
    @pytest.fixture
    def uri(self, local):
        return local.put(b"a match", "match.mp4")

    def words(self, documents):
        return [words_in(d.page_content) for d in documents if d.metadata["embedding_option"] == "visual"]

    def test_next_to_the_file(self, local, load, uri):
        local.put(CAPTIONS.encode(), "match.srt")
        documents = load(uri)
        assert self.words(documents) == ["He shoots", "and he scores!"]
        for document in documents[:3]:
            uri_line = Segment.find(document.page_content).uri
            assert document.page_content == f"{uri_line}\nmatch.mp4, 00:00 to 00:06\nHe shoots"
        assert self.words(load(uri, transcripts=False)) == ["", ""]

    @pytest.mark.parametrize("wrap", [lambda t: t, dict, lambda t: t.get], ids=["mapping", "dict", "callable"])
    def test_given(self, load, uri, wrap):
        assert self.words(load(uri, transcripts=wrap({uri: CAPTIONS}))) == ["He shoots", "and he scores!"]

    def test_given_as_a_file(self, load, uri, tmp_path):
        (tmp_path / "captions.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nGoal\n")
        assert self.words(load(uri, transcripts={uri: tmp_path / "captions.vtt"})) == ["Goal", ""]

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    @pytest.mark.parametrize(
        "captions",
        [
            b"not captions",
            b"00:01.000 --> 00:02.000\n&#" + b"9" * 5000 + b";",
            b"9" * 400 + b":00:01.000 --> 00:02.000\nGoal",
            "00:01.000 --> 00:02.000\nschön".encode("cp1252"),
            b"<tt>" + b"<p>" * 100_000,
        ],
        ids=["no cues", "reference", "hours", "encoding", "depth"],
    )
    def test_captions_that_cannot_be_read_lose_no_segment(self, local, load, uri, captions, on_error):
        local.put(captions, "match.srt")
        with pytest.warns(MarengoWarning, match=r"match\.mp4 is loaded without its captions: .*match\.srt: "):
            assert self.words(load(uri, on_error=on_error)) == ["", ""]

    def test_captions_of_which_some_cannot_be_used_are_named(self, local, load, uri):
        local.put(CAPTIONS.encode() + b"\n\n1e308 --> 1e309\nOver", "match.srt")
        with pytest.warns(MarengoWarning, match=r"match\.srt: 1 of \d cues .*1e308"):
            assert self.words(load(uri)) == ["He shoots", "and he scores!"]


class TestMetadata:
    def test_user_fields(self, local, load):
        uri = local.put(b"a match", "match.mp4")
        documents = load(uri, metadata=lambda source: {"tenant": "acme", "title": source.rpartition("/")[2]})
        assert {(d.metadata["tenant"], d.metadata["title"]) for d in documents} == {("acme", "match.mp4")}

    @pytest.mark.parametrize("own", [{"source": "x"}, {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {1: "a"}])
    def test_reserved_and_nested_ones_are_refused(self, local, load, own):
        with pytest.raises(InputError, match="metadata for"):
            load(local.put(b"a match", "match.mp4"), metadata=lambda source: own)


class TestErrors:
    @pytest.fixture
    def sources(self, local):
        return [local.put(b"a", "a.mp4"), f"s3://{local.bucket}/gone.mp4", local.put(b"b", "b.mp4")]

    def test_raised_after_the_rest_is_done(self, embeddings, sources):
        loader = MarengoLoader(sources, embeddings=embeddings, show_progress=False)
        loaded = set()
        with pytest.raises(MediaNotFoundError, match=r"gone\.mp4"):
            for document in loader.lazy_load():
                loaded.add(document.metadata["source"])
        assert loaded == {sources[0], sources[2]}

    def test_several_are_told_together(self, load, sources):
        with pytest.raises(MediaFailedError, match="2 files failed") as caught:
            load([*sources, "s3://no/suffix"])
        assert {done.source for done in caught.value.failed} == {sources[1], "s3://no/suffix"}

    def test_they_are_named_by_path_or_uri(self, local, load, tmp_path):
        local.faults.append(Fault("Job", error="ValidationException", message="Resolution too low"))
        names = [tmp_path / "a.mp4", tmp_path / "\x1b[31mb.mp4"]
        for path in names:
            path.write_bytes(path.name.encode())
        sources = [*names, Media.from_bytes(b"7 bytes", "video"), local.put(b"c", "c.mp4"), Media.from_path(names[0])]
        with pytest.raises(MediaFailedError) as caught:
            load(sources)
        said = str(caught.value)
        assert said.startswith("5 files failed: ")
        assert said.endswith("; and 2 more")
        assert {done.name for done in caught.value.failed} == {*map(str, names), "7 bytes of video", sources[3]}
        assert "Media(" not in said
        assert "\x1b" not in said
        with pytest.raises(
            MediaFailedError, match=r"2 files failed: .*(?:/a\.mp4: .*; .*31mb\.mp4: |31mb\.mp4: .*; .*/a\.mp4: )"
        ):
            load(sorted(names, reverse=True), jobs_at_once=1)

    def test_skip(self, load, sources):
        assert {d.metadata["source"] for d in load(sources, on_error="skip")} == {sources[0], sources[2]}

    def test_callable(self, load, sources):
        seen = []
        load(sources, on_error=lambda source, error: seen.append((source, type(error))))
        assert seen == [(sources[1], MediaNotFoundError)]

    def test_a_failed_job(self, local, load):
        local.faults.append(Fault(op="Job", error="ValidationException", message="The video is too short."))
        with pytest.raises(JobError, match="too short"):
            load(local.put(b"a", "a.mp4"))

    @pytest.mark.parametrize("source", ["/etc/passwd", "match.mp4", "file:///x.mp4", 7])
    def test_what_is_no_source_is_refused(self, load, source):
        with pytest.raises((MarengoError, TypeError)):
            load(source)


def test_media_given_as_bytes(local, load):
    [first, *_] = load(Media.from_bytes(b"\x00\x00\x00\x20ftypisom", "video"))
    assert first.metadata["source"].startswith(f"{local.output_s3_uri}uploads/")


def test_documents_survive_dumps_and_loads(local, load):
    for document in load(local.put(b"a match", "match.mp4")):
        assert loads(dumps(document), allowed_objects=[Document]) == document


def test_a_bar_counts_media_and_is_not_in_logs(local, embeddings, capsys):
    uri = local.put(b"a match", "match.mp4")
    MarengoLoader(uri, embeddings=embeddings, show_progress=True).load()
    shown = capsys.readouterr().err
    assert "1/1" in shown and "USD" in shown
    MarengoLoader(uri, embeddings=embeddings).load()
    assert capsys.readouterr().err == ""


def test_a_bar_of_an_unknown_number_of_free_files(local, embeddings, capsys):
    embeddings.core.usage.prices = Prices(**dict.fromkeys(Prices.__dataclass_fields__, 0.0))
    local.put(b"a match", "videos/match.mp4")
    MarengoLoader(f"s3://{local.bucket}/videos/", embeddings=embeddings, show_progress=True).load()
    shown = capsys.readouterr().err
    assert "1 files" in shown and "USD" not in shown


def test_object_tags_become_fields_of_ones_own(local, load):
    for key, tags in (("a.mp4", [{"Key": "tenant", "Value": "x"}, {"Key": "other", "Value": "y"}]), ("b.mp4", [])):
        local.put(key.encode(), f"videos/{key}")
        if tags:
            local.s3.put_object_tagging(Bucket=local.bucket, Key=f"videos/{key}", Tagging={"TagSet": tags})
    documents = load(f"s3://{local.bucket}/videos/", object_tags=["tenant"], metadata=lambda uri: {"title": uri[-5]})
    assert {(d.metadata["title"], d.metadata["tenant"]) for d in documents} == {("a", "x"), ("b", "")}
    assert all(set(d.metadata) == {*METADATA_KEYS, "tenant", "title"} for d in documents)


def test_a_manifest_and_a_time(local, load, tmp_path):
    uri = local.put(b"a match", "a, match.mp4")
    (tmp_path / "list.csv").write_text(f'{local.bucket},"a, match.mp4"\n')
    assert {d.metadata["source"] for d in load(Manifest(tmp_path / "list.csv"))} == {uri}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert load(f"s3://{local.bucket}/", modified_after=tomorrow) == []


def test_captions_of_a_prefix_cost_no_listing_each(local, load):
    for i in range(12):
        local.put(str(i).encode(), f"videos/{i}.mp4")
        local.put(CAPTIONS.encode(), f"videos/{i}.srt")
    load(f"s3://{local.bucket}/videos/")
    local.calls.reset()
    documents = load(f"s3://{local.bucket}/videos/")
    assert len(documents) == 72 and all("shoots" in d.page_content for d in documents[:3])
    prefixes = [call.body["prefix"] for call in local.calls.of("s3:ListObjectsV2")]
    assert not [prefix for prefix in prefixes if prefix.endswith(".")]
