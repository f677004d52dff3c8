"""MarengoRetriever: tracks fused into moments, any query, and what tracing sees."""

from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, QueryBundle

from bedrock_marengo import ConfigurationError, InputError
from bedrock_marengo.search.weights import ANCHORS
from llama_index_marengo import (
    MarengoEmbedding,
    MarengoLinks,
    MarengoRetriever,
    Media,
    Query,
    Segment,
    Segmentation,
    format_moments,
)

CAT = Path(__file__).parents[2] / "marengo_local/marengo_local/reel/cat.jpg"
TRACKS = ["visual", "audio", "transcription"]


@pytest.fixture
def nodes(local, segment, match):
    """Two files of 12 s, four clips of three tracks each."""
    final = local.put(b"a final", "final.mp4")
    return [node for uri in (match, final) for node in segment(uri, segmentation=Segmentation.fixed(3))]


@pytest.fixture
def index(nodes, embed_model):
    return VectorStoreIndex(nodes, embed_model=embed_model)


@pytest.fixture
def retriever(index):
    return MarengoRetriever(index)


def moments(found):
    return [(hit.metadata["source"], hit.metadata["start_sec"], hit.metadata["end_sec"]) for hit in found]


class TestMoments:
    def test_one_node_for_each_moment_with_each_tracks_rank_and_score(self, index):
        found = MarengoRetriever(index, similarity_top_k=8).retrieve("a goal from a corner")
        assert len(found) == len(set(moments(found))) == 8
        weights = {"visual": 0.8, "audio": 0.1, "transcription": 0.05}
        for hit in found:
            tracks = hit.metadata["tracks"]
            assert set(tracks) == set(TRACKS)
            assert hit.score == hit.metadata["score"]
            assert hit.score == pytest.approx(sum(weights[t] / (60 + hits["rank"]) for t, hits in tracks.items()))
            assert Segment.find(hit.text).id == hit.node_id

    def test_the_stored_node_stays_as_it_was(self, index, retriever, nodes):
        [hit, *_] = retriever.retrieve("a goal")
        stored = index.docstore.get_node(hit.node_id)
        assert "tracks" not in stored.metadata
        assert "tracks" not in hit.get_content(MetadataMode.LLM)
        assert "tracks" not in hit.get_content(MetadataMode.EMBED)

    def test_neighbours_become_one_moment_with_all_its_words(self, segment, match, embed_model):
        nodes = segment(match, segmentation=Segmentation.fixed(6))
        index = VectorStoreIndex(nodes, embed_model=embed_model)
        [moment] = MarengoRetriever(index, merge_gap_sec=0).retrieve("a goal")
        assert moments([moment]) == [(match, 0.0, 12.0)]
        assert moment.text.partition("\n")[2] == "match.mp4, 00:00 to 00:12\nHe shoots\nGoal!"
        [linked] = MarengoLinks(embed_model=embed_model).postprocess_nodes([moment])
        assert "#t=0,12&" in moment.text
        assert linked.node.metadata["citation"] == "match.mp4 at 00:00"
        assert linked.node.metadata["url"].endswith("#t=0,12")
        assert "00:00 to 00:12" in format_moments([moment])
        assert embed_model.core.playable_url(moment.text.partition("\n")[0]).endswith("#t=0,12")
        assert embed_model.get_text_embedding(moment.text) == index.vector_store.get(moment.node_id)

    def test_diversity_over_sources(self, index):
        found = MarengoRetriever(index, max_per_source=1).retrieve("a goal")
        assert len({hit.metadata["source"] for hit in found}) == len(found) == 2

    def test_an_index_for_each_track(self, nodes, embed_model, retriever):
        indices = {
            track: VectorStoreIndex(
                [node for node in nodes if node.metadata["embedding_option"] == track], embed_model=embed_model
            )
            for track in TRACKS
        }
        apart = MarengoRetriever(indices=indices)
        assert moments(apart.retrieve("a goal")) == moments(retriever.retrieve("a goal"))

    def test_the_query_is_embedded_once(self, retriever, local):
        local.calls.reset()
        retriever.retrieve("a goal")
        assert local.calls["InvokeModel"] == 1

    def test_in_a_query_engine(self, retriever):
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
        assert moments(engine.retrieve(QueryBundle("a goal"))) == moments(retriever.retrieve("a goal"))


class TestAnyQuery:
    @pytest.fixture
    def queries(self, local):
        image = Media.from_bytes(CAT.read_bytes())
        return {
            "text": Query(text="a goal"),
            "image": Query(image=CAT),
            "text with image": Query(text="at night", image=image),
            "multi_input": Query(text="<@a> beside <@b>", images={"a": image, "b": CAT}),
            "audio": Query(audio=local.put(b"a song", "song.mp3")),
            "video": Query(video=local.put(b"a clip", "clip.mp4")),
        }

    @pytest.mark.parametrize("kind", ["text", "image", "text with image", "multi_input", "audio", "video"])
    async def test_both_ways(self, retriever, embed_model, queries, kind):
        query = queries[kind]
        vector = embed_model.core.embed_query(query).tolist()
        found = retriever.retrieve(query)
        assert moments(found) == moments(retriever.retrieve(QueryBundle("", embedding=vector)))
        assert moments(await retriever.aretrieve(query)) == moments(found)

    def test_a_bundle_of_an_image_path_opens_it_only_where_allowed(self, retriever, index, local):
        bundle = QueryBundle("", image_path=str(CAT))
        with pytest.raises(InputError, match="do not open files"):
            retriever.retrieve(bundle)
        open_minded = MarengoEmbedding(**local.client_options, local_files=True)
        found = MarengoRetriever(index, embed_model=open_minded).retrieve(bundle)
        assert moments(found) == moments(retriever.retrieve(Query(image=CAT)))

    def test_a_plain_retriever_can_be_asked_by_image(self, index, embed_model):
        vector = embed_model.get_image_embedding(BytesIO(CAT.read_bytes()))
        [hit] = index.as_retriever(similarity_top_k=1).retrieve(QueryBundle("", embedding=vector))
        assert Segment.find(hit.text)


class TestTracing:
    @pytest.fixture
    def events(self):
        class Seen(BaseEventHandler):
            def handle(self, event, **_):
                seen.append(event)

        seen, handler = [], Seen()
        root = get_dispatcher()
        root.add_event_handler(handler)
        yield seen
        root.event_handlers.remove(handler)

    def test_events_carry_model_tracks_and_weights(self, index, events):
        MarengoRetriever(index, weights={"visual": 1.0}).retrieve(Query(text="at night", image=CAT))
        retrievals = [event for event in events if event.class_name().startswith("Retrieval")]
        assert {event.class_name() for event in retrievals} == {"RetrievalStartEvent", "RetrievalEndEvent"}
        first, last = retrievals[0], retrievals[-1]
        assert first.str_or_query_bundle.query_str == f"at night + {CAT}"
        assert len(last.nodes) == 5
        for event in (first, last):
            assert event.tags["marengo_model"] == "twelvelabs.marengo-embed-3-0-v1:0"
            assert event.tags["marengo_tracks"] == ["visual"]
            assert event.tags["marengo_weights"] == {"visual": 1.0}

    async def test_intents_weights_are_on_the_searches_within(self, index, events, local):
        retriever = MarengoRetriever(index, weights="intent")
        await retriever.aretrieve(ANCHORS["audio"])
        starts = [event for event in events if event.class_name() == "RetrievalStartEvent"]
        assert starts[0].tags["marengo_weights"] == "intent"
        weights = starts[1].tags["marengo_weights"]
        assert max(weights, key=weights.get) == "audio"
        local.calls.reset()
        retriever.retrieve("a goal")
        assert local.calls["InvokeModel"] == 1


class TestRefused:
    def test_no_index_or_two(self, index):
        for indices in ({}, {"index": index, "indices": {"visual": index}}):
            with pytest.raises(ConfigurationError, match="takes index="):
                MarengoRetriever(**indices)

    def test_an_index_of_another_embedding_model(self, nodes):
        with pytest.raises(ConfigurationError, match="MockEmbedding"):
            MarengoRetriever(VectorStoreIndex(nodes, embed_model=MockEmbedding(512)))

    @pytest.mark.parametrize("settings", [{"weights": {"smell": 1}}, {"weights": "sports"}, {"similarity_top_k": 0}])
    def test_wrong_settings(self, index, settings):
        with pytest.raises(InputError):
            MarengoRetriever(index, **settings)

    async def test_a_vector_of_another_length(self, retriever):
        bundle = QueryBundle("", embedding=[0.1] * 256)
        with pytest.raises(InputError, match=r"256 dimensions .* have 512: vectors of two models or two lengths"):
            retriever.retrieve(bundle)
        with pytest.raises(InputError, match=r"256 dimensions .* have 512: vectors of two models or two lengths"):
            await retriever.aretrieve(bundle)
