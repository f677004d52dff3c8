"""Videos without captions to an answer: reader and segmenter into Chroma, then LlamaIndex' own query engine."""

import uuid

import chromadb
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.vector_stores.chroma import ChromaVectorStore

from bedrock_marengo import Pegasus, Transcribe
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter

from ..films import talking_films


@pytest.fixture(params=["S3", "folder"])
def source(request, local, tmp_path):
    return talking_films(local, tmp_path, on_s3=request.param == "S3")


@pytest.mark.parametrize("per", ["video", "segment"])
def test_a_folder_of_videos_to_an_answer(local, source, per):
    prompts = []

    class Llm(MockLLM):
        def complete(self, prompt, *args, **kwargs):
            prompts.append(prompt)
            return super().complete(prompt, *args, **kwargs)

    def nodes():
        model = MarengoEmbedding(**local.client_options)
        given = {"transcripts": Transcribe(), "descriptions": Pegasus(per=per), "fused": "only"}
        return model, MarengoSegmenter(embed_model=model, **given)(MarengoReader(source, embed_model=model).load_data())

    model, segments = nodes()
    client = chromadb.EphemeralClient()
    collection = client.create_collection(f"moments-{uuid.uuid4()}")
    storage = StorageContext.from_defaults(vector_store=ChromaVectorStore(collection))
    index = VectorStoreIndex(segments, storage_context=storage, embed_model=model)
    engine = RetrieverQueryEngine.from_args(index.as_retriever(similarity_top_k=9), llm=Llm())
    found = engine.query("When is the goal?").source_nodes
    client.delete_collection(collection.name)
    assert len({one.metadata["source"] for one in found}) == 2
    for one in found:
        _, place, said, seen = one.text.splitlines()
        assert place.startswith(("first.mp4, 00:", "second.mp4, 00:")) and said.startswith("Said: ")
        assert seen.startswith("Seen: A ") and one.text in prompts[0]

    # Again, with a client of its own: no service is called.
    before = len(local.jobs), local.usage.transcribe_jobs, local.usage.pegasus_calls
    assert before[:2] == (2, 2)
    assert {one.id_: one.text for one in nodes()[1]} == {one.id_: one.text for one in segments}
    assert (len(local.jobs), local.usage.transcribe_jobs, local.usage.pegasus_calls) == before
