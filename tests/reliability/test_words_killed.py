"""kill -9 while Marengo, Amazon Transcribe and Pegasus work on the same files: what is paid twice, and what is not."""

import random
import signal
import sys
import threading
from functools import cache

import pytest

from bedrock_marengo import Pegasus, Segmentation, Transcribe
from bedrock_marengo.s3 import claims
from marengo_local import Fault

from ..films import film

film = cache(film)
KILLS, CALLS_AT_ONCE = 20, 2
RUN = """
from bedrock_marengo import Pegasus, Segmentation, Transcribe
from bedrock_marengo.s3 import claims
claims.LEASE_SEC, claims.BEAT_SEC, claims.POLL_SEC = 1.0, 0.2, 0.1
print("ready")
given = {"transcripts": Transcribe(), "descriptions": Pegasus(per=argv[1], calls_at_once=2)}
for done in client.embed_many(argv[0], segmentation=Segmentation.fixed(6), options=["visual"], **given):
    pass
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.promise("Nothing is billed twice")
@pytest.mark.fault("kill -9 with both services on", expect="only Pegasus calls in flight may be paid for twice")
@pytest.mark.parametrize("per", ["segment", "video"])
def test_at_random_moments(local, child, connect, monkeypatch, per):
    """Each process has a file that is new, and what those before it left."""
    for name, seconds in {"LEASE_SEC": 1.0, "BEAT_SEC": 0.2, "POLL_SEC": 0.1}.items():
        monkeypatch.setattr(claims, name, seconds)
    order = random.Random(per)
    local.synthetic_sec = 12.0
    local.say("*", [(0.0, 4.0, "He shoots"), (6.0, 10.0, "And there is the goal!")])
    local.job_duration_sec = local.transcription_sec = 0.2
    local.faults = [Fault("InvokeModel", delay_sec=0.2)]
    given = {"transcripts": Transcribe(), "descriptions": Pegasus(per=per, calls_at_once=CALLS_AT_ONCE)}
    prefix, killed = f"s3://{local.bucket}/v/", 0
    for number in range(KILLS // 2):
        local.put(film(seconds=12.0, fps=2), f"v/{number}.mp4")
        process = child(RUN, prefix, per)
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(order.uniform(0.05, 1.5), process.send_signal, [signal.SIGKILL])
        timer.start()
        out, err = process.communicate(timeout=60)
        timer.cancel()
        killed += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), (out, err)
    results = list(connect().embed_many(prefix, segmentation=Segmentation.fixed(6), options=["visual"], **given))
    assert len(results) == KILLS // 2 == len(local.jobs) == local.usage.transcribe_jobs
    assert not any(done.error or done.words.errors for done in results)
    assert all(done.words.said.words(0, 6) == "He shoots" and done.words.seen.words(0, 6) for done in results)
    asked = len(results) * (2 if per == "segment" else 1)
    assert killed >= KILLS // 4
    assert asked <= local.usage.pegasus_calls <= asked + CALLS_AT_ONCE * killed
