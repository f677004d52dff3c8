"""MarengoSegmenter inside RayIngestionPipeline: the program of docs/ray.md, on a local Ray instead of a cluster."""

import os
import re
from pathlib import Path

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs/ray.md"


@pytest.fixture(scope="module")
def ray():
    """Imported here: every worker collects this file, and only one runs it."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("llama_index.ingestion.ray", reason="the extra `ray` is not installed")
    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(local, ray):
    """A local Ray, whose workers inherit the environment and in it the fixture's endpoints and credentials."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)


@pytest.fixture
def program(local):
    """The first block of the page, in this bucket, without the cluster and with one actor instead of four."""
    code = re.search(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]
    ours = {"s3://bucket/": f"s3://{local.bucket}/", 'ray.init("auto")': "", "(size=4)": "(size=1)"}
    for theirs, value in ours.items():
        assert theirs in code
        code = code.replace(theirs, value)
    return compile(code, DOCS, "exec")


@pytest.fixture
def videos(local):
    for name in ("a", "b", "c"):
        local.put(name.encode(), f"videos/{name}.mp4")
    return f"s3://{local.bucket}/videos/"


def test_segments_come_back_with_their_vectors_and_a_second_run_pays_nothing(
    local, embed_model, segment, cluster, videos, program
):
    names = {}
    exec(program, names)
    nodes = {node.id_: node for node in names["nodes"]}
    assert local.calls["StartAsyncInvoke"] == 3
    expected = {node.id_: node for node in segment(videos, fused="only")}
    assert local.calls["StartAsyncInvoke"] == 3, "this process finds what the workers did"
    assert nodes.keys() == expected.keys()
    for key, node in nodes.items():
        assert node.embedding == expected[key].embedding
        assert node.metadata == expected[key].metadata
        assert node.relationships == expected[key].relationships
    index = VectorStoreIndex(list(nodes.values()), embed_model=embed_model)
    assert len(index.as_retriever(similarity_top_k=6).retrieve("a goal")) == 6


def test_a_docstore_works_before_the_pipeline_and_not_in_it(local, read, cluster, videos):
    from llama_index.ingestion.ray import RayIngestionPipeline

    # No transformations: Ray alone is at fault. Ours runs above.
    docstore, pipeline = SimpleDocumentStore(), RayIngestionPipeline(transformations=[])
    for document in pipeline.run(documents=read(videos)):
        docstore.set_document_hash(document.id_, document.hash)
    local.put(b"another cut", "videos/a.mp4")
    changed = [d for d in read(videos) if docstore.get_document_hash(d.id_) != d.hash]
    assert [document.id_[-5:] for document in changed] == ["a.mp4"]
    broken = RayIngestionPipeline(transformations=[], docstore=docstore, vector_store=SimpleVectorStore())
    with pytest.raises(TypeError, match="effective_strategy"):
        broken.run(documents=changed)
