"""LlamaIndex deletes before it adds: what two pipelines, and one that fails, leave of a source."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.bridge.pydantic import ConfigDict
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from bedrock_marengo import MarengoError
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter, SegmentDocumentStore
from marengo_local import Fault

pytestmark = pytest.mark.promise("Replacing a source never leaves none of its segments")


@pytest.fixture
def embed_model(local):
    return MarengoEmbedding(**local.client_options)


@pytest.fixture
def segmenter(embed_model):
    return MarengoSegmenter(embed_model=embed_model, options=["visual"])


@pytest.fixture
def read(local, embed_model):
    """The Documents of a video with these bytes."""
    return lambda data: MarengoReader(local.put(data, "match.mp4"), embed_model=embed_model).load_data()


class Wait(TransformComponent):
    """After the segments of each pipeline, until both have theirs."""

    both: threading.Barrier

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def __call__(self, nodes, **kwargs):
        self.both.wait(20)
        return nodes


class TestPipelines:
    @pytest.fixture
    def store(self):
        return SimpleVectorStore()

    @pytest.fixture
    def run(self, segmenter, store):
        docstore = SimpleDocumentStore()

        def run(documents, *steps):
            settings = {"docstore_strategy": DocstoreStrategy.UPSERTS, "disable_cache": True}
            pipeline = IngestionPipeline(
                transformations=[segmenter, *steps], docstore=docstore, vector_store=store, **settings
            )
            return {node.id_ for node in pipeline.run(documents=documents)}

        return run

    def left(self, store):
        return set(store.data.embedding_dict)

    def test_two_at_once_leave_the_segments_of_the_file_as_it_is(self, run, read, store):
        run(read(b"the first cut"))
        both, old, new = threading.Barrier(2), read(b"the second cut"), read(b"the third cut")
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(run, documents, Wait(both=both)) for documents in (old, new)]
            added = [future.result() for future in runs]
        # The segmenter embeds the file as it is now, however old its Document.
        assert added[0] == added[1] == self.left(store)
        assert run(read(b"the last cut")) == self.left(store)

    def test_one_that_embeds_first_keeps_the_old_segments_if_a_job_fails(self, local, run, read, segmenter, store):
        old = run(read(b"the first cut"))
        new = read(b"the second cut")
        local.faults = [Fault("StartAsyncInvoke", error="ValidationException")]
        with pytest.raises(MarengoError):
            segmenter(new)
        assert self.left(store) == old
        local.faults = []
        segmenter(new)
        local.calls.reset()
        assert run(new) == self.left(store)
        assert local.calls["StartAsyncInvoke"] == 0

    def test_one_that_fails_is_made_whole_by_the_next_run(self, local, run, read, store):
        run(read(b"the first cut"))
        new = read(b"the second cut")
        local.faults = [Fault("StartAsyncInvoke", error="ValidationException", times=1)]
        with pytest.raises(MarengoError):
            run(new)
        assert run(new) == self.left(store)


def test_no_node_of_a_docstore_that_threads_share_belongs_to_no_source():
    """Such a node would stay when its source is removed."""
    store = SegmentDocumentStore()

    def node(source, name):
        related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
        return TextNode(id_=f"{source} {name}", text=name, relationships=related)

    def work(writer):
        for source in map(str, range(200)):
            for i in range(3):
                store.add_documents([node(source, f"{writer} {i}")])
            if writer == 0:
                store.delete_document(f"{source} 0 0", raise_error=False)
            if writer == 1:
                store.delete_ref_doc(source, raise_error=False)

    every = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(every)
    of_sources = [key for info in (store.get_all_ref_doc_info() or {}).values() for key in info.node_ids]
    assert sorted(of_sources) == sorted(store.docs)
