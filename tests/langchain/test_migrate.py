"""From 2.7 to 3.0: planned, embedded again, counted, switched; 2.7 is never called."""

import uuid

import chromadb
import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from bedrock_marengo import ConfigurationError, MediaFailedError, ServiceError
from bedrock_marengo.contract.models import MODELS
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments
from langchain_marengo.migrate import amigrate, inventory, migrate
from marengo_local import Fault

OLD, NEW = MODELS["2.7"].model_id, MODELS["3.0"].model_id


@pytest.fixture
def uris(local):
    return [local.put(key.encode(), key) for key in ("match.mp4", "song.mp3", "still.jpg")]


@pytest.fixture
def old(local, uris):
    """A store of 2.7, as it was left: three files of two tenants, and a row that is not a segment."""
    embeddings = MarengoEmbeddings(**local.client_options | {"model_id": "2.7"})
    store = InMemoryVectorStore(embeddings)
    loader = MarengoLoader(
        uris,
        embeddings=embeddings,
        metadata=lambda source: {"tenant": "acme" if source.endswith("mp4") else "globex"},
        show_progress=False,
    )
    add_segments(store, loader.lazy_load())
    store.store["note"] = {"id": "note", "vector": [0.0] * 1024, "text": "a note", "metadata": {}}
    local.calls.reset()
    return store


@pytest.fixture
def new(embeddings):
    return Chroma(
        f"new-{uuid.uuid4()}",
        embeddings,
        client=chromadb.EphemeralClient(),
        collection_configuration={"hnsw": {"space": "cosine"}},
    )


def calls_of(local, model_id):
    calls = [*local.calls.of("InvokeModel"), *local.calls.of("StartAsyncInvoke")]
    return [call for call in calls if model_id in call.model_id]


def test_a_dry_run_counts_and_calls_nothing(local, old, new, embeddings, uris):
    prices = {"video": 0.01, "audio": 0.001, "image": 0.0001}
    moved = migrate(old, new, embeddings=embeddings, dry_run=True, cost=lambda kind, s: prices[kind] * (s or 1))
    assert set(moved.plan.todo) == set(uris)
    assert moved.plan.seconds == {"video": 12.0, "audio": 12.0, "image": 0.0}
    assert moved.plan.cost == pytest.approx(0.12 + 0.012 + 0.0001)
    assert "1 video (12 s)" in str(moved.plan)
    assert "pass cost=" in str(migrate(old, new, embeddings=embeddings, dry_run=True).plan)
    assert not calls_of(local, "marengo")
    assert not inventory(new).models


def test_what_a_store_holds_by_model(old):
    held = inventory(old)
    assert set(held.models) == {OLD}
    assert held.other == 1
    assert f"{OLD}: {len(old.store) - 1} segments of 3 sources" in str(held)


def test_all_sources_are_embedded_again_counted_and_switched(local, old, new, embeddings, uris):
    served = [old]

    def switch(store):
        served[:] = [store]

    moved = migrate(old, new, embeddings=embeddings, switch=switch, show_progress=False)
    assert moved.switched
    assert served == [new]
    assert not moved.failed
    assert not moved.wrong
    held = inventory(new).of(NEW)
    assert {source: holding.segments for source, holding in held.items()} == moved.added
    assert {holding.user_fields["tenant"] for holding in held.values()} == {"acme", "globex"}
    assert not calls_of(local, OLD)
    found = MarengoRetriever(vectorstore=new, embeddings=embeddings).invoke("a goal", filter={"tenant": "acme"})
    assert {document.metadata["source"] for document in found} == {uris[0]}


@pytest.fixture
def ended(local, old):
    """AWS has ended 2.7 after the old store was filled."""
    said = "This model version has reached the end of its life. Please refer to the AWS documentation for more details."
    local.faults = [
        Fault(op, error="ResourceNotFoundException", message=said, when=lambda call: OLD in call.model_id)
        for op in ("InvokeModel", "StartAsyncInvoke")
    ]
    return local.faults


async def test_2_7_may_have_ended(ended, old, new, embeddings, uris):
    assert migrate(old, new, embeddings=embeddings, dry_run=True).plan.todo.keys() == set(uris)
    moved = await amigrate(old, new, embeddings=embeddings, switch=lambda store: None, show_progress=False)
    assert moved.switched
    assert MarengoRetriever(vectorstore=new, embeddings=embeddings).invoke("a goal")
    assert not any(fault.hits for fault in ended)


def test_what_a_store_of_2_7_still_does_after_its_end(ended, old, uris):
    with pytest.raises(ServiceError, match=r"end of its life.*model='3\.0'"):
        old.similarity_search("a goal")
    rows = [row for row in old.store.values() if row["text"] != "a note"]
    assert old.embeddings.embed_documents([row["text"] for row in rows]) == [row["vector"] for row in rows]
    assert old.similarity_search_by_vector(rows[0]["vector"], k=1)[0].page_content == rows[0]["text"]


def test_a_qdrant_collection_of_2_7_opens_without_a_call(ended, old, new, embeddings):
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=1024, distance=models.Distance.COSINE)
    client.create_collection("old", vectors_config=size)
    store = QdrantVectorStore(client, "old", old.embeddings, validate_collection_config=False)
    add_segments(
        store, [Document(row["text"], metadata=row["metadata"]) for row in old.store.values() if row["metadata"]]
    )
    assert migrate(store, new, embeddings=embeddings, switch=lambda _: None, show_progress=False).switched
    assert not any(fault.hits for fault in ended)


async def test_run_again_it_pays_nothing(local, old, new, embeddings):
    migrate(old, new, embeddings=embeddings, show_progress=False)
    local.calls.reset()
    again = await amigrate(old, new, embeddings=embeddings, show_progress=False, switch=lambda store: None)
    assert again.switched
    assert set(again.plan.there) == set(again.plan.todo)
    assert again.plan.seconds == {}
    assert not calls_of(local, "marengo")


def test_a_run_that_was_cut_off_is_made_whole(local, old, new, embeddings):
    migrate(old, new, embeddings=embeddings, show_progress=False)
    whole = inventory(new)
    new.delete(new.get()["ids"][:3])
    assert inventory(new) != whole
    migrate(old, new, embeddings=embeddings, show_progress=False)
    assert inventory(new) == whole


def test_one_that_fails_stops_the_switch_not_the_others(local, old, new, embeddings, uris):
    local.faults = [Fault("StartAsyncInvoke", error="ValidationException", when=lambda call: "song" in str(call.body))]
    switched = []
    moved = migrate(old, new, embeddings=embeddings, switch=switched.append, on_error="skip", show_progress=False)
    assert set(moved.failed) == {uris[1]}
    assert set(inventory(new).of(NEW)) == {uris[0], uris[2]}
    assert not moved.switched
    with pytest.raises(MediaFailedError, match=r"song\.mp3"):
        migrate(old, new, embeddings=embeddings, switch=switched.append, show_progress=False)
    assert switched == []


def test_a_store_that_loses_rows_is_not_switched_to(old, embeddings):
    class Leaky(InMemoryVectorStore):
        def add_documents(self, documents, ids=None, **settings):
            return super().add_documents(documents[1:], ids=ids[1:], **settings)

    new, switched = Leaky(embeddings), []
    with pytest.raises(MediaFailedError, match=r"were added and the new store holds"):
        migrate(old, new, embeddings=embeddings, switch=switched.append, show_progress=False)
    assert switched == []


def test_the_new_store_must_hold_no_other_model(old, embeddings):
    with pytest.raises(ConfigurationError, match="use a separate store"):
        migrate(old, old, embeddings=embeddings)
