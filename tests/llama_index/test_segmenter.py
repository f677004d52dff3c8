"""MarengoSegmenter: what becomes a node, and what does not."""

import asyncio
import pickle
from pathlib import Path

import pytest
from llama_index.core.schema import Document, MetadataMode, NodeRelationship, TextNode

from bedrock_marengo import ConfigurationError, JobError, MarengoWarning, MediaFailedError
from bedrock_marengo.contract.segments import METADATA_KEYS
from bedrock_marengo.contract.words import words_in
from langchain_marengo import MarengoEmbeddings, MarengoLoader
from llama_index_marengo import MarengoEmbedding, MarengoSegmenter, Segment, Segmentation
from marengo_local import Fault

CAT = Path(__file__).parents[2] / "marengo_local/marengo_local/reel/cat.jpg"
CAPTIONS = "1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n"


def words(nodes, option="visual"):
    return [words_in(n.text) for n in nodes if n.metadata["embedding_option"] == option]


class TestNodes:
    def test_a_node_is_a_segment_with_its_vector(self, embed_model, segment, match):
        nodes = segment(match)
        vectors = embed_model.core.segment_vectors(node.text.partition("\n")[0] for node in nodes)
        assert len(nodes) == 6
        for node, vector in zip(nodes, vectors, strict=True):
            assert type(node) is TextNode
            found = Segment.find(node.text)
            assert node.id_ == found.id
            assert node.embedding == vector.tolist()
            assert set(node.metadata) == set(METADATA_KEYS)
            assert all(isinstance(value, str | int | float | bool) for value in node.metadata.values())
            assert (node.metadata["source"], node.metadata["embedding_scope"]) == (match, "clip")

    def test_the_same_as_langchains(self, local, segment, match):
        loader = MarengoLoader(match, embeddings=MarengoEmbeddings(**local.client_options), show_progress=False)
        nodes = segment(match)
        assert [(n.id_, n.text, n.metadata) for n in nodes] == [
            (d.id, d.page_content, d.metadata) for d in loader.load()
        ]
        assert local.calls["StartAsyncInvoke"] == 1

    def test_what_embedding_and_llm_see(self, segment, match):
        node = segment(match)[0]
        assert node.get_content(MetadataMode.EMBED) == node.text
        assert node.get_content(MetadataMode.LLM) == node.text
        assert node.text.partition("\n")[2].startswith("match.mp4, 00:00 to 00:06")

    def test_relationships(self, read, segment, match):
        nodes = {node.id_: node for node in segment(match)}
        [document] = read(match)
        for node in nodes.values():
            assert node.source_node.node_id == node.ref_doc_id == match
            assert node.source_node.hash == document.hash
        firsts = [node for node in nodes.values() if node.prev_node is None]
        assert [node.metadata["start_sec"] for node in firsts] == [0.0] * 3
        for first in firsts:
            after = nodes[first.next_node.node_id]
            assert after.metadata["start_sec"] == first.metadata["end_sec"]
            assert after.metadata["embedding_option"] == first.metadata["embedding_option"]
            assert after.prev_node.node_id == first.id_
            assert NodeRelationship.NEXT not in after.relationships

    def test_user_fields_of_the_document_are_kept_and_stay_out_of_the_embedding(self, embed_model, read, match):
        documents = read(match, metadata=lambda uri: {"tenant": "acme"})
        [node, *_] = MarengoSegmenter(embed_model=embed_model)(documents)
        assert node.metadata["tenant"] == "acme"
        assert "etag" not in node.metadata
        assert node.get_content(MetadataMode.EMBED) == node.text
        assert "tenant: acme" in node.get_content(MetadataMode.LLM)

    def test_what_is_no_medium_passes_through_in_its_place(self, embed_model, read, match):
        text, node = Document(text="words", metadata={"source": "s3://b/report.pdf"}), TextNode(text="more")
        result = MarengoSegmenter(embed_model=embed_model)([text, *read(match), node])
        assert result[0] is text
        assert result[-1] is node
        assert len(result) == 8
        assert MarengoSegmenter(embed_model=embed_model)(result) == result

    def test_an_image_is_one_node(self, local, segment):
        [node] = segment(local.put(CAT))
        assert (node.metadata["media_type"], node.metadata["end_sec"]) == ("image", 0.0)
        assert len(node.embedding) == 512


class TestSettings:
    def test_options_scopes_cuts_and_ranges_reach_the_job(self, local, segment, match):
        segment(
            match,
            options=["visual", "audio"],
            scopes=["asset"],
            segmentation=Segmentation.fixed(4),
            end_sec=8,
            fused=True,
        )
        [start] = local.calls.of("StartAsyncInvoke")
        video = start.body["modelInput"]["video"]
        assert video["embeddingOption"] == ["visual", "audio"]
        assert video["embeddingScope"] == ["asset"]
        assert video["embeddingType"] == ["separate_embedding", "fused_embedding"]
        assert video["segmentation"] == {"method": "fixed", "fixed": {"durationSec": 4}}
        assert video["endSec"] == 8.0

    def test_fused_only_gives_one_node_a_moment(self, segment, match):
        assert [n.metadata["embedding_option"] for n in segment(match, fused="only")] == ["fused", "fused"]

    def test_plain_keywords_in_place_of_an_embed_model(self, local, read, segment, match):
        segmenter = MarengoSegmenter(options=["visual"], **local.client_options)
        assert [n.embedding for n in segmenter(read(match))] == [
            n.embedding for n in segment(match, options=["visual"])
        ]
        with pytest.raises(ValueError, match="not both"):
            MarengoSegmenter(embed_model=segmenter.embed_model, model_name="2.7")
        with pytest.raises(ValueError, match="option"):
            MarengoSegmenter(option=["visual"], **local.client_options)

    def test_normalize_holds_for_segments_too(self, local, read, match):
        [node, *_] = MarengoSegmenter(normalize=True, **local.client_options)(read(match))
        assert sum(x * x for x in node.embedding) == pytest.approx(1.0, abs=1e-6)
        fresh = MarengoEmbedding(normalize=True, **local.client_options)
        assert fresh.get_text_embedding(node.text) == node.embedding

    def test_to_dict_holds_what_changes_results(self, local, embed_model):
        def words_of(uri):
            return None

        plain = MarengoSegmenter(embed_model=embed_model).to_dict()
        same = MarengoSegmenter(force=True, jobs_at_once=2, show_progress=True, **local.client_options).to_dict()
        assert plain == same
        assert local.secret_access_key not in str(plain)
        for other in ({"options": ["audio"]}, {"fused": "only"}, {"end_sec": 6}, {"transcripts": False}):
            assert MarengoSegmenter(embed_model=embed_model, **other).to_dict() != plain
        named = MarengoSegmenter(embed_model=embed_model, transcripts=words_of).to_dict()["transcripts"]
        assert named.endswith("words_of")

    def test_a_pickle_holds_no_secret_and_an_injected_client_raises(self, local, embed_model, read, match):
        settings = local.client_options
        segmenter = MarengoSegmenter(segmentation=Segmentation.fixed(6), **settings)
        data = pickle.dumps(segmenter)
        assert local.secret_access_key.encode() not in data
        assert settings["aws_access_key_id"].encode() not in data
        assert pickle.loads(data).to_dict() == segmenter.to_dict()
        assert pickle.loads(data)(read(match)) == segmenter(read(match))
        own = MarengoEmbedding(client=embed_model.core._runtime.aws.bedrock, bucket_owner=local.account_id)
        with pytest.raises(ConfigurationError, match="can't be pickled"):
            pickle.dumps(MarengoSegmenter(embed_model=own))


class TestTranscripts:
    def test_captions_next_to_the_file(self, segment, match):
        assert words(segment(match)) == ["He shoots", "Goal!"]

    def test_none_given_or_computed(self, segment, match):
        assert words(segment(match, transcripts=False)) == ["", ""]
        assert words(segment(match, transcripts={match: CAPTIONS})) == ["He shoots", ""]
        assert words(segment(match, transcripts=lambda uri: None)) == ["", ""]

    def test_next_to_a_local_file(self, segment, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"a")
        (tmp_path / "a.srt").write_text(CAPTIONS)
        assert words(segment(tmp_path)) == ["He shoots", ""]
        assert words(segment(tmp_path, transcripts=False)) == ["", ""]

    @pytest.mark.parametrize(
        "captions",
        [
            b"not captions",
            b"00:01.000 --> 00:02.000\n&#" + b"9" * 5000 + b";",
            b"9" * 400 + b":00:01.000 --> 00:02.000\nGoal",
            "00:01.000 --> 00:02.000\nschön".encode("cp1252"),
        ],
        ids=["no cues", "reference", "hours", "encoding"],
    )
    def test_captions_that_cannot_be_read_lose_no_segment(self, local, segment, match, tmp_path, captions):
        local.put(captions, "match.srt")
        (tmp_path / "a.mp4").write_bytes(b"a")
        (tmp_path / "a.srt").write_bytes(captions)
        for source, name in ((match, "match"), (tmp_path, "a")):
            with pytest.warns(MarengoWarning, match=rf"{name}\.mp4 is loaded without its captions: .*{name}\.srt: "):
                assert words(segment(source, on_error="skip")) == ["", ""]


class TestMany:
    @pytest.fixture
    def documents(self, local, read):
        for name in ("a", "b", "c"):
            local.put(name.encode(), f"videos/{name}.mp4")
        return read(f"s3://{local.bucket}/videos/")

    def test_nodes_come_in_the_order_of_the_documents(self, embed_model, documents):
        nodes = MarengoSegmenter(embed_model=embed_model, fused="only")([*reversed(documents), documents[0]])
        assert [node.metadata["source"][-5:] for node in nodes[::2]] == ["c.mp4", "b.mp4", "a.mp4"]
        assert len(nodes) == 6

    async def test_async_gives_the_same_and_leaves_the_loop_free(self, local, embed_model, documents):
        segmenter = MarengoSegmenter(embed_model=embed_model)
        local.latency_sec, ticks = 0.1, 0
        work = asyncio.create_task(segmenter.acall(documents))
        while not work.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks >= 10
        assert await work == segmenter(documents)

    async def test_jobs_run_at_once(self, local, embed_model, documents, held):
        work = asyncio.create_task(asyncio.to_thread(MarengoSegmenter(embed_model=embed_model), documents))
        # None ends before all have started.
        while len(local.jobs) < len(documents):
            assert not work.done()
            await asyncio.sleep(0.01)
        held.set()
        await work

    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_one_bad_medium_does_not_stop_the_others(self, local, embed_model, documents, how):
        def bad(call):
            return "b.mp4" in str(call.body)

        local.faults.append(Fault("Job", error="Failed", message="This video is broken", when=bad))

        def run(**settings):
            segmenter = MarengoSegmenter(embed_model=embed_model, **settings)
            return segmenter(documents) if how == "sync" else asyncio.run(segmenter.acall(documents))

        with pytest.raises(JobError, match="This video is broken"):
            run()
        failed = []
        assert len(run(on_error="skip")) == len(run(on_error=lambda *args: failed.append(args))) == 12
        assert failed[0][0].uri == documents[1].id_
        assert local.calls["StartAsyncInvoke"] == 3

    def test_several_that_failed_are_named_together(self, local, embed_model, documents):
        local.faults.append(Fault("Job", error="Failed", message="broken"))
        with pytest.raises(MediaFailedError, match="3 files failed"):
            MarengoSegmenter(embed_model=embed_model)(documents)
