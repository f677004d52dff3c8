"""Processes interrupted, ended, killed or meeting another, and full disks: nothing is lost, nothing paid again."""

import hashlib
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from langchain_chroma import Chroma
from llama_index.core import StorageContext, VectorStoreIndex

from bedrock_marengo import Segment
from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter
from marengo_local import Fault

pytestmark = [
    pytest.mark.promise("Nothing is lost"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of Unix"),
]

MANY = """
for done in client.embed_many(argv[0]):
    print(done.error or done.uri)
"""

INTERRUPTED = """
import threading, time

def until_interrupted(call):
    began = time.monotonic()
    try:
        call()
        print("it ended by itself")
    except KeyboardInterrupt:
        ours = [t.name for t in threading.enumerate() if t.name.startswith("marengo-media")]
        print("interrupted", json.dumps(ours))

until_interrupted(lambda: client.embed_media(argv[0] + "0.mp4"))
until_interrupted(lambda: list(client.embed_many(argv[0])))
sys.stdin.readline()
print(json.dumps([done.uri for done in client.embed_many(argv[0]) if done.error is None]))
"""


@pytest.mark.fault("Ctrl-C", expect="KeyboardInterrupt at once; jobs keep running and the next run joins them")
class TestCtrlC:
    def test_it_comes_back_at_once_and_the_same_client_goes_on_without_paying_again(
        self, local, bucket, child, held, wait_for
    ):
        process = child(INTERRUPTED, bucket)
        for media in (1, 8):
            # All jobs run.
            wait_for(lambda wanted=media: len(local.jobs) == wanted)
            time.sleep(0.2)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted []\n" and time.monotonic() - sent < 20
        # Nothing of it is stopped at Bedrock: all run on, and are joined.
        assert {job.status for job in local.jobs} == {"InProgress"}
        held.set()
        out, err = process.communicate("go on\n", timeout=30)
        assert len(set(json.loads(out.splitlines()[-1]))) == 8, err
        assert len(local.jobs) == 8

    def test_a_script_ends_with_what_python_says(self, local, bucket, child, held, connect, wait_for):
        process = child(MANY, bucket)
        wait_for(lambda: len(local.jobs) == 8)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGINT and err.strip().endswith("KeyboardInterrupt")
        held.set()
        assert [done.error for done in connect().embed_many(bucket)] == [None] * 8 and len(local.jobs) == 8

    def test_a_store_of_s3_that_fails_is_not_tried_to_the_end(self, local, bucket, child, wait_for):
        local.faults = [Fault("s3:PutObject", error="SlowDown")]
        process = child(MANY, bucket)
        wait_for(lambda: local.calls["s3:PutObject"] >= 12)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        # botocore would have tried each six times, up to 20 s apart.
        assert local.calls["s3:PutObject"] < 8 * 6 and len(local.jobs) == 0


@pytest.mark.fault(
    "SIGTERM or kill -9 in any step", expect="the next run finds jobs, outputs and uploads; nothing is billed twice"
)
class TestEnded:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
    def test_while_its_jobs_run(self, local, bucket, child, held, connect, truths, same, how, wait_for):
        process = child(MANY, bucket)
        wait_for(lambda: len(local.jobs) == 8)
        process.send_signal(how)
        process.communicate(timeout=30)
        assert process.returncode == -how
        held.set()
        done = {d.uri: d.segments for d in connect().embed_many(bucket)}
        assert len(done) == len(local.jobs) == 8
        wanted = truths(list(done))
        assert all(same(done[uri], wanted[uri]) for uri in done)

    def test_while_the_replies_to_its_starts_are_lost(self, local, bucket, child, connect, wait_for):
        local.faults = [Fault("StartAsyncInvoke", drop="after")]
        process = child(MANY, bucket)
        # It has never heard of one, so it has noted none.
        wait_for(lambda: len(local.jobs) >= 5)
        process.kill()
        process.communicate()
        local.faults = []
        assert [done.error for done in connect().embed_many(bucket)] == [None] * 8 and len(local.jobs) == 8

    def test_while_it_reads_an_output(self, local, video, child, connect, truth, same, wait_for):
        wanted = truth(video)
        local.faults = [Fault("s3:GetObject", body_sec=60.0, times=1)]
        process = child(MANY, video)
        wait_for(lambda: local.calls["s3:GetObject"])
        process.kill()
        process.communicate()
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1

    def test_while_it_uploads(self, local, child, connect, tmp_path, keys, wait_for):
        (tmp_path / "a.mp4").write_bytes(b"a local video")
        local.faults = [Fault("s3:PutObject", drop="before", delay_sec=2.0)]
        process = child("from pathlib import Path\nclient.embed_media(Path(argv[0]))", tmp_path / "a.mp4")
        wait_for(lambda: local.calls["s3:PutObject"])
        process.kill()
        process.communicate()
        local.faults = []
        assert len(connect().embed_media(tmp_path / "a.mp4")) == 12
        assert len(keys(".mp4")) == len(local.jobs) == 1


HASH = """
import hashlib
print("ready")
sys.stdin.readline()
found = client.embed_media(argv[0])
places = [(s.source, s.start_sec, s.end_sec, s.option, s.scope) for s in found]
rows = sorted(zip(places, [vector.tobytes() for vector in found.vectors]))
print(hashlib.sha256(repr(rows).encode()).hexdigest())
"""


class TestTwoProcesses:
    def embed_at_once(self, child, uri):
        both = [child(HASH, uri) for _ in range(2)]
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for process in both:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=30) for process in both]
        assert all(out for out, _ in outputs), outputs
        return {out.strip() for out, _ in outputs}

    @pytest.mark.fault("Two processes start the same file", expect="one job, the same vectors")
    def test_start_one_job_of_one_medium(self, local, video, child, truth):
        wanted = truth(video)
        local.job_duration_sec = 0.3
        rows = sorted((place, vector.tobytes()) for place, vector in wanted.items())
        expected = hashlib.sha256(repr(rows).encode()).hexdigest()
        assert self.embed_at_once(child, video) == {expected} and len(local.jobs) == 1

    @pytest.mark.fault("Two processes embed the same image", expect="one vector; each may be billed once")
    def test_may_each_pay_for_one_image_and_agree_on_its_vector(self, local, png, child, connect):
        uri = local.put(png(), "dog.png")
        local.latency_sec = 0.3
        assert len(self.embed_at_once(child, uri)) == 1
        assert local.calls["InvokeModel"] <= 2
        before = local.calls["InvokeModel"]
        connect().embed_media(uri)
        assert local.calls["InvokeModel"] == before


CHROMA = """
import resource
from langchain_chroma import Chroma
from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments

# The largest file that may be written: the store's own database grows past it.
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
embeddings = MarengoEmbeddings(**json.loads(sys.argv[1]))
store = Chroma("videos", embeddings, persist_directory=argv[1])
loader = MarengoLoader(argv[0], embeddings=embeddings, show_progress=False)
add_segments(store, loader.lazy_load(), chunk_size=9)
"""


@pytest.fixture
def wanted(bucket, truths):
    """What a clean run gives of all clips below the prefix: (URI, start, end, option, scope) -> vector."""
    clean = truths([f"{bucket}{i}.mp4" for i in range(8)], embeddingScope=["clip"])
    return {place: vector for found in clean.values() for place, vector in found.items()}


def kept_as_wanted(texts, vectors, wanted):
    """Whether a store holds each segment once, with its own vector; some stores keep vectors at length 1."""
    segments = [Segment.find(text) for text in texts]
    places = [(s.source, s.start_sec, s.end_sec, s.option, s.scope) for s in segments]
    return sorted(places) == sorted(wanted) and all(
        np.allclose(vector / np.linalg.norm(vector), wanted[place] / np.linalg.norm(wanted[place]), atol=1e-6)
        for place, vector in zip(places, np.array(vectors), strict=True)
    )


@pytest.mark.fault(
    "The disk is full while a store writes",
    expect="the store's own error; the next run fills the store and pays nothing",
)
class TestADiskThatIsFull:
    @pytest.mark.slow
    def test_while_a_langchain_store_writes(self, local, bucket, child, wanted, tmp_path):
        _, err = child(CHROMA, bucket, tmp_path).communicate(timeout=60)
        assert "chromadb.errors" in err and len(local.jobs)
        embeddings = MarengoEmbeddings(**local.client_options)
        store = Chroma("videos", embeddings, persist_directory=str(tmp_path))
        loader = MarengoLoader(bucket, embeddings=embeddings, show_progress=False)
        kept = store.get(add_segments(store, loader.lazy_load()), include=["embeddings", "documents"])
        assert kept_as_wanted(kept["documents"], kept["embeddings"], wanted) and len(local.jobs) == 8

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
    def test_while_a_llama_index_store_is_persisted(self, local, bucket, wanted, tmp_path):
        def run(persist):
            embed_model = MarengoEmbedding(**local.client_options)
            media = MarengoReader(bucket, embed_model=embed_model).load_data()
            index = VectorStoreIndex.from_documents(
                media, embed_model=embed_model, transformations=[MarengoSegmenter(embed_model=embed_model)]
            )
            persist(index.storage_context)

        with pytest.raises(OSError, match="No space left on device"):
            run(lambda storage: storage.vector_store.persist("/dev/full"))
        run(lambda storage: storage.persist(str(tmp_path)))
        storage = StorageContext.from_defaults(persist_dir=str(tmp_path))
        texts = [node.text for node in storage.docstore.docs.values()]
        vectors = [storage.vector_store.get(name) for name in storage.docstore.docs]
        assert kept_as_wanted(texts, vectors, wanted) and len(local.jobs) == 8
