"""The programs of docs/ray.md on a cluster that loses a node: each file once in the result, no job twice."""

import re
import threading
from pathlib import Path

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from llama_index_marengo import MarengoEmbedding, MarengoReader

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs/ray.md"
PROGRAMS = {
    match["title"]: match["code"]
    for match in re.finditer(
        r"^## (?P<title>[^\n]*)\n(?:(?!^## ).)*?^```python\n(?P<code>import.*?)^```$", DOCS.read_text(), re.M | re.S
    )
}


@pytest.fixture
def run(cluster, local, request):
    """Runs a program of the page in this bucket, on this cluster, in batches of 3."""

    def run(title):
        code = PROGRAMS[title]
        ours = {
            "32": "3",
            "(size=4)": "(size=3)",
            'ray.init("auto")': "",
            "(jobs_at_once=20)": "(jobs_at_once=5, lease_sec=3)",
            "s3://bucket/": f"s3://{local.bucket}/",
        }
        if "chroma.internal" in code:
            ours['"chroma.internal", 8000'] = f'"127.0.0.1", {request.getfixturevalue("chroma_port")}'
        for theirs, value in ours.items():
            assert theirs in code
            code = code.replace(theirs, value)
        # Classes of __main__ go to workers by value.
        names = {"__name__": "__main__"}
        exec(compile(code, DOCS, "exec"), names)
        return names

    return run


@pytest.fixture
def dying(local, kill_node, until):
    """A node that dies once eight jobs have started."""

    def die():
        until(lambda: len(local.jobs) >= 8)
        kill_node()

    thread = threading.Thread(target=die)
    thread.start()
    yield thread
    thread.join()


def parquet(names, local):
    """The sources and IDs of all rows."""
    import pyarrow.parquet as pq

    rows = pq.read_table(f"s3://{local.bucket}/segments/").to_pylist()
    assert {len(row["vector"]) for row in rows} == {512}
    return [(row["source"], row["start_sec"], row["embedding_option"], row["embedding_scope"]) for row in rows]


def chroma(names, local):
    import chromadb

    store = names["Load"]().store
    assert isinstance(store._client, chromadb.api.client.Client)
    found = store.get()
    assert names["added"] == len(found["ids"])
    return list(zip([row["source"] for row in found["metadatas"]], found["ids"], strict=True))


def nodes(names, local):
    """As this process makes them, from the jobs of the workers."""
    segmenter = names["MarengoSegmenter"](**names["settings"], fused="only")
    expected, found = ({node.id_: node for node in nodes} for nodes in (segmenter(names["media"]), names["nodes"]))
    assert found.keys() == expected.keys()
    for key, node in found.items():
        assert node.embedding == expected[key].embedding
        assert node.metadata == expected[key].metadata
        assert node.relationships == expected[key].relationships
    index = VectorStoreIndex(names["nodes"], embed_model=segmenter.embed_model)
    assert len(index.as_retriever(similarity_top_k=6).retrieve("a goal")) == 6
    return [(node.metadata["source"], node.id_) for node in names["nodes"]]


# Of a file: 2 clips on 3 tracks, and with the core's defaults also the whole file.
RESULTS = [("Without a framework", parquet, 9), ("LangChain", chroma, 6), ("LlamaIndex", nodes, 2)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("title", "result", "segments"), RESULTS)
def test_each_file_is_once_in_the_result_though_a_node_dies(
    local, run, peaks, videos, dying, cluster, title, result, segments
):
    rows = result(run(title), local)
    assert not dying.is_alive() and len(cluster.worker_nodes) == 1
    assert len(rows) == len(set(rows)) == 24 * segments
    assert {row[0] for row in rows} == {f"{videos}{i:02}.mp4" for i in range(24)}
    assert len(local.jobs) == 24 and max(peaks) <= 5


def test_the_page_has_a_program_for_each():
    assert list(PROGRAMS) == ["Without a framework", "LangChain", "LlamaIndex"]


def test_a_docstore_works_before_the_pipeline_and_not_in_it(local, cluster, videos):
    from llama_index.ingestion.ray import RayIngestionPipeline

    # No transformations: Ray alone is at fault. Ours runs above.
    reader = MarengoReader(videos, embed_model=MarengoEmbedding(**local.client_options), limit=3)
    docstore, pipeline = SimpleDocumentStore(), RayIngestionPipeline(transformations=[])
    for document in pipeline.run(documents=reader.load_data()):
        docstore.set_document_hash(document.id_, document.hash)
    local.put(b"another cut", "videos/00.mp4")
    changed = [d for d in reader.load_data() if docstore.get_document_hash(d.id_) != d.hash]
    assert [document.id_ for document in changed] == [f"{videos}00.mp4"]
    broken = RayIngestionPipeline(transformations=[], docstore=docstore, vector_store=SimpleVectorStore())
    with pytest.raises(TypeError, match="effective_strategy"):
        broken.run(documents=changed)
