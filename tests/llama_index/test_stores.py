"""Vectors and metadata come through each store as they went in, persisted and reloaded too."""

import chromadb
import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

# What a store keeps of a vector, as list.
VECTORS = {
    "simple": lambda store, key: store.get(key),
    "chroma": lambda store, key: store._collection.get([key], include=["embeddings"])["embeddings"][0],
    "qdrant": lambda store, key: store.client.retrieve("segments", [key], with_vectors=True)[0].vector,
    "lancedb": lambda store, key: store.table.search().where(f"id = '{key}'").to_list()[0]["vector"],
}


def open_store(name, folder):
    """A store in a folder, opened again."""
    if name == "simple":
        return SimpleVectorStore()
    if name == "chroma":
        client = chromadb.PersistentClient(str(folder))
        return ChromaVectorStore(client.get_or_create_collection("segments", metadata={"hnsw:space": "cosine"}))
    if name == "qdrant":
        return QdrantVectorStore("segments", client=QdrantClient(path=str(folder)))
    return LanceDBVectorStore(uri=str(folder), table_name="segments")


def close(store):
    if isinstance(store, QdrantVectorStore):
        store.client.close()


@pytest.mark.parametrize("name", VECTORS)
def test_a_store_keeps_vectors_and_metadata(local, embed_model, segment, match, tmp_path, name):
    nodes = {node.id_: node for node in segment(match)}
    local.calls.reset()
    store = open_store(name, tmp_path)
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(list(nodes.values()), storage_context=context, embed_model=embed_model)
    check(index, nodes, name)
    if name == "simple":
        context.persist(str(tmp_path))
        index = load_index_from_storage(
            StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=embed_model
        )
    else:
        close(store)
        store = open_store(name, tmp_path)
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    check(index, nodes, name)
    assert len(local.calls) == 0, "neither adding nor reloading nor searching by a vector asks Bedrock or S3"
    close(store)


def check(index, nodes, name):
    for key, node in nodes.items():
        vector = VECTORS[name](index.vector_store, key)
        # Chroma and Qdrant scale to length 1 for cosine.
        np.testing.assert_allclose(unit(vector), unit(node.embedding), atol=1e-6)
        [hit] = index.as_retriever(similarity_top_k=1).retrieve(QueryBundle("", embedding=node.embedding))
        found = hit.node
        assert (found.id_, found.text, found.metadata) == (key, node.text, node.metadata)
        assert found.ref_doc_id == node.ref_doc_id
        assert (found.prev_node, found.next_node) == (node.prev_node, node.next_node)
        assert found.excluded_embed_metadata_keys == node.excluded_embed_metadata_keys


def unit(vector):
    return np.asarray(vector) / np.linalg.norm(vector)
