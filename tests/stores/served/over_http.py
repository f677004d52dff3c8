"""A server of JSON over HTTP whose answers one function gives."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class RefusedError(Exception):
    """An answer with another status than 200."""

    def __init__(self, status, body):
        self.status, self.body = status, body


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = [json.loads(line) for line in self.rfile.read(length).splitlines() if line]
        url = urlsplit(self.path)
        try:
            status, answer = 200, self.server.answer(self, url.path, parse_qs(url.query), body)
        except RefusedError as error:
            status, answer = error.status, error.body
        reply = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        # Without it Elasticsearch's client takes the server for another product's.
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@contextmanager
def serve(answer):
    """Yields the server's address; ``answer`` takes the request, its path, query and body (a list of lines)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
