"""MarengoRetriever: tracks fused into moments, any query, any store."""

import json
from pathlib import Path

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps, loads
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from pydantic import ValidationError

from bedrock_marengo import ConfigurationError, InputError
from bedrock_marengo.search.weights import ANCHORS
from langchain_marengo import (
    MarengoEmbeddings,
    MarengoRetriever,
    Media,
    Query,
    Segment,
    Segmentation,
    add_segments,
    format_moments,
)

CAT = Path(__file__).parents[2] / "marengo_local/marengo_local/reel/cat.jpg"
TRACKS = ("visual", "audio", "transcription")


@pytest.fixture
def documents(local, load):
    """Two files of 12 s, four clips of three tracks each."""
    uris = [local.put(key.encode(), key) for key in ("match.mp4", "final.mp4")]
    return load(uris, segmentation=Segmentation.fixed(3))


@pytest.fixture
def store(embeddings, documents):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, documents)
    return store


@pytest.fixture
def retriever(store, embeddings):
    return MarengoRetriever(vectorstore=store, embeddings=embeddings)


@pytest.fixture
def halved(local, documents):
    """All jobs' outputs as a model with a choice of dimensions would write them: half as long."""
    for item in local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/")["Contents"]:
        if item["Key"].endswith("output.json"):
            output = json.loads(local.s3.get_object(Bucket=local.bucket, Key=item["Key"])["Body"].read())
            for row in output["data"]:
                row["embedding"] = row["embedding"][:256]
            local.s3.put_object(Bucket=local.bucket, Key=item["Key"], Body=json.dumps(output).encode())


def moments(found):
    return [(d.metadata["source"], d.metadata["start_sec"], d.metadata["end_sec"]) for d in found]


def nearest(embeddings, documents, vector, track):
    """Ids of a track's segments by cosine, by numpy alone."""
    candidates = [document for document in documents if document.metadata["embedding_option"] == track]
    vectors = np.array(embeddings.embed_documents([document.page_content for document in candidates]))
    scores = vectors @ np.array(vector) / np.linalg.norm(vectors, axis=1)
    return [candidates[i].id for i in np.argsort(-scores)]


class TestMoments:
    def test_one_hit_for_each_moment_with_each_tracks_rank_and_score(self, retriever):
        found = retriever.invoke("a goal from a corner", k=8)
        assert len(found) == len(set(moments(found))) == 8
        for document in found:
            tracks = document.metadata["tracks"]
            assert set(tracks) == set(TRACKS)
            weights = {"visual": 0.8, "audio": 0.1, "transcription": 0.05}
            score = sum(weights[track] / (60 + hit["rank"]) for track, hit in tracks.items())
            assert document.metadata["score"] == pytest.approx(score)
            segment = Segment.find(document.page_content)
            assert (segment.id, segment.source) == (document.id, document.metadata["source"])
        assert [d.metadata["score"] for d in found] == sorted((d.metadata["score"] for d in found), reverse=True)

    def test_k_counts_moments(self, retriever):
        assert len(retriever.invoke("a goal")) == 5
        assert len(retriever.invoke("a goal", k=2)) == 2

    def test_neighbours_become_one_moment_with_all_its_words(self, local, embeddings, load):
        uri = local.put(b"a match", "match.mp4")
        captions = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nkick off\n\n00:00:07.000 --> 00:00:08.000\ngoal\n"
        store = InMemoryVectorStore(embeddings)
        add_segments(store, load(uri, segmentation=Segmentation.fixed(6), transcripts={uri: captions}))
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, merge_gap_sec=0)
        [moment] = retriever.invoke("a goal")
        assert moments([moment]) == [(uri, 0.0, 12.0)]
        assert moment.page_content.partition("\n")[2] == "match.mp4, 00:00 to 00:12\nkick off\ngoal"

    def test_a_merged_moments_text_gives_its_own_range_and_its_best_segments_vector(self, store, embeddings):
        [moment, _] = MarengoRetriever(vectorstore=store, embeddings=embeddings, merge_gap_sec=0).invoke("a goal")
        assert "#t=0,12&" in moment.page_content
        assert "00:00 to 00:12" in format_moments([moment])
        assert embeddings.embed_documents([moment.page_content]) == [store.store[moment.id]["vector"]]
        del moment.metadata["start_sec"]
        assert "00:00 to 00:12" in format_moments([moment])

    def test_diversity_over_sources(self, retriever):
        found = retriever.invoke("a goal", max_per_source=1)
        assert len({document.metadata["source"] for document in found}) == len(found) == 2

    def test_a_store_for_each_track(self, embeddings, documents, retriever):
        stores = {track: InMemoryVectorStore(embeddings) for track in TRACKS}
        for track, store in stores.items():
            add_segments(store, [d for d in documents if d.metadata["embedding_option"] == track])
        apart = MarengoRetriever(vectorstores=stores, embeddings=embeddings)
        assert moments(apart.invoke("a goal")) == moments(retriever.invoke("a goal"))
        visual = MarengoRetriever(vectorstores={"visual": stores["visual"]}, embeddings=embeddings)
        assert {track for d in visual.invoke("a goal") for track in d.metadata["tracks"]} == {"visual"}

    def test_presets_and_weights_decide(self, retriever, embeddings, documents):
        query = "somebody says goodbye"
        vector = embeddings.embed_query(query)
        for track in TRACKS:
            [first] = retriever.invoke(query, weights={track: 1.0}, k=1)
            assert first.id == nearest(embeddings, documents, vector, track)[0]
        assert len({tuple(moments(retriever.invoke(query, weights=name))) for name in ("visual", "dialogue")}) == 2

    def test_intent_routes_by_the_query(self, retriever, local):
        query = ANCHORS["audio"]
        retriever.invoke(query, weights="intent")
        local.calls.reset()
        collector = RunCollectorCallbackHandler()
        retriever.invoke(query, {"callbacks": [collector]}, weights="intent")
        # The query alone: anchors are embedded once.
        assert local.calls["InvokeModel"] == 1
        weights = collector.traced_runs[0].extra["metadata"]["marengo_weights"]
        assert max(weights, key=weights.get) == "audio"
        assert sum(weights.values()) == pytest.approx(1)

    def test_the_query_is_embedded_once(self, retriever, local):
        local.calls.reset()
        retriever.invoke("a goal")
        assert local.calls["InvokeModel"] == 1

    def test_rows_that_lack_a_key_or_have_one_more_are_found(self, store, retriever):
        before = moments(retriever.invoke("a goal", start_sec=3))
        for row in store.store.values():
            del row["metadata"]["end_sec"], row["metadata"]["media_type"]
            row["metadata"]["confidence"] = 0.5
        assert moments(retriever.invoke("a goal", start_sec=3)) == before

    def test_what_is_found_survives_dumps_and_loads(self, retriever):
        for document in retriever.invoke("a goal"):
            assert loads(dumps(document), allowed_objects=[type(document)]) == document


class TestAnyQuery:
    @pytest.fixture
    def queries(self, local):
        image = Media.from_bytes(CAT.read_bytes())
        return {
            "text": Query(text="a goal"),
            "image": Query(image=CAT),
            "text with image": Query(text="at night", image=image),
            "multi_input": Query(text="<@a> beside <@b>", images={"a": image, "b": CAT}),
            "images": Query(images=[image, CAT]),
            "audio": Query(audio=local.put(b"a song", "song.mp3")),
            "video": Query(video=local.put(b"a clip", "clip.mp4")),
        }

    @pytest.mark.parametrize("kind", ["text", "image", "text with image", "multi_input", "images", "audio", "video"])
    async def test_both_ways(self, retriever, embeddings, documents, queries, kind):
        query = queries[kind]
        vector = embeddings.core.embed_query(query)
        found = retriever.invoke(query, weights={"visual": 1.0})
        assert [d.id for d in found] == nearest(embeddings, documents, vector, "visual")[:5]
        assert await retriever.ainvoke(query, weights={"visual": 1.0}) == found

    def test_a_string_of_a_query_handle(self, retriever, embeddings):
        assert retriever.invoke(embeddings.query_handle(Query(image=CAT))) == retriever.invoke(Query(image=CAT))


class Odd(VectorStore):
    """A store of an unknown class: searches by vector, without scores."""

    def __init__(self, inner):
        self.inner, self.asked = inner, []

    @property
    def embeddings(self):
        return self.inner.embeddings

    @classmethod
    def from_texts(cls, *_, **__):
        raise AssertionError

    def similarity_search(self, query, k=4, **settings):
        return self.similarity_search_by_vector(self.embeddings.embed_query(query), k, **settings)

    def similarity_search_by_vector(self, embedding, k=4, filter=None, **_):  # noqa: A002
        self.asked.append(k)
        return self.inner.similarity_search_by_vector(embedding, k=k, filter=filter)


class Stranger(Odd):
    """One that does not even search by vector."""

    def similarity_search(self, query, k=4, **settings):
        return super().similarity_search_by_vector(self.embeddings.embed_query(query), k, **settings)

    def similarity_search_by_vector(self, *_, **__):
        raise NotImplementedError


class TestUnknownStores:
    @pytest.mark.parametrize("kind", [Odd, Stranger])
    def test_ranks_come_by_asking_for_more(self, kind, store, embeddings, retriever):
        odd = kind(store)
        found = MarengoRetriever(vectorstore=odd, embeddings=embeddings, fetch_k=1, k=1).invoke("a goal")
        # 24 rows of three tracks; one hit and the next of each of five tracks: it widens until the store is exhausted.
        assert odd.asked == [10, 40]
        assert moments(found) == moments(retriever.invoke("a goal", k=1))
        many = MarengoRetriever(vectorstore=odd, embeddings=embeddings).invoke("a goal", fusion="scores")
        for document, known in zip(many, retriever.invoke("a goal", fusion="scores"), strict=True):
            assert document.metadata["score"] == pytest.approx(known.metadata["score"], abs=1e-6)
            assert moments([document]) == moments([known])

    def test_a_user_filter_is_passed_through(self, store, embeddings, documents):
        source = documents[0].metadata["source"]
        retriever = MarengoRetriever(
            vectorstore=Odd(store), embeddings=embeddings, filter=lambda d: d.metadata["source"] == source
        )
        assert {document.metadata["source"] for document in retriever.invoke("a goal")} == {source}

    def test_documents_that_are_not_segments_are_skipped(self, store, embeddings, retriever):
        before = moments(retriever.invoke("a goal"))
        store.add_texts(["a goal", "plain words"])
        assert moments(MarengoRetriever(vectorstore=Odd(store), embeddings=embeddings).invoke("a goal")) == before
        assert moments(retriever.invoke("a goal")) == before


class TestTracing:
    def test_the_run_shows_model_tracks_weights_and_query(self, retriever):
        collector = RunCollectorCallbackHandler()
        retriever.invoke(Query(text="at night", image=CAT), {"callbacks": [collector]}, weights={"visual": 1.0})
        [run] = collector.traced_runs
        metadata = run.extra["metadata"]
        assert metadata["ls_retriever_name"] == "marengo"
        assert metadata["ls_embedding_model"] == "twelvelabs.marengo-embed-3-0-v1:0"
        assert metadata["ls_vector_store_provider"] == "InMemoryVectorStore"
        assert metadata["marengo_weights"] == {"visual": 1.0}
        assert metadata["marengo_tracks"] == ["visual"]
        assert metadata["marengo_fusion"] == "rrf"
        assert run.inputs == {"query": f"at night + {CAT}"}

    def test_a_handler_sees_them_as_the_run_starts(self, retriever):
        class Seen(BaseCallbackHandler):
            def on_retriever_start(self, serialized, query, *, metadata=None, **_):
                self.metadata = dict(metadata)

        seen = Seen()
        retriever.invoke("a goal", {"callbacks": [seen]})
        assert seen.metadata["marengo_weights"] == "visual"
        assert seen.metadata["marengo_tracks"] == [*TRACKS, "fused", "image"]


class TestRefused:
    def test_a_misspelt_setting(self, retriever):
        with pytest.raises(InputError, match="filters"):
            retriever.invoke("a goal", filters={"tenant": "acme"})

    @pytest.mark.parametrize(
        "settings", [{"weights": {"smell": 1}}, {"weights": "sports"}, {"k": 0}, {"start_sec": 9, "end_sec": 3}]
    )
    def test_a_wrong_setting_in_the_constructor_or_in_invoke(self, store, embeddings, retriever, settings):
        with pytest.raises(ValidationError):
            MarengoRetriever(vectorstore=store, embeddings=embeddings, **settings)
        with pytest.raises(InputError):
            retriever.invoke("a goal", **settings)

    def test_no_store_or_two(self, store, embeddings):
        for stores in ({}, {"vectorstore": store, "vectorstores": {"visual": store}}):
            with pytest.raises(ValidationError, match="takes vectorstore="):
                MarengoRetriever(embeddings=embeddings, **stores)

    def test_a_store_that_mixes_models_of_one_dimension(self, store, retriever):
        for row in list(store.store.values())[:3]:
            row["metadata"]["model_id"] = "twelvelabs.marengo-embed-9-0-v1:0"
        with pytest.raises(ConfigurationError, match="marengo-embed-9-0"):
            retriever.invoke("a goal")

    def test_a_store_of_another_length_of_one_model(self, store, local, halved):
        for row in store.store.values():
            row["vector"] = row["vector"][:256]
        # A new process, which has read no job's output yet.
        other = MarengoRetriever(vectorstore=store, embeddings=MarengoEmbeddings(**local.client_options))
        with pytest.raises(ConfigurationError, match=r"This InMemoryVectorStore .* 256 dimensions.*512"):
            other.invoke("a goal")

    def test_a_filter_that_fails_is_the_users_own_error(self, retriever):
        with pytest.raises(KeyError, match="tenant"):
            retriever.invoke("a goal", filter=lambda document: document.metadata["tenant"] == "acme")
