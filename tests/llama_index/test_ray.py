"""MarengoSegmenter inside RayIngestionPipeline, on a local Ray. docs/ray.md shows the same on a cluster."""

import os

import pytest

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("llama_index.ingestion.ray", reason="the extra `ray` is not installed")

from llama_index.core import VectorStoreIndex  # noqa: E402
from llama_index.core.storage.docstore import SimpleDocumentStore  # noqa: E402
from llama_index.core.vector_stores import SimpleVectorStore  # noqa: E402
from llama_index.ingestion.ray import RayIngestionPipeline, RayTransformComponent  # noqa: E402

from llama_index_marengo import MarengoSegmenter  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _end_of_ray():
    yield
    ray.shutdown()


@pytest.fixture
def settings(local):
    """What workers get: where things are, and no credentials, which each finds by itself."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not ray.is_initialized():
        # The workers inherit the environment, and in it the fixture's credentials.
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    return {k: v for k, v in local.client_options.items() if not k.startswith("aws_")}


@pytest.fixture
def videos(local):
    for name in ("a", "b", "c"):
        local.put(name.encode(), f"videos/{name}.mp4")
    return f"s3://{local.bucket}/videos/"


def test_segments_come_back_with_their_vectors_and_a_second_run_pays_nothing(
    local, embed_model, read, segment, settings, videos
):
    batches = {"batch_size": 2, "compute": ray.data.ActorPoolStrategy(size=1)}
    segmenter = RayTransformComponent(MarengoSegmenter, batches, {**settings, "options": ["visual"]})
    pipeline = RayIngestionPipeline(transformations=[segmenter])
    nodes = {node.id_: node for node in pipeline.run(documents=read(videos))}
    assert local.calls["StartAsyncInvoke"] == 3
    expected = {node.id_: node for node in segment(videos, options=["visual"])}
    assert local.calls["StartAsyncInvoke"] == 3, "this process finds what the workers did"
    assert nodes.keys() == expected.keys()
    for key, node in nodes.items():
        assert node.embedding == expected[key].embedding
        assert node.metadata == expected[key].metadata
        assert node.relationships == expected[key].relationships
    index = VectorStoreIndex(list(nodes.values()), embed_model=embed_model)
    assert len(index.as_retriever(similarity_top_k=6).retrieve("a goal")) == 6


def test_a_docstore_works_before_the_pipeline_and_not_in_it(local, read, settings, videos):
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
