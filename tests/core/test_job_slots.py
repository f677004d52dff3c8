"""job_slots=: each job has a slot from its start to its end, and each slot is given back, whatever happens."""

import threading
from collections import Counter

import pytest

from bedrock_marengo import ClosedError, ServiceError
from marengo_local import Fault

COUNT = 8


class Slots:
    """A user's own, in this process: the slots that are taken, and what became of the others."""

    def __init__(self, most):
        self.most, self.taken, self.peak, self.outcomes = most, set(), 0, Counter()
        self.changed = threading.Condition()

    def acquire(self, wait_sec):
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.taken) < self.most, wait_sec):
                return None
            slot = f"slot {self.outcomes.total() + len(self.taken)}"
            self.taken.add(slot)
            self.peak = max(self.peak, len(self.taken))
            return slot

    def release(self, slot, outcome):
        with self.changed:
            self.taken.remove(slot)
            self.outcomes[outcome] += 1
            self.changed.notify_all()


@pytest.fixture
def slots(local):
    local.job_duration_sec = 0.2
    return Slots(3)


@pytest.fixture
def client(connect, slots):
    return connect(job_slots=slots)


@pytest.fixture
def videos(local):
    return [local.put(bytes([i]), f"v/{i}.mp4") for i in range(COUNT)]


def test_jobs_keep_to_the_slots(client, local, slots, videos):
    assert not any(done.error for done in client.embed_many(videos))
    assert slots.peak == 3 and not slots.taken and slots.outcomes == {"ended": COUNT}


async def test_awaitables_too(client, local, slots, videos):
    assert not any([done.error async for done in client.aembed_many(videos)])
    assert slots.peak == 3 and not slots.taken and slots.outcomes == {"ended": COUNT}


def test_two_clients_share_them(client, connect, local, slots, videos):
    runs = [client.embed_many(videos[:4]), connect(job_slots=slots).embed_many(videos[4:])]
    threads = [threading.Thread(target=list, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slots.peak == 3 and slots.outcomes == {"ended": COUNT} and len(local.jobs) == COUNT


def test_a_refused_start_says_so(client, local, slots, videos):
    local.max_jobs = 1
    assert not any(done.error for done in client.embed_many(videos[:3]))
    assert slots.outcomes["refused"] and slots.outcomes["ended"] == 3 and not slots.taken


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerException"])
def test_a_start_that_is_repeated_takes_another(client, local, slots, video, code):
    local.faults = [Fault("StartAsyncInvoke", 1.0, code, times=1)]
    client.embed_media(video)
    assert slots.outcomes == {"unused": 1, "ended": 1} and not slots.taken


def test_a_start_that_fails_gives_it_back(client, local, slots, video):
    local.faults = [Fault("StartAsyncInvoke", error="AccessDeniedException")]
    with pytest.raises(ServiceError):
        client.embed_media(video)
    assert slots.outcomes == {"unused": 1} and not slots.taken


def test_a_job_that_no_one_waits_for_keeps_none(client, slots, video):
    client.collect(client.start(video))
    assert slots.outcomes == {"unused": 1} and not slots.taken


def test_what_is_done_or_joined_takes_none(client, connect, slots, video):
    connect().start(video)
    client.embed_media(video)
    client.embed_media(video)
    assert not slots.outcomes and not slots.taken


def test_a_client_that_is_closed_while_it_waits_for_one_takes_none(client, local, slots, video):
    slots.most = 0
    errors = []

    def embed():
        try:
            client.embed_media(video)
        except ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=embed)
    thread.start()
    thread.join(0.7)
    client.close()
    thread.join(5)
    assert errors and not thread.is_alive() and not slots.outcomes and not len(local.jobs)
