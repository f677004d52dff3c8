"""Stores that can't run here: requests and replies as the pages of OpenSearch and Elasticsearch have them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from langchain_community.vectorstores import OpenSearchVectorSearch

from langchain_marengo import MarengoLoader, MarengoRetriever, delete_segments


@pytest.fixture(scope="module")
def documents(embeddings, uris, how):
    loader = MarengoLoader(next(iter(uris)), embeddings=embeddings, show_progress=False, **{**how, "scopes": ["clip"]})
    return loader.load()


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
