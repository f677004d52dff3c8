"""Amazon Transcribe: processes that die at any request, meet each other or lose replies pay for a file once."""

import contextlib
import random
import signal
import sys

import pytest

from bedrock_marengo import Transcribe
from marengo_local import Fault

from .turns import Client, DiedError

pytestmark = pytest.mark.promise("Nothing is billed twice")

SAID = [(0.0, 4.0, "And there is the goal!")]
MANY = """
from bedrock_marengo import Transcribe
for done in client.embed_many(argv[0], transcripts=Transcribe()):
    print(done.error or done.words.errors or done.words.said.words(0, 18))
"""


@pytest.fixture(autouse=True)
def _said(local):
    local.say("*", SAID)


@pytest.fixture
def film(local):
    return local.put(b"a video", "match.mp4")


class Dying(Client):
    """Makes one request at a time. Faults name Transcribe's operations as the stand-in does."""

    def __init__(self, local):
        super().__init__(local)
        self.found = []

    def begin(self, uri):
        def run():
            with contextlib.suppress(DiedError):
                self.found.append(self.client.transcribe(uri).words(0, 18))

        self.turns.run(run)

    def step(self, *, dies=False):
        turn = self.turns.next()
        if turn.op.endswith(("TranscriptionJob", "TranscriptionJobs")):
            turn.op = f"transcribe:{turn.op}"
        self.advance(dies=dies)


def requests_of(local, uri, most=60):
    """How many requests one transcription makes."""
    client, count = Dying(local), 0
    client.begin(uri)
    while client.turns.next() is not None and count < most:
        client.step()
        count += 1
    assert client.found == ["And there is the goal!"]
    return count


@pytest.mark.fault("kill -9 during a transcription", expect="the next run joins or finds it; it is billed once")
class TestKilled:
    @pytest.mark.parametrize("reply", ["lost", "received"])
    def test_at_each_request(self, local, connect, film, reply):
        total = requests_of(local, local.put(b"to count", "count.mp4"))
        local.usage.reset()
        for at in range(total):
            uri = local.put(bytes([at]), f"{reply}/{at}.mp4")
            first = Dying(local)
            first.begin(uri)
            for _ in range(at):
                if first.turns.next() is not None:
                    first.step()
            if first.turns.next() is not None and reply == "lost":
                first.step(dies=True)
            first.turns.die()
            assert connect().transcribe(uri).words(0, 18) == "And there is the goal!"
        assert local.usage.transcribe_jobs == total

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
    @pytest.mark.parametrize("moment", ["StartTranscriptionJob", "GetTranscriptionJob", "s3:PutObject", "Job"])
    def test_in_the_middle_of_a_run(self, local, bucket, child, connect, wait_for, moment):
        local.transcription_sec = 0.5
        process = child(MANY, bucket)
        seen = moment if ":" in moment or moment == "Job" else f"transcribe:{moment}"
        wait_for(lambda: len(local.jobs) >= 4 if moment == "Job" else local.calls[seen] >= 5)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        results = list(connect().embed_many(bucket, transcripts=Transcribe()))
        assert [done.words.said.words(0, 18) for done in results] == ["And there is the goal!"] * 8
        assert len(local.transcriptions) == len(local.jobs) == 8

    def test_and_transcribe_forgets_its_job_before_the_next_run(self, local, connect, film):
        first = Dying(local)
        first.begin(film)
        while not any(job.done for job in local.transcriptions):
            first.step()
        first.turns.die()
        local.transcriptions.reset()
        # Its transcript is there.
        assert connect().transcribe(film).words(0, 18) == "And there is the goal!"
        assert len(local.transcriptions) == 0


@pytest.mark.fault("two processes transcribe one file", expect="one job; both read its words")
class TestTwoAtOnce:
    @pytest.mark.parametrize("seed", range(8))
    def test_in_any_order_of_their_requests(self, local, film, seed):
        order, clients = random.Random(seed), [Dying(local), Dying(local)]
        for client in clients:
            client.begin(film)
        while waiting := [client for client in clients if client.turns.next() is not None]:
            order.choice(waiting).step()
        assert [client.found for client in clients] == [["And there is the goal!"]] * 2
        assert local.usage.transcribe_jobs == 1
        assert sum(client.client.usage.services["transcribe"].calls for client in clients) == 1

    def test_as_processes(self, local, bucket, child):
        local.transcription_sec = 0.3
        ended = [process.communicate(timeout=60) for process in [child(MANY, bucket) for _ in range(2)]]
        assert ended == [("And there is the goal!\n" * 8, "")] * 2
        assert len(local.transcriptions) == len(local.jobs) == 8


@pytest.mark.fault("Transcribe throttles, fails and drops replies at random", expect="retried; each file billed once")
def test_random_faults(local, bucket, client):
    local.faults = [
        fault
        for op in ("StartTranscriptionJob", "GetTranscriptionJob", "ListTranscriptionJobs")
        for fault in (
            Fault(f"transcribe:{op}", 0.1, error="ThrottlingException"),
            Fault(f"transcribe:{op}", 0.1, error="InternalFailureException"),
            Fault(f"transcribe:{op}", 0.1, drop="after"),
            Fault(f"transcribe:{op}", 0.1, drop="mid-body"),
        )
    ]
    results = list(client.embed_many(bucket, transcripts=Transcribe()))
    assert [done.words.said.words(0, 18) for done in results] == ["And there is the goal!"] * 8
    assert len(local.transcriptions) == 8
    usage = client.usage.services["transcribe"]
    assert (usage.calls, usage.unknown) == (8, 0) and usage.usd == pytest.approx(local.usage.transcribe_usd)
