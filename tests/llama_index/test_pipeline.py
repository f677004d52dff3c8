"""IngestionPipeline with a docstore, a cache, processes and asyncio; indexes; rebuilding one from a docstore."""

import asyncio
from pathlib import Path

import chromadb
import pytest
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.schema import ImageNode, MetadataMode, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.chroma import ChromaVectorStore

from bedrock_marengo import ConfigurationError
from llama_index_marengo import MarengoEmbedding, MarengoSegmenter

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
CAT = REEL / "cat.jpg"


def bedrock_calls(local):
    return local.calls["InvokeModel"] + local.calls["StartAsyncInvoke"] + local.calls["GetAsyncInvoke"]


@pytest.fixture
def videos(local):
    for name in ("a", "b"):
        local.put(name.encode(), f"videos/{name}.mp4")
    return f"s3://{local.bucket}/videos/"


@pytest.fixture
def store():
    client = chromadb.EphemeralClient()
    client.delete_collection("videos") if "videos" in [c.name for c in client.list_collections()] else None
    return ChromaVectorStore(client.create_collection("videos"))


class TestDocstore:
    @pytest.fixture
    def run(self, embed_model, read, videos, store):
        docstore = SimpleDocumentStore()

        def run(how="run", **settings):
            # Without a cache, so that the docstore alone decides.
            pipeline = IngestionPipeline(
                transformations=[MarengoSegmenter(embed_model=embed_model), embed_model],
                docstore=docstore,
                vector_store=store,
                docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
                disable_cache=True,
            )
            if how == "run":
                return pipeline.run(documents=read(videos), **settings)
            return asyncio.run(pipeline.arun(documents=read(videos), **settings))

        return run

    def jobs(self, store):
        """Source's name -> jobs of what the store holds of it, with the number of rows."""
        rows = store._collection.get()["metadatas"]
        return {(row["source"][-5:], row["job_id"]) for row in rows}, len(rows)

    @pytest.mark.parametrize("how", ["run", "arun"])
    def test_skipped_replaced_and_removed(self, local, run, store, videos, how):
        assert len(run(how)) == 12
        first, count = self.jobs(store)
        assert ({name for name, _ in first}, count) == ({"a.mp4", "b.mp4"}, 12)

        local.calls.reset()
        assert run(how) == []
        assert bedrock_calls(local) == 0

        local.put(b"the second cut of a", "videos/a.mp4")
        nodes = run(how)
        second, count = self.jobs(store)
        assert {node.metadata["source"][-5:] for node in nodes} == {"a.mp4"}
        assert ({name for name, _ in second}, count) == ({"a.mp4", "b.mp4"}, 12)
        assert len(first & second) == 1
        assert local.calls["StartAsyncInvoke"] == 1

        local.s3.delete_object(Bucket=local.bucket, Key="videos/b.mp4")
        assert run(how) == []
        assert self.jobs(store)[1] == 6
        assert local.calls["StartAsyncInvoke"] == 1


class TestCache:
    def test_an_unchanged_medium_comes_from_it_with_its_vectors(self, local, embed_model, read, match, tmp_path):
        def run(cache, embed_model):
            steps = [MarengoSegmenter(embed_model=embed_model), embed_model]
            return IngestionPipeline(transformations=steps, cache=cache).run(documents=read(match))

        cache = IngestionCache()
        nodes = run(cache, embed_model)
        cache.persist(str(tmp_path / "cache.json"))
        local.calls.reset()
        # Other concurrency, the same results: the same key.
        other = MarengoEmbedding(max_concurrency=3, **local.client_options)
        again = run(IngestionCache.from_persist_path(str(tmp_path / "cache.json")), other)
        assert [node.embedding for node in again] == [node.embedding for node in nodes]
        assert bedrock_calls(local) == local.calls["s3:GetObject"] == 0

        local.put(b"another cut", "match.mp4")
        assert run(cache, embed_model)[0].id_ != nodes[0].id_


@pytest.mark.slow
class TestProcesses:
    def test_two_workers(self, local, embed_model, read, segment, videos):
        pipeline = IngestionPipeline(transformations=[MarengoSegmenter(embed_model=embed_model), embed_model])
        texts = [TextNode(text="a dog"), TextNode(text="a cat")]
        nodes = pipeline.run(documents=[*read(videos), *texts], num_workers=2)
        assert len(nodes) == 14
        expected = {node.id_: node.embedding for node in segment(videos)}
        expected |= {node.id_: embed_model.get_text_embedding(node.text) for node in texts}
        assert {node.id_: node.embedding for node in nodes} == expected
        assert local.calls["StartAsyncInvoke"] == 2

    def test_a_client_of_ones_own_raises_in_place_of_getting_lost(self, local, embed_model):
        own = MarengoEmbedding(client=embed_model.core._runtime.aws.bedrock, bucket_owner=local.account_id)
        with pytest.raises(ConfigurationError, match="can't be pickled"):
            IngestionPipeline(transformations=[own]).run(nodes=[TextNode(text="a dog")], num_workers=2)


class TestIndexes:
    def test_a_changed_medium_is_refreshed_and_a_deleted_one_removed(self, local, embed_model, read, match):
        segmenter = MarengoSegmenter(embed_model=embed_model)
        index = VectorStoreIndex.from_documents(read(match), embed_model=embed_model, transformations=[segmenter])
        before = set(index.docstore.docs)
        local.put(b"another cut", "match.mp4")
        assert index.refresh_ref_docs(read(match), delete_kwargs={"delete_from_docstore": True}) == [True]
        assert len(index.docstore.docs) == 6
        assert not before & set(index.docstore.docs)
        index.delete_ref_doc(match, delete_from_docstore=True)
        assert index.docstore.docs == {}

    def test_rebuilt_from_docstore_nodes_each_has_its_own_vector(self, local, embed_model, segment, match, tmp_path):
        nodes = segment(match)
        index = VectorStoreIndex(nodes, embed_model=embed_model)
        index.storage_context.persist(str(tmp_path))
        kept = list(SimpleDocumentStore.from_persist_dir(str(tmp_path)).docs.values())
        assert {node.embedding for node in kept} == {None}
        local.calls.reset()
        fresh = MarengoEmbedding(**local.client_options)
        again = VectorStoreIndex(kept, embed_model=fresh)
        vectors = again.vector_store.data.embedding_dict
        assert vectors == {node.id_: node.embedding for node in nodes}
        assert bedrock_calls(local) == 0

    def test_with_the_global_model(self, embed_model, segment, match, monkeypatch):
        monkeypatch.setattr(Settings, "_embed_model", None)
        Settings.embed_model = embed_model
        assert len(VectorStoreIndex(segment(match)).as_retriever().retrieve("a goal")) == 2

    def test_multi_modal(self, local, segment, match):
        embed_model = MarengoEmbedding(local_root=REEL, **local.client_options)
        image = ImageNode(image_path=str(CAT), metadata={"title": "a cat"})  # without any the index drops it
        index = MultiModalVectorStoreIndex(
            [*segment(match), image],
            embed_model=embed_model,
            image_embed_model=embed_model,
            storage_context=StorageContext.from_defaults(),
        )
        retriever = index.as_retriever(similarity_top_k=2, image_similarity_top_k=1)
        assert [hit.node.id_ for hit in retriever.text_to_image_retrieve("a cat")] == [image.id_]
        assert [hit.node.id_ for hit in retriever.image_to_image_retrieve(str(CAT))] == [image.id_]
        assert {hit.node.metadata["source"] for hit in retriever.text_retrieve("a goal")} == {match}


def test_an_extractor_between_does_not_cost_a_segment_its_vector(local, embed_model, segment, match):
    # Metadata added later are not excluded from the text to embed.
    nodes = segment(match)
    expected = [node.embedding for node in nodes]
    for node in nodes:
        node.metadata["document_title"] = "The final"
        node.embedding = None
    assert nodes[0].get_content(MetadataMode.EMBED).startswith("document_title")
    local.calls.reset()
    IngestionPipeline(transformations=[embed_model]).run(nodes=nodes)
    assert [node.embedding for node in nodes] == expected
    assert bedrock_calls(local) == 0
