"""A client against the stand-in's real HTTP, with invented media; and nothing of the machine the tests run on."""

import functools
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore import session as botocore_session
from hypothesis import HealthCheck, settings

from bedrock_marengo import errors

# Before numpy is imported: with workers on all cores, BLAS threads that spin cost five times the work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from bedrock_marengo import MarengoClient

VIDEO_SEC = 18.0

# For environments of their own: noxfile.py.
collect_ignore = ["compat"]

SLOW_FILES = """
cli/test_ask cli/test_captions cli/test_embed cli/test_eval cli/test_local_cache cli/test_migrate cli/test_prompt
cli/test_prune core/test_ask core/test_both_words core/test_bulk core/test_descriptions core/test_staging
core/test_transcribe langchain/test_add_words langchain/test_diversity langchain/test_end_to_end
langchain/test_evaluation langchain/test_hybrid langchain/test_migrate llama_index/test_add_words
llama_index/test_demo llama_index/test_end_to_end llama_index/test_evaluation llama_index/test_hybrid
llama_index/test_templates reliability/test_concurrency reliability/test_faults reliability/test_faults_jobs
reliability/test_faults_outputs reliability/test_faults_process reliability/test_faults_uploads
reliability/test_html_is_escaped reliability/test_properties reliability/test_races reliability/test_s3_requests
reliability/test_transcripts reliability/test_writers reliability/test_writers_llama_index stores/test_brute_force
stores/test_langchain_stores stores/test_layouts stores/test_layouts_llama_index stores/test_llama_index_stores
stores/test_mongodb stores/test_opensearch_serverless stores/test_pinecone stores/test_s3_vectors_limits
stores/test_served_stores stores/test_served_stores_llama_index stores/test_unknown_stores test_packaging
view/test_page_design
"""
"""Files that take long as a whole: `make test-all` runs them, so that `make test` takes minutes."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    slow = {Path(__file__).parent / f"{name}.py" for name in SLOW_FILES.split()}
    for item in items:
        if item.path in slow:
            item.add_marker(pytest.mark.slow)


settings.register_profile(
    "suite", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")

# boto3 must not look for credentials or a region outside: a test that needs them sets them.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


if threading.current_thread() is threading.main_thread():
    # In the background a shell ignores Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers():
    """One more than cores: tests wait for jobs, replies and processes a quarter of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once():
    """Otherwise each boto3 session lists and parses botocore's service models: most of a short test's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore_session, "create_loader", functools.cache(botocore_session.create_loader))
        yield


@pytest.fixture(autouse=True)
def _begin_again(monkeypatch):
    """Warnings that come once a process come once a test, and boto3's own session has no keys of an earlier test."""
    errors._warned.clear()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture
def local(marengo_bedrock):
    """The stand-in: each file lasts 18 s, vectors are drawn from a hash."""
    marengo_bedrock.synthetic_sec = VIDEO_SEC
    return marengo_bedrock


@pytest.fixture
def connect(local):
    """Makes clients against the stand-in; they are closed at the end."""
    clients = []

    def make(model="3.0", **settings):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "AWS ends Marengo 2.7")
            client = MarengoClient(model, **{**local.client_options, **settings})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def video(local):
    """The URI of a video on S3."""
    return local.put(b"a video", "match.mp4")


@pytest.fixture
def held(local):
    """Jobs run until ``held.set()``."""
    local.job_duration_sec = 3600.0
    return SimpleNamespace(set=lambda: setattr(local, "job_duration_sec", 0.0))


@pytest.fixture(scope="session")
def png():
    """Makes a grey PNG's bytes."""
    return _png


def _png(shade=0, side=128):
    rows = (b"\0" + bytes([shade]) * side) * side

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def chroma_port(tmp_path_factory):
    """The port of a real Chroma server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("chroma")
    command = [Path(sys.executable).with_name("chroma"), "run", "--path", folder, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat")
            yield port
        finally:
            server.terminate()


def _wait_for(url):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url, timeout=1)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)
