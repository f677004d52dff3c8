"""One client shared by all: threads, asyncio, forked and spawned processes. Each result belongs to its own input."""

import asyncio
import functools
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import boto3
import numpy as np
import pytest

from bedrock_marengo import ClosedError, JobError, MarengoClient
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.jobs.poller import JobPoller
from langchain_marengo import MarengoEmbeddings
from llama_index_marengo import MarengoEmbedding
from marengo_local import Fault

pytestmark = pytest.mark.promise("One client works for any number of threads, tasks and processes")

TEXTS = [f"text {i}" for i in range(64)]
PASSING = [
    Fault("InvokeModel", 0.03, error="ThrottlingException"),
    Fault("InvokeModel", 0.03, error="InternalServerException"),
    Fault("InvokeModel", 0.03, drop="after"),
    Fault("InvokeModel", 0.03, drop="mid-body"),
]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def expected(connect):
    """Each text's own vector, asked for one by one."""
    client = connect()
    found = {text: client.embed_text(text) for text in TEXTS}
    client.close()
    assert len({vector.tobytes() for vector in found.values()}) == len(TEXTS)
    return found


@pytest.fixture
def few(local):
    """The URIs of two videos on S3."""
    return [local.put(bytes([i]), f"few/{i}.mp4") for i in range(2)]


@pytest.fixture
def shared(local):
    """Both frameworks' embedding models, and the core's client."""
    made = {
        "core": MarengoClient(**local.client_options),
        "langchain": MarengoEmbeddings(**local.client_options),
        "llama_index": MarengoEmbedding(**local.client_options),
    }
    yield made
    made["core"].close()
    for name in ("langchain", "llama_index"):
        made[name].core.close()


ONE = {"core": "embed_text", "langchain": "embed_query", "llama_index": "get_query_embedding"}
MANY = {"core": "embed_texts", "langchain": "embed_documents", "llama_index": "get_text_embedding_batch"}
AONE = {"core": "aembed_text", "langchain": "aembed_query", "llama_index": "aget_query_embedding"}
AMANY = {"core": "aembed_texts", "langchain": "aembed_documents", "llama_index": "aget_text_embedding_batch"}
NAMES = list(ONE)


def same(found, expected):
    return np.array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32))


def rotated(number):
    """All texts, each caller beginning with another."""
    return TEXTS[number % len(TEXTS) :] + TEXTS[: number % len(TEXTS)]


@contextmanager
def busy(work, threads=16):
    """Other threads that do nothing but this."""
    left = threading.Event()

    def go_on():
        while not left.is_set():
            work()

    with ThreadPoolExecutor(threads) as pool:
        doing = [pool.submit(go_on) for _ in range(threads)]
        try:
            yield
        finally:
            left.set()
    for done in doing:
        done.result()


class TestThreads:
    def test_64_threads_get_their_own_vectors(self, shared, expected, local):
        local.faults = list(PASSING)

        def ask(number):
            name, own = NAMES[number % 3], rotated(number)
            # Many calls in one, and one by one.
            batch = getattr(shared[name], MANY[name])(own[: 3 + number % 3])
            single = getattr(shared[name], ONE[name])(own[0])
            return same(batch, [expected[text] for text in own[: len(batch)]]) and same(single, expected[own[0]])

        with ThreadPoolExecutor(64) as pool:
            assert all(pool.map(ask, range(64)))

    def test_threads_that_want_the_same_media_pay_once_for_each(self, client, few, truth, same, local):
        expected = {uri: truth(uri) for uri in few}
        local.job_duration_sec = 0.1
        with ThreadPoolExecutor(32) as pool:
            found = list(pool.map(client.embed_media, few * 16))
        assert all(same(embeddings, expected[uri]) for uri, embeddings in zip(few * 16, found, strict=True))
        assert len(local.jobs) == 2

    def test_64_threads_read_a_job_once(self, client, connect, video, local):
        segments = list(client.embed_media(video))
        reader = connect()
        local.calls.reset()
        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(lambda i: reader.segment_vectors(segments[i % 12 :])[0], range(64)))
        known = client.segment_vectors(segments)
        assert all(np.array_equal(vector, known[i % 12]) for i, vector in enumerate(found))
        assert local.calls["s3:GetObject"] == 1

    def test_a_job_does_not_wait_behind_texts(self, client, video, local):
        """64 threads at full speed, whose calls come back for the 16 slots as soon as they have given one up."""
        local.latency_sec = 0.01
        with busy(lambda: client.embed_text("busy"), threads=64):
            time.sleep(0.2)
            began = time.monotonic()
            assert len(client.embed_media(video)) == 12
            assert time.monotonic() - began < 30

    def test_settings_that_change_under_threads_make_one_client(self, shared):
        embeddings = shared["langchain"].model_copy(update={"max_concurrency": 3})
        with ThreadPoolExecutor(64) as pool:
            assert len({id(client) for client in pool.map(lambda _: embeddings.core, range(64))}) == 1


@pytest.mark.promise("Closing or cancelling leaves nothing behind")
class TestAsyncio:
    async def test_hundreds_of_tasks_get_their_own_vectors(self, shared, expected, local):
        local.faults = list(PASSING)

        async def ask(number):
            name, own = NAMES[number % 3], rotated(number)
            if number % 4:
                return same(await getattr(shared[name], AONE[name])(own[0]), expected[own[0]])
            batch = await getattr(shared[name], AMANY[name])(own[:3])
            return same(batch, [expected[text] for text in own[:3]])

        assert all(await asyncio.gather(*map(ask, range(300))))

    def test_several_loops(self, client, expected):
        async def ask(number):
            own = rotated(number)[:25]
            return all(map(same, await asyncio.gather(*map(client.aembed_text, own)), [expected[t] for t in own]))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda number: asyncio.run(ask(number)), range(8)))

    async def test_cancelling_one_leaves_the_others(self, client, expected, local):
        local.latency_sec = 0.02
        tasks = [asyncio.create_task(client.aembed_text(text)) for text in TEXTS]
        await asyncio.sleep(0.05)
        cancelled = [task for i, task in enumerate(tasks) if i % 3 == 0 and task.cancel()]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert cancelled and all(task.cancelled() for task in cancelled)
        for text, task, vector in zip(TEXTS, tasks, found, strict=True):
            assert task in cancelled or same(vector, expected[text])

    async def test_cancelled_texts_cost_no_more_calls(self, client, local):
        local.latency_sec = 0.02
        task = asyncio.create_task(client.aembed_texts([f"long {i}" for i in range(2_000)]))
        while local.calls["InvokeModel"] < 32:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.1)
        before = local.calls["InvokeModel"]
        await asyncio.sleep(0.2)
        assert local.calls["InvokeModel"] == before < 200

    async def test_texts_do_not_wait_for_media_and_cancelled_media_leave_room(
        self, client, video, held, expected, local
    ):
        """A thousand waits for jobs, which may take hours: more than there are threads for."""
        job = client.start(video)
        waiting = [asyncio.create_task(client.acollect(job)) for _ in range(1_000)]
        await asyncio.sleep(0.1)
        assert same(await asyncio.wait_for(client.aembed_text(TEXTS[0]), 30), expected[TEXTS[0]])
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        other = asyncio.create_task(client.aembed_media(video))
        await asyncio.sleep(1.0)
        held.set()
        assert len(await asyncio.wait_for(other, 30)) == 12 and len(local.jobs) == 1

    async def test_what_was_cancelled_in_a_run_leaves_no_task(self, client, few, held):
        async def follow():
            return [done async for done in client.aembed_many(few)]

        task = asyncio.create_task(follow())
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 30
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.promise("Closing or cancelling leaves nothing behind")
class TestLeaving:
    """Whoever leaves a run waits for no backoff, however long."""

    @pytest.fixture
    def throttled(self, client, bucket, local):
        """One file is done, the others wait for a limiter that blocks for long."""
        list(client.embed_many([f"{bucket}0.mp4"]))

        def shut():
            limiter = client._runtime.limiter
            limiter._open_at, limiter._pause_sec = time.monotonic() + 60, 60.0

        local.job_duration_sec = lambda job: shut() or 0.0
        return f"{bucket}"

    def test_a_run(self, client, throttled):
        run = client.embed_many(throttled)
        assert next(run).error is None
        time.sleep(0.5)
        began = time.monotonic()
        run.close()
        assert time.monotonic() - began < 20

    async def test_a_run_for_asyncio(self, client, throttled):
        run = client.aembed_many(throttled)
        assert (await anext(run)).error is None
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await run.aclose()
        assert time.monotonic() - began < 20


@pytest.mark.promise("Closing or cancelling leaves nothing behind")
class TestClosing:
    def test_what_waits_is_called_off_and_what_was_paid_is_found(self, client, video, few, held, local):
        with ThreadPoolExecutor(4) as pool:
            embedding = pool.submit(client.embed_media, video)
            run = pool.submit(lambda: [(done.uri, done.error) for done in client.embed_many(few)])
            texts = pool.submit(client.embed_texts, [f"text {i}" for i in range(20_000)])
            while len(local.jobs) < 3 or local.calls["InvokeModel"] < 20:
                time.sleep(0.01)
            began = time.monotonic()
            client.close()
            assert time.monotonic() - began < 30
            with pytest.raises(JobError, match="its job continues, and the next run joins it") as left:
                embedding.result()
            assert left.value.running
            with pytest.raises(ClosedError, match="was cancelled: the client was closed"):
                texts.result()
            with pytest.raises(ClosedError):
                run.result()
        held.set()
        assert len(client.embed_media(video)) == 12
        assert [done.error for done in client.embed_many(few)] == [None, None]
        assert len(local.jobs) == 3

    def test_while_the_thread_that_follows_jobs_is_being_started(self, monkeypatch):
        starting, thread = threading.Event(), threading.Thread

        class Slow(thread):
            def start(self):
                starting.set()
                time.sleep(0.2)
                super().start()

        before = set(threading.enumerate())
        follower = JobPoller(lambda arns, oldest_sec: set())
        waiting = thread(target=lambda: follower.wait("a job", since=None, token=CancelToken(), timeout_sec=None))
        monkeypatch.setattr(threading, "Thread", Slow)
        waiting.start()
        starting.wait()
        follower.close()
        waiting.join()
        assert own_threads(before) == []

    async def test_a_run_that_is_left_can_be_closed_after_the_client(self, client, few):
        run = client.aembed_many(few)
        await anext(run)
        await asyncio.to_thread(client.close)
        await run.aclose()
        assert len(await client.aembed_media(few[0])) == 12

    async def test_what_tasks_wait_for_is_called_off(self, client, video, held):
        job = client.start(video)
        tasks = [asyncio.create_task(client.acollect(job)) for _ in range(100)]
        while len(client._runtime.runner._poller._waits) < 64:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(client.close)
        # 64 waited for the job, the others for a thread.
        found = [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)]
        assert (found.count(JobError), found.count(ClosedError)) == (64, 36)
        held.set()
        assert len(await client.aembed_media(video)) == 12

    def test_an_abandoned_run_keeps_no_thread(self, client, few):
        before = set(threading.enumerate())
        run = client.embed_many(few, jobs_at_once=1)
        assert next(run).error is None and own_threads(before)
        client.close()
        assert own_threads(before) == []
        with pytest.raises(ClosedError):
            list(run)

    def test_again_and_again_while_others_ask(self, client, expected):
        def ask():
            text = TEXTS[threading.get_ident() % 64]
            try:
                assert same(client.embed_text(text), expected[text])
                assert same(client.embed_texts(TEXTS[:8]), [expected[text] for text in TEXTS[:8]])
            except ClosedError:
                pass

        with busy(ask, threads=8):
            for _ in range(10):
                time.sleep(0.04)
                client.close()
        assert same(client.embed_text(TEXTS[0]), expected[TEXTS[0]])

    def test_one_of_two_clients(self, connect, expected, local):
        first, second, old = connect(), connect(), connect("2.7")
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(client.embed_texts, TEXTS) for client in (first, second, old)]
            assert [done.result().shape for done in asked] == [(64, 512), (64, 512), (64, 1024)]
            local.latency_sec = 0.05
            going_on = pool.submit(second.embed_texts, TEXTS)
            time.sleep(0.05)
            first.close()
            old.close()
            assert same(going_on.result(), list(expected.values()))

    def test_nothing_is_left(self, child, local, tmp_path):
        """Counted in a process of its own, where no server has threads and sockets, too."""
        (tmp_path / "local.mp4").write_bytes(os.urandom(1 << 20))
        uris = [local.put(bytes([i]), f"v/{i}.mp4") for i in range(4)]
        local.put("\n".join(f"{local.bucket},v/{i}.mp4" for i in range(4)).encode(), "list.csv")
        (tmp_path / "private").mkdir()
        told, complaints = child(LEFT, tmp_path, *uris).communicate(timeout=60)
        assert not complaints
        assert json.loads(told) == {"threads": [], "tasks": 0, "sockets": 0, "files": []}


def own_threads(before):
    return [
        thread.name
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("marengo-") and not thread.name.startswith("marengo-local")
    ]


LEFT = """
import asyncio, os, pathlib, tempfile, threading, time
from bedrock_marengo import Manifest

folder, *uris = argv
tempfile.tempdir = folder + "/private"

def sockets():
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and os.readlink(link).startswith("socket:") for link in links)

async def asked():
    cancelled = asyncio.create_task(client.aembed_texts([str(i) for i in range(1000)]))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    await asyncio.gather(*(client.aembed_text(str(i)) for i in range(200)))
    await asyncio.gather(*map(client.aembed_media, uris))
    async for done in client.aembed_many(uris, force=True):
        break
    until = time.monotonic() + 30
    while len(asyncio.all_tasks()) > 1 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return len(asyncio.all_tasks()) - 1

client.embed_texts([str(i) for i in range(200)])
client.embed_media(pathlib.Path(folder, "local.mp4"))
assert all(done.error is None for done in client.embed_many(Manifest(uris[0].rsplit("/", 2)[0] + "/list.csv")))
left = client.embed_many(uris, force=True)
next(left)
tasks = asyncio.run(asked())
client.close()
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"threads": threads, "tasks": tasks, "sockets": sockets(), "files": os.listdir(tempfile.tempdir)}))
"""


FORKS = int(os.environ.get("MARENGO_TEST_FORKS", "9"))
"""More by hand: 1,000 have been tried."""


def forked(work):
    """The exit status of a forked child that does this; a child that hangs is ended by SIGALRM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ask_in_pool(client, text):
    return text, client.embed_text(text)


@pytest.mark.slow
@forks
class TestForks:
    def test_children_of_a_busy_parent(self, shared, expected, local):
        local.faults = list(PASSING)

        def work(name):
            assert same(getattr(shared[name], ONE[name])(TEXTS[1]), expected[TEXTS[1]])
            assert same(getattr(shared[name], MANY[name])(TEXTS[:6]), [expected[text] for text in TEXTS[:6]])

        with busy(lambda: [work(name) for name in NAMES], threads=8):
            time.sleep(0.1)
            assert [forked(functools.partial(work, NAMES[i % 3])) for i in range(FORKS)] == [0] * FORKS

    def test_a_child_while_every_slot_and_lock_is_held(self, client, bucket, expected, local):
        """The parent's threads are inside calls, behind the gate, in line for a start, and wait for jobs."""
        local.latency_sec, local.start_rate, local.job_duration_sec = 0.05, 5.0, 0.5

        def work():
            assert same(client.embed_texts(TEXTS[:4]), [expected[text] for text in TEXTS[:4]])
            assert len(client.embed_media(f"{bucket}0.mp4")) == 12
            client.close()

        with busy(lambda: client.embed_text("busy"), threads=24), ThreadPoolExecutor(1) as pool:
            run = pool.submit(lambda: [done.error for done in client.embed_many(bucket)])
            assert [forked(work) for _ in range(5)] == [0] * 5
            assert run.result() == [None] * 8
        assert len(local.jobs) == 8

    def test_every_lock_is_free_in_a_child(self, shared):
        """Held by a thread that the child does not have."""
        core, langchain, llama_index = shared.values()
        core.embed_text("a"), langchain.embed_query("a"), llama_index.get_query_embedding("a")
        runtime = core._runtime
        locks = [runtime._lock, runtime.aws._lock, runtime.limiter._lock, runtime.objects._asking]
        locks += [runtime._starts._turn, runtime._starts._changed, runtime.runner._poller._changed]
        locks += [runtime.cache._lock, core._making, core._usage._lock, langchain._lock]
        locks += [llama_index._lock, langchain.model_copy()._lock]
        holding, done = threading.Event(), threading.Event()

        def hold():
            for lock in locks:
                lock.__enter__()
            for _ in range(16):
                runtime.limiter._slots.__enter__()
            holding.set()
            done.wait()
            for _ in range(16):
                runtime.limiter._slots.__exit__()
            for lock in reversed(locks):
                lock.__exit__(None, None, None)

        holder = threading.Thread(target=hold)
        holder.start()
        holding.wait()
        try:
            assert forked(lambda: [core.embed_text("a"), core.close()]) == 0
            assert forked(lambda: [langchain.embed_query("a"), langchain.model_copy().embed_query("b")]) == 0
            assert forked(lambda: llama_index.get_query_embedding("a")) == 0
        finally:
            done.set()
            holder.join()

    def test_a_child_of_a_parent_that_is_just_importing_boto3(self, child):
        """It would wait indefinitely for the module, which a thread that it does not have was importing."""
        told, complaints = child(IMPORTING).communicate(timeout=60)
        assert told.split() == ["0"], complaints

    def test_a_child_of_a_parent_that_is_just_logging(self, client):
        """The lock of a log file would be held by a thread that the child does not have."""
        file, writing = threading.Lock(), threading.Event()

        class Slow(logging.Handler):
            def emit(self, record):
                with file:
                    writing.set()
                    time.sleep(0.3)

        logger, handler = logging.getLogger("bedrock_marengo.aws"), Slow()
        client.embed_text("a")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(client.embed_text, "b")
                writing.wait()
                assert forked(lambda: client.embed_text("c")) == 0
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)

    def test_a_client_that_was_handed_in_shares_no_connection(self, local, expected):
        given = boto3.client(
            "bedrock-runtime",
            region_name=local.region_name,
            endpoint_url=local.endpoint_url,
            aws_access_key_id=local.access_key_id,
            aws_secret_access_key=local.secret_access_key,
        )
        client = MarengoClient(bedrock_client=given, bucket_owner=local.account_id)
        client.embed_text("a")  # one idle connection, which the child inherits
        with ThreadPoolExecutor(2) as pool:

            def ask():
                for text in TEXTS:
                    assert same(client.embed_text(text), expected[text])

            parents = pool.submit(ask)
            assert forked(ask) == 0
            parents.result()
        client.close()

    def test_a_run_stays_with_the_process_that_began_it(self, client, few):
        run = client.embed_many([*few, *few, *few], jobs_at_once=2)
        next(run)

        def work():
            with pytest.raises(ClosedError, match="before this process was forked"):
                list(run)
            assert len(list(client.embed_many(few))) == 2

        assert forked(work) == 0
        assert sum(done.error is None for done in run) >= 1

    def test_what_outlives_a_fork_works_in_the_child(self, client, bucket, few, video):
        """A job, a listing and a result that was not read yet ask the client, not the connections of the parent."""
        job, listing = client.start(video), client.list_media(bucket)
        assert len(list(listing)) == 8
        list(client.embed_many(few))
        (result,) = client.embed_many(few[:1])

        def work():
            assert job.status() in ("InProgress", "Completed")
            assert len(list(listing)) == 8
            assert len(result.segments) == 12
            assert listing._objects() is client._runtime.objects

        assert forked(work) == 0

    def test_a_child_forked_inside_a_call(self, client, expected):
        """By code that works for asyncio on the client's threads."""

        def work():
            assert same(client.embed_texts(TEXTS[:2]), [expected[text] for text in TEXTS[:2]])

        assert asyncio.run(client.run_async(forked, work)) == 0

    def test_a_pool_of_forked_workers(self, client, expected):
        client.embed_text("a")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # A multiprocessing.Pool ends its workers by SIGTERM, for which Ray leaves a handler in the suite's process.
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
                ask = functools.partial(ask_in_pool, PARENTS.setdefault("client", client))
                found = list(pool.map(ask, TEXTS[:8]))
        PARENTS.clear()
        assert all(same(vector, expected[text]) for text, vector in found)


PARENTS = {}

IMPORTING = """
import os, signal, threading, time, warnings

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "boto3.session":
            slow.set()
            time.sleep(0.5)

slow = threading.Event()
sys.meta_path.insert(0, Slow())
threading.Thread(target=client.embed_text, args=("a",)).start()
slow.wait()
warnings.simplefilter("ignore", DeprecationWarning)
if (forked := os.fork()) == 0:
    signal.alarm(60)
    client.embed_text("b")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))
"""


SPAWNED = """
import json, multiprocessing, sys
import numpy as np
from bedrock_marengo import MarengoClient
from langchain_marengo import MarengoEmbeddings

def ask(model, text):
    return np.asarray(model.embed_query(text), np.float32).tobytes()

if __name__ == "__main__":
    options = {k: v for k, v in json.loads(sys.argv[1]).items() if not k.startswith("aws_")}
    models = [MarengoClient(**options), MarengoEmbeddings(**options)]
    here = [ask(model, str(i)) for model in models for i in range(4)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(ask, [(model, str(i)) for model in models for i in range(4)])
    print(here == there, len(set(here)))
"""


@pytest.mark.slow
def test_a_pool_of_spawned_workers(local, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    ran = subprocess.run(
        [sys.executable, script, json.dumps(local.client_options)], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == ["True", "4"], ran.stderr


def test_a_copy_from_a_pickle_has_locks_of_its_own(shared):
    copies = [pickle.loads(pickle.dumps(model)) for model in shared.values()]
    clients = [
        (getattr(copy, "core", copy), getattr(model, "core", model))
        for copy, model in zip(copies, shared.values(), strict=True)
    ]
    assert all(copy._making is not model._making and copy._runtime is not model._runtime for copy, model in clients)
    assert all(copy._lock is not model._lock for copy, model in list(zip(copies, shared.values(), strict=True))[1:])
