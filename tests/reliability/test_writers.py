"""Two writers of one store, one that is killed, and one whose call fails: a source never loses all of its segments."""

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import chromadb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import SegmentNotFoundError
from langchain_marengo import MarengoEmbeddings, MarengoLoader, aadd_segments, add_segments

pytestmark = pytest.mark.promise("Replacing a source never leaves none of its segments")


@pytest.fixture
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture
def cuts(local, embeddings):
    """The segments of a video as it was, and as it is now."""

    def load(data):
        uri = local.put(data, "match.mp4")
        return MarengoLoader(uri, embeddings=embeddings, options=["visual"], show_progress=False).load()

    return load(b"the first cut"), load(b"the second cut")


def ids(documents):
    return {document.id for document in documents}


class Stepped(InMemoryVectorStore):
    """Each of its listings, writes and deletions waits for its writer's turn, and then happens as a whole."""

    turns = None

    @contextmanager
    def _step(self):
        inside = getattr(_now, "inside", False)
        if self.turns and not inside:
            self.turns.take()
        _now.inside = True
        try:
            yield
        finally:
            _now.inside = inside

    @property
    def store(self):
        with self._step():
            return self._rows

    @store.setter
    def store(self, rows):
        self._rows = rows

    def add_documents(self, documents, **settings):
        with self._step():
            return super().add_documents(documents, **settings)

    def delete(self, ids=None, **settings):
        with self._step():
            super().delete(ids, **settings)


_now = threading.local()


class Turns:
    """Whose turn it is: writers 0 and 1 by a schedule, then whoever is left."""

    def __init__(self, schedule):
        self.schedule, self.left, self.turned = list(schedule), {0, 1}, threading.Condition()

    def take(self):
        with self.turned:
            assert self.turned.wait_for(lambda: self._next() == _now.writer, 20)
            del self.schedule[:1]
            self.turned.notify_all()

    def _next(self):
        while self.schedule and self.schedule[0] not in self.left:
            del self.schedule[0]
        return self.schedule[0] if self.schedule else min(self.left)

    def run(self, writer, call):
        _now.writer = writer
        try:
            call()
        finally:
            with self.turned:
                self.left.discard(writer)
                self.turned.notify_all()


class TestTwoWriters:
    @example(schedule=[0, 0, 1, 1] * 4, before="", chunk_size=500)
    @example(schedule=[0, 1] * 9, before="old, new", chunk_size=500)
    @example(schedule=[0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0], before="old, new", chunk_size=500)
    @given(
        schedule=st.lists(st.integers(0, 1), max_size=30),
        before=st.sampled_from(["", "old", "new", "old, new"]),
        chunk_size=st.sampled_from([500, 2]),
    )
    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    def test_of_two_versions_leave_one_or_both_whatever_comes_first(
        self, embeddings, cuts, schedule, before, chunk_size
    ):
        old, new = cuts
        store = Stepped(embeddings)
        for name, documents in {"old": old, "new": new}.items():
            if name in before:
                add_segments(store, documents)
        store.turns = turns = Turns(schedule)
        with ThreadPoolExecutor(2) as pool:
            for run in [
                pool.submit(turns.run, i, lambda d=d: add_segments(store, d, replace=True, chunk_size=chunk_size))
                for i, d in enumerate(cuts)
            ]:
                run.result()
        store.turns = None
        left = set(store.store)
        assert ids(old) <= left or ids(new) <= left
        add_segments(store, new, replace=True)
        assert set(store.store) == ids(new)

    async def test_async(self, embeddings, cuts):
        store = InMemoryVectorStore(embeddings)
        both, old, new = threading.Barrier(2), *cuts

        def documents(of):
            yield from of
            both.wait(10)

        await asyncio.gather(*(aadd_segments(store, documents(of), replace=True, chunk_size=len(of)) for of in cuts))
        assert ids(old) <= set(store.store) or ids(new) <= set(store.store)

    def test_of_langchains_index_leave_one_or_both(self, embeddings, cuts):
        store, records = InMemoryVectorStore(embeddings), InMemoryRecordManager("videos")
        records.create_schema()
        both = threading.Barrier(2)

        class Documents(list):
            def __iter__(self):
                yield from super().__iter__()
                both.wait(10)

        def run(documents):
            how = {"cleanup": "scoped_full", "source_id_key": "source", "key_encoder": lambda d: d.id}
            index(Documents(documents), records, store, batch_size=len(documents), **how)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, cuts))
        old, new = map(ids, cuts)
        assert old <= set(store.store) or new <= set(store.store)


class TestOneWriter:
    def test_deletes_nothing_that_another_added_meanwhile(self, embeddings, cuts):
        store = InMemoryVectorStore(embeddings)
        old, new = cuts
        add_segments(store, old[:1])

        def documents():
            yield from old
            add_segments(store, new)

        add_segments(store, documents(), replace=True, chunk_size=len(old))
        assert set(store.store) == ids(old) | ids(new)

    def test_of_no_documents_deletes_nothing(self, embeddings, cuts):
        store = InMemoryVectorStore(embeddings)
        add_segments(store, cuts[0])
        assert add_segments(store, [], replace=True) == []
        assert set(store.store) == ids(cuts[0])

    def test_that_fails_halfway_deletes_nothing(self, embeddings, cuts):
        store = InMemoryVectorStore(embeddings)
        old, new = cuts
        add_segments(store, old)
        unknown = Document(new[0].page_content.replace(new[0].metadata["job_id"], "0" * 16), metadata=new[0].metadata)
        with pytest.raises(SegmentNotFoundError):
            add_segments(store, [*new, unknown], replace=True, chunk_size=1)
        assert ids(old) <= set(store.store)

    @pytest.mark.parametrize("step", [2, 3, 4])
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.slow
    def test_that_is_killed_leaves_the_old_segments_or_the_new(self, local, embeddings, cuts, tmp_path, step):
        old, new = cuts
        add_segments(Chroma("videos", embeddings, persist_directory=str(tmp_path)), old)
        chromadb.api.shared_system_client.SharedSystemClient.clear_system_cache()
        child = multiprocessing.get_context("spawn").Process(
            target=replace_and_die, args=(local.client_options, str(tmp_path), new, step)
        )
        child.start()
        child.join(120)
        assert child.exitcode in (0, -signal.SIGKILL)
        store = Chroma("videos", embeddings, persist_directory=str(tmp_path))
        left = set(store.get()["ids"])
        assert ids(old) <= left or ids(new) <= left
        add_segments(store, new, replace=True)
        assert set(store.get()["ids"]) == ids(new)


def replace_and_die(options, folder, documents, step):
    """Replaces a source and is killed before its step-th call to the store."""
    steps = iter(range(step))

    class Dying(Chroma):
        def _count(self):
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        def get(self, *args, **settings):
            self._count()
            return super().get(*args, **settings)

        def add_documents(self, *args, **settings):
            self._count()
            return super().add_documents(*args, **settings)

        def delete(self, *args, **settings):
            self._count()
            return super().delete(*args, **settings)

    store = Dying("videos", MarengoEmbeddings(**options), persist_directory=folder)
    add_segments(store, documents, replace=True)
