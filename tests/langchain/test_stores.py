"""Segments in any store: each with Marengo's own vector, once, and nothing embedded as text."""

import asyncio
import pickle
import subprocess
import sys
from pathlib import Path

import chromadb
import faiss
import numpy as np
import pytest
from langchain_chroma import Chroma
from langchain_classic.retrievers.document_compressors import EmbeddingsFilter
from langchain_classic.storage import InMemoryStore, create_kv_docstore
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import FakeEmbeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore
from langchain_text_splitters import CharacterTextSplitter, MarkdownTextSplitter, RecursiveCharacterTextSplitter
from qdrant_client import QdrantClient, models

from bedrock_marengo import ConfigurationError, InputError
from langchain_marengo import MarengoEmbeddings, MarengoLoader, Query, Segment, aadd_segments, add_segments

CAT = Path(__file__).parents[2] / "marengo_local/marengo_local/reel/cat.jpg"


class InMemory:
    def make(self, embeddings):
        return InMemoryVectorStore(embeddings)

    def from_documents(self, documents, embeddings):
        return InMemoryVectorStore.from_documents(documents, embeddings)

    def rows(self, store):
        return {key: row["vector"] for key, row in store.store.items()}


class ChromaStore:
    def make(self, embeddings):
        # Chroma's in-process client is one for all: a name of its own keeps tests apart.
        return Chroma(f"test-{id(self)}", embeddings, client=chromadb.EphemeralClient())

    def from_documents(self, documents, embeddings):
        return Chroma.from_documents(documents, embeddings, collection_name=f"from-{id(self)}")

    def rows(self, store):
        found = store.get(include=["embeddings"])
        return dict(zip(found["ids"], found["embeddings"], strict=True))


class Faiss:
    def make(self, embeddings):
        return FAISS(embeddings, faiss.IndexFlatL2(512), InMemoryDocstore(), {})

    def from_documents(self, documents, embeddings):
        return FAISS.from_documents(documents, embeddings)

    def rows(self, store):
        return {key: store.index.reconstruct(row) for row, key in store.index_to_docstore_id.items()}


class Qdrant:
    def make(self, embeddings):
        client = QdrantClient(":memory:")
        # Dot product: with cosine Qdrant keeps scaled vectors, and here they are to be seen as they came.
        client.create_collection("test", models.VectorParams(size=512, distance=models.Distance.DOT))
        return QdrantVectorStore(client, "test", embeddings, distance=models.Distance.DOT)

    def from_documents(self, documents, embeddings):
        return QdrantVectorStore.from_documents(
            documents, embeddings, location=":memory:", collection_name="test", distance=models.Distance.DOT
        )

    def rows(self, store):
        points, _ = store.client.scroll(store.collection_name, limit=1000, with_vectors=True)
        return {str(point.id): point.vector for point in points}


@pytest.fixture(params=[InMemory, ChromaStore, Faiss, Qdrant])
def kind(request):
    return request.param()


@pytest.fixture
def uri(local):
    return local.put(b"a match", "match.mp4")


def own_rows(embeddings, uri):
    """What the job itself says: id -> vector."""
    found = embeddings.core.embed_media(uri, scopes=["clip"])
    return {segment.id: vector for segment, vector in zip(found, found.vectors, strict=True)}


def same(rows, expected):
    return rows.keys() == expected.keys() and all(
        np.array_equal(np.asarray(rows[key], np.float32), expected[key]) for key in expected
    )


class TestEachStore:
    def test_from_documents_keeps_marengos_own_vectors(self, local, kind, load, embeddings, uri):
        documents = load(uri)
        expected = own_rows(embeddings, uri)
        local.calls.reset()
        store = kind.from_documents(documents, embeddings)
        assert same(kind.rows(store), expected)
        assert local.calls["InvokeModel"] == 0

    def test_add_segments_twice_leaves_one_of_each(self, local, kind, load, embeddings, uri):
        documents, store = load(uri), kind.make(embeddings)
        local.calls.reset()
        ids = add_segments(store, documents)
        assert add_segments(store, documents) == ids == [document.id for document in documents]
        assert same(kind.rows(store), own_rows(embeddings, uri))
        assert local.calls["InvokeModel"] == 0

    async def test_async(self, kind, load, embeddings, uri):
        documents, store = await asyncio.to_thread(load, uri), kind.make(embeddings)
        await aadd_segments(store, documents)
        assert len(kind.rows(store)) == len(documents)

    def test_small_chunks_and_a_lazy_loader(self, kind, embeddings, uri):
        store = kind.make(embeddings)
        loader = MarengoLoader(uri, embeddings=embeddings, show_progress=False)
        add_segments(store, loader.lazy_load(), chunk_size=4)
        assert same(kind.rows(store), own_rows(embeddings, uri))

    def test_a_search_finds_a_segment_by_its_own_vector(self, kind, load, embeddings, uri):
        documents, store = load(uri), kind.make(embeddings)
        add_segments(store, documents)
        [vector] = embeddings.embed_documents([documents[3].page_content])
        [hit] = store.similarity_search_by_vector(vector, k=1)
        assert hit.page_content == documents[3].page_content
        assert {key: hit.metadata[key] for key in documents[3].metadata} == documents[3].metadata

    def test_a_plain_retriever_can_be_asked_by_image(self, kind, load, embeddings, uri):
        store = kind.make(embeddings)
        add_segments(store, load(uri))
        handle = embeddings.query_handle(Query(image=CAT))
        [hit] = store.as_retriever(search_kwargs={"k": 1}).invoke(handle)
        assert Segment.find(hit.page_content)


class TestIndex:
    """LangChain's index() as docs/stores.md recommends it, with more segments than one of its batches holds."""

    @pytest.fixture
    def run(self, request, embeddings):
        store, records = InMemoryVectorStore(embeddings), InMemoryRecordManager("test")
        records.create_schema()

        async def run(documents):
            how = {"cleanup": "scoped_full", "source_id_key": "source", "key_encoder": lambda document: document.id}
            if request.param == "async":
                return await aindex(documents, records, store, **how)
            return index(documents, records, store, **how)

        run.store = store
        return run

    @pytest.mark.parametrize("run", ["sync", "async"], indirect=True)
    async def test_nothing_is_rewritten_or_twice_and_a_changed_video_is_replaced(
        self, local, load, embeddings, uri, run
    ):
        local.synthetic_sec = 300.0
        documents = await asyncio.to_thread(load, uri)
        other = await asyncio.to_thread(load, local.put(b"another", "other.mp4"))
        count = len(documents)
        assert count > 100
        local.calls.reset()
        assert (await run([*documents, *other]))["num_added"] == 2 * count
        again = await run([*documents, *other])
        assert again == {"num_added": 0, "num_updated": 0, "num_skipped": 2 * count, "num_deleted": 0}
        await asyncio.to_thread(add_segments, run.store, documents)
        assert len(run.store.store) == 2 * count
        assert local.calls["InvokeModel"] == 0

        local.put(b"the second cut of the match", "match.mp4")
        result = await run(await asyncio.to_thread(load, uri))
        assert (result["num_added"], result["num_deleted"]) == (count, count)
        rows = InMemory().rows(run.store)
        expected = await asyncio.to_thread(own_rows, embeddings, uri)
        assert same({key: rows[key] for key in expected}, expected)
        assert rows.keys() - expected.keys() == {document.id for document in other}


class TestSplitters:
    """A text splitter after the loader never makes texts of segments."""

    SPLITTERS = (
        RecursiveCharacterTextSplitter(chunk_size=200, chunk_overlap=0),
        RecursiveCharacterTextSplitter(chunk_size=120, chunk_overlap=40, add_start_index=True),
        RecursiveCharacterTextSplitter(chunk_size=30, chunk_overlap=5),
        CharacterTextSplitter(separator="\n", chunk_size=60, chunk_overlap=0),
        CharacterTextSplitter(separator=" ", chunk_size=90, chunk_overlap=20),
        MarkdownTextSplitter(chunk_size=150, chunk_overlap=0),
    )

    @pytest.fixture
    def talk(self, local, load):
        words = " ".join(f"Sentence {i} of a long talk is said." for i in range(40))
        local.put(f"1\n00:00:00,000 --> 00:00:12,000\n{words}\n".encode(), "talk.srt")
        return load(local.put(b"a talk", "talk.mp4"))

    @pytest.mark.parametrize("splitter", SPLITTERS, ids=range(6))
    def test_pieces_are_refused(self, local, kind, embeddings, talk, splitter):
        pieces = splitter.split_documents(talk)
        assert len(pieces) > len(talk)
        with pytest.raises(InputError, match="is a piece of the text of"):
            kind.from_documents(pieces, embeddings)
        with pytest.raises(InputError, match=r"text splitter has cut it|is a piece of the text of"):
            add_segments(kind.make(embeddings), pieces)
        assert local.calls["InvokeModel"] == 0

    def test_pieces_are_known_by_their_heading_where_no_segment_was_loaded(self, local, talk):
        pieces = RecursiveCharacterTextSplitter(chunk_size=100, chunk_overlap=0).split_documents(talk)
        elsewhere = MarengoEmbeddings(**local.client_options)
        with pytest.raises(InputError, match="is a piece of the text of"):
            elsewhere.embed_documents([piece.page_content for piece in pieces])
        assert local.calls["InvokeModel"] == 0

    def test_segments_that_need_no_cut_pass_whole(self, local, embeddings, talk):
        pieces = RecursiveCharacterTextSplitter(chunk_size=4_000).split_documents(talk)
        assert add_segments(InMemoryVectorStore(embeddings), pieces) == [document.id for document in talk]

    def test_shortened_words_and_the_same_words_elsewhere_are_no_pieces(self, local, embeddings, talk):
        uris = [document.page_content.partition("\n")[0] for document in talk]
        vectors = embeddings.embed_documents([*uris, "a dog", "Sentence 1 of a long talk is said."])
        assert vectors[: len(uris)] == embeddings.embed_documents([document.page_content for document in talk])
        assert local.calls["InvokeModel"] == 2


class TestContext:
    """What a splitter of contexts or a prompt puts before a segment's text, as in LlamaIndex."""

    @pytest.mark.parametrize(
        "template",
        [
            "Document: A match\n\n{}",
            "A chunk of match.mp4, the final.\n{}",
            "passage: {}",
            "<chunk>{}</chunk>",
            "{}\n\nend",
        ],
    )
    def test_a_segment_keeps_its_vector(self, local, embeddings, load, uri, template):
        [document, *_] = load(uri)
        [vector] = embeddings.embed_documents([document.page_content])
        texts = [template.format(document.page_content), " ".join(document.page_content.split())]
        assert embeddings.embed_documents(texts) == [vector] * 2
        assert local.calls["InvokeModel"] == 0


class TestElsewhere:
    """The vector is found again by the first line, by whoever asks."""

    @pytest.mark.slow
    def test_in_another_process_a_compressor_filters_by_the_own_vectors(self, local, load, embeddings, uri, tmp_path):
        documents = load(uri)
        (tmp_path / "documents.pickle").write_bytes(pickle.dumps((documents, embeddings)))
        script = (
            "import pickle, sys\n"
            "from langchain_classic.retrievers.document_compressors import EmbeddingsFilter\n"
            "documents, embeddings = pickle.load(open(sys.argv[1], 'rb'))\n"
            "found = EmbeddingsFilter(embeddings=embeddings, k=2).compress_documents(documents, 'a goal')\n"
            "print([document.id for document in found])\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "documents.pickle")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        here = EmbeddingsFilter(embeddings=embeddings, k=2).compress_documents(documents, "a goal")
        assert eval(printed) == [document.id for document in here]

    def test_a_fresh_process_reads_each_jobs_output_once(self, local, load, uri):
        documents = [*load(uri), *load(local.put(b"another", "other.mp4"))]
        fresh = MarengoEmbeddings(**local.client_options)
        local.calls.reset()
        store = InMemoryVectorStore(fresh)
        add_segments(store, documents, chunk_size=1)
        assert local.calls["s3:GetObject"] == 2
        assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0

    def test_a_docstore_keeps_it_working(self, load, embeddings, uri):
        documents, docstore = load(uri), create_kv_docstore(InMemoryStore())
        docstore.mset([(document.id, document) for document in documents])
        again = docstore.mget([document.id for document in documents])
        store = InMemoryVectorStore(embeddings)
        add_segments(store, again)
        assert same(InMemory().rows(store), own_rows(embeddings, uri))

    def test_a_transcript_may_change_and_the_vector_stays(self, load, embeddings, uri):
        [document, *_] = load(uri)
        corrected = Document(page_content=f"{document.page_content}\nwords put right by hand", metadata={})
        assert embeddings.embed_documents([corrected.page_content]) == embeddings.embed_documents(
            [document.page_content]
        )


class TestRefused:
    def test_a_store_with_other_embeddings(self, load, uri):
        with pytest.raises(ConfigurationError, match="embeds with FakeEmbeddings"):
            add_segments(InMemoryVectorStore(FakeEmbeddings(size=512)), load(uri))

    def test_a_document_that_is_no_segment(self, embeddings):
        with pytest.raises(InputError, match="is not the text of a segment"):
            add_segments(InMemoryVectorStore(embeddings), [Document(page_content="plain words")])

    def test_replace_where_it_is_not_known(self, load, embeddings, uri):
        class Odd(FAISS.__mro__[1]):  # a VectorStore of no known kind
            embeddings = None
            add_texts = similarity_search = from_texts = lambda self: None

        with pytest.raises(ConfigurationError, match="replace=True doesn't support Odd"):
            add_segments(Odd(), load(uri), replace=True)
