"""Stores that can't run here: requests and replies as AWS's and OpenSearch's pages have them, nothing behind."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from botocore.stub import Stubber
from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors
from langchain_community.vectorstores import OpenSearchVectorSearch

from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments, delete_segments

INDEX = {"vectorBucketName": "marengo", "indexName": "segments"}


@pytest.fixture(scope="module")
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture(scope="module")
def documents(embeddings, uris, how):
    loader = MarengoLoader(next(iter(uris)), embeddings=embeddings, show_progress=False, **{**how, "scopes": ["clip"]})
    return loader.load()


class TestAmazonS3Vectors:
    """botocore's Stubber checks each request and reply against the service's own model."""

    @pytest.fixture
    def stub(self):
        client = boto3.client(
            "s3vectors", region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        with Stubber(client) as stub:
            yield stub
            stub.assert_no_pending_responses()

    @pytest.fixture
    def store(self, stub, embeddings):
        return AmazonS3Vectors(
            vector_bucket_name="marengo",
            index_name="segments",
            embedding=embeddings,
            non_filterable_metadata_keys=["_page_content"],
            client=stub.client,
        )

    def row(self, document, **more):
        return {"key": document.id, "metadata": {**document.metadata, "_page_content": document.page_content}, **more}

    def test_segments_are_put_with_their_uri_as_non_filterable_metadata(self, stub, store, embeddings, documents):
        stub.add_client_error("get_index", "NotFoundException", expected_params=INDEX)
        stub.add_response(
            "create_index",
            {"indexArn": "arn:aws:s3vectors:us-east-1:123456789012:bucket/marengo/index/segments"},
            {
                **INDEX,
                "dataType": "float32",
                "dimension": 512,
                "distanceMetric": "cosine",
                "metadataConfiguration": {"nonFilterableMetadataKeys": ["_page_content"]},
            },
        )
        vectors = embeddings.embed_documents([document.page_content for document in documents])
        rows = [
            self.row(document, data={"float32": vector}) for document, vector in zip(documents, vectors, strict=True)
        ]
        stub.add_response("put_vectors", {}, {**INDEX, "vectors": rows})
        assert add_segments(store, documents) == [document.id for document in documents]

    def test_a_track_is_searched_by_filter_and_distance_becomes_similarity(self, stub, store, embeddings, documents):
        found = [document for document in documents if document.metadata["embedding_option"] == "visual"][:2]
        reply = {
            "distanceMetric": "cosine",
            "vectors": [self.row(found[0], distance=0.88), self.row(found[1], distance=0.93)],
        }
        stub.add_response(
            "query_vectors",
            reply,
            {
                **INDEX,
                "topK": 51,
                "queryVector": {"float32": embeddings.embed_query("a goal")},
                "filter": {
                    "$and": [
                        {"embedding_option": {"$eq": "visual"}},
                        {"embedding_scope": {"$eq": "clip"}},
                        {"source": {"$in": [found[0].metadata["source"]]}},
                        {"end_sec": {"$gt": 0.0}},
                        {"start_sec": {"$lt": 30.0}},
                        {"tenant": "acme"},
                    ]
                },
                "returnMetadata": True,
                "returnDistance": True,
            },
        )
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, fusion="scores")
        limits = {"sources": [found[0].metadata["source"]], "start_sec": 0, "end_sec": 30}
        hits = retriever.invoke("a goal", filter={"tenant": "acme"}, **limits)
        assert [hit.id for hit in hits] == [document.id for document in found]
        assert [hit.metadata["score"] for hit in hits] == pytest.approx([0.12, 0.07])

    def test_no_more_is_asked_for_than_its_limit(self, stub, store, embeddings):
        asked = {}
        stub.client.meta.events.register(
            "before-parameter-build.s3vectors.QueryVectors", lambda params, **_: asked.update(params)
        )
        stub.add_response("query_vectors", {"distanceMetric": "cosine", "vectors": []})
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, k=50)
        assert retriever.invoke("a goal") == []
        assert asked["topK"] == 100

    def test_a_sources_segments_are_listed_and_deleted(self, stub, store, documents):
        other = {"key": "other", "metadata": {"source": "s3://bucket/other.mp4"}}
        listing = {**INDEX, "returnMetadata": True}
        stub.add_response("list_vectors", {"vectors": [self.row(documents[0]), other], "nextToken": "2"}, listing)
        stub.add_response("list_vectors", {"vectors": [self.row(documents[1])]}, {**listing, "nextToken": "2"})
        stub.add_response("delete_vectors", {}, {**INDEX, "keys": [documents[0].id, documents[1].id]})
        assert delete_segments(store, documents[0].metadata["source"]) == 2


@pytest.fixture
def server():
    """Answers over HTTP as a search API is documented, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.do_POST()

        def do_PUT(self):
            self.do_POST()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            lines = [json.loads(line) for line in body.splitlines() if line]
            server.asked.append((self.path, lines))
            reply = json.dumps(server.replies.pop(0) if server.replies else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            # Without it Elasticsearch's client takes the server for another product's.
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.replies = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def hit(document, score=0.5):
    source = {"text": document.page_content, "metadata": document.metadata}
    return {"_index": "segments", "_id": document.id, "_score": score, "_source": source}


class TestOpenSearch:
    @pytest.fixture
    def store(self, server, embeddings):
        return OpenSearchVectorSearch(f"http://127.0.0.1:{server.server_port}", "segments", embeddings, engine="faiss")

    def test_a_track_is_searched_by_an_efficient_filter_and_scored_by_own_vectors(
        self, server, store, embeddings, documents
    ):
        visual = [document for document in documents if document.metadata["embedding_option"] == "visual"]
        # Its scores, in whatever direction, are ignored.
        server.replies = [{"hits": {"hits": [hit(document, i) for i, document in enumerate(visual)]}}]
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, fusion="scores")
        found = retriever.invoke("a goal", start_sec=6, filter={"term": {"metadata.tenant.keyword": "acme"}})
        scores = [hit.metadata["score"] for hit in found]
        assert scores == sorted(scores, reverse=True)
        [(path, [asked])] = server.asked
        assert path == "/segments/_search"
        knn = asked["query"]["knn"]["vector_field"]
        assert knn["k"] == 51
        assert knn["filter"]["bool"]["filter"] == [
            {"term": {"metadata.embedding_option.keyword": "visual"}},
            {"term": {"metadata.embedding_scope.keyword": "clip"}},
            {"range": {"metadata.end_sec": {"gt": 6}}},
            {"term": {"metadata.tenant.keyword": "acme"}},
        ]

    def test_a_sources_segments_are_scrolled_and_deleted(self, server, store, documents):
        page = {"_scroll_id": "scroll", "hits": {"hits": [hit(document) for document in documents[:2]]}}
        server.replies = [
            page,
            {"_scroll_id": "scroll", "hits": {"hits": []}},
            {"errors": False, "items": [{"delete": {"_id": document.id, "status": 200}} for document in documents[:2]]},
        ]
        assert delete_segments(store, documents[0].metadata["source"]) == 2
        (search, [body]), (scroll, _), (bulk, deletes) = server.asked
        assert search == "/segments/_search?scroll=5m"
        assert body["query"] == {"term": {"metadata.source.keyword": documents[0].metadata["source"]}}
        assert scroll == "/_search/scroll"
        assert bulk.startswith("/_bulk")
        assert [line["delete"]["_id"] for line in deletes] == [document.id for document in documents[:2]]


class TestElasticsearch:
    @pytest.fixture
    def make(self, server, embeddings):
        elasticsearch = pytest.importorskip("langchain_elasticsearch")
        url = f"http://127.0.0.1:{server.server_port}"
        return lambda **how: elasticsearch.ElasticsearchStore("segments", embedding=embeddings, es_url=url, **how)

    @pytest.mark.parametrize(("mapped", "suffix"), [({}, ".keyword"), ({"type": "keyword"}, "")])
    def test_a_track_is_searched_with_enough_candidates(self, server, make, embeddings, documents, mapped, suffix):
        visual = [document for document in documents if document.metadata["embedding_option"] == "visual"]
        mappings = dict.fromkeys(("embedding_option", "embedding_scope"), mapped) if mapped else None
        store = make(metadata_mappings=mappings)
        server.asked.clear()
        server.replies = [{"hits": {"hits": [hit(document, i) for i, document in enumerate(visual)]}}]
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, fetch_k=250)
        found = retriever.invoke("a goal", start_sec=6, filter=[{"term": {"metadata.tenant.keyword": "acme"}}])
        scores = [document.metadata["score"] for document in found]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        [(path, [asked])] = server.asked
        assert path.startswith("/segments/_search")
        assert (asked["size"], asked["knn"]["k"], asked["knn"]["num_candidates"]) == (251, 251, 502)
        assert asked["knn"]["filter"] == [
            {"term": {f"metadata.embedding_option{suffix}": "visual"}},
            {"term": {f"metadata.embedding_scope{suffix}": "clip"}},
            {"range": {"metadata.end_sec": {"gt": 6}}},
            {"term": {"metadata.tenant.keyword": "acme"}},
        ]

    def test_a_sources_segments_are_scrolled_and_deleted(self, server, make, documents):
        store = make()
        server.asked.clear()
        page = {"_scroll_id": "scroll", "hits": {"hits": [hit(document) for document in documents[:2]]}}
        deleted = [{"delete": {"_id": document.id, "status": 200}} for document in documents[:2]]
        server.replies = [page, {"_scroll_id": "scroll", "hits": {"hits": []}}, {"errors": False, "items": deleted}, {}]
        assert delete_segments(store, documents[0].metadata["source"]) == 2
        assert server.asked[0][1][0]["query"] == {"term": {"metadata.source.keyword": documents[0].metadata["source"]}}
        deletes = next(lines for path, lines in server.asked if "_bulk" in path)
        assert [line["delete"]["_id"] for line in deletes] == [document.id for document in documents[:2]]
