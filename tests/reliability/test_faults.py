"""Faults of calls: transient ones are retried, others are reported, and nothing is paid for twice."""

import re
import socket
import threading
import time
import warnings

import numpy as np
import pytest
from botocore.config import Config

import marengo_local
from bedrock_marengo import MarengoClient, MarengoWarning, OutputError, ServiceError
from bedrock_marengo.aws import start_rate
from marengo_local import Fault

pytestmark = pytest.mark.promise("Nothing is lost")

CONTROL = ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes")
S3 = ("s3:ListObjectsV2", "s3:GetObject", "s3:PutObject")


def everywhere(*ways):
    """Faults that strike the calls of a run one after another: on each operation the first call, the second, ..."""
    return [Fault(op, when=i, **way) for op in (*CONTROL, *S3) for i, way in enumerate(ways, 1)]


def refusals(*errors, s3):
    """The same with errors, which S3 has words of its own for."""
    return [
        *(Fault(op, when=i, error=error) for op in CONTROL for i, error in enumerate(errors, 1)),
        *(Fault(op, when=i, **error) for op in S3 for i, error in enumerate(s3, 1)),
    ]


PASSING = {
    "throttling": lambda: refusals("ThrottlingException", "ThrottlingException", s3=[{"error": "SlowDown"}]),
    "5xx": lambda: refusals(
        *("InternalServerException", "ServiceUnavailableException"),
        s3=[{"error": "InternalError"}, {"error": "ServiceUnavailable"}],
    ),
    "408 and 424": lambda: refusals(
        *("ModelTimeoutException", "ModelErrorException"), s3=[{"error": "RequestTimeout", "status": 408}]
    ),
    "dropped": lambda: everywhere({"drop": "before"}, {"drop": "after"}, {"drop": "mid-body"}),
    "a stranger's reply": lambda: everywhere(*({"body": body} for body in (b"<html><p>Wait</p></html>", b"", b"[]"))),
}


@pytest.fixture
def two(bucket):
    return [f"{bucket}{i}.mp4" for i in range(2)]


@pytest.fixture
def run(local, two, truths, same, keys):
    """Runs embed_many over 2 videos: it must give what a clean run gives, for one job each."""
    wanted = truths(two)

    def run(client):
        done = {d.uri: d for d in client.embed_many(two)}
        assert [done[uri].error for uri in two] == [None] * 2
        assert all(same(done[uri].segments, wanted[uri]) for uri in two)
        assert len(local.jobs) == 2 and keys("void.json") == []

    return run


@pytest.mark.fault(
    "Throttling; 5xx, 408 or 424; a connection dropped before, in or after a reply; a proxy's page",
    expect="retried until it passes; the same result, one job",
)
@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_waited_out_and_gives_what_a_clean_run_gives(client, local, run, name):
    local.faults = PASSING[name]()
    local.job_duration_sec = 0.2
    run(client)
    # Jobs are asked for one by one or by a list, as it comes.
    assert {fault.op for fault in local.faults if fault.hits} >= {"StartAsyncInvoke", *S3}


@pytest.mark.fault("A proxy's page instead of a listing", expect="never read as an empty listing; the call is retried")
def test_a_proxys_page_proves_nothing_absent(client, local, bucket):
    local.faults = [Fault("s3:ListObjectsV2", body=b"<html/>", times=1)]
    # Taken for a listing it would have said that there is nothing to embed.
    assert len(list(client.embed_many(bucket))) == 8


@pytest.mark.fault("A proxy keeps answering for the service", expect="ServiceError; the next run finds the job")
def test_a_stranger_who_goes_on_answering_is_an_error_and_costs_nothing_twice(connect, local, video, monkeypatch):
    monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda _: 0.0)
    local.faults = [Fault("StartAsyncInvoke", body=b"<html/>")]
    with pytest.raises(ServiceError, match=r"StartAsyncInvoke for .*match\.mp4: .*the response was cut off"):
        connect().embed_media(video)
    local.faults = []
    # The service had heard: its job is found by its token.
    assert len(connect().embed_media(video)) == 12 and len(local.jobs) == 1


@pytest.mark.fault("An unforeseen error while jobs are polled", expect="each waiting file polls its own job")
def test_an_unexpected_error_in_the_poller_leaves_no_one_waiting(connect, local, bucket, monkeypatch):
    client = connect()
    asked = []

    def fails(arns, oldest_sec):
        asked.append(arns)
        raise AttributeError("a botocore of tomorrow")

    monkeypatch.setattr(client._runtime.runner._poller, "_running", fails)
    local.job_duration_sec = 0.3
    assert [done.error for done in client.embed_many([f"{bucket}0.mp4", f"{bucket}1.mp4"])] == [None, None]
    assert asked


@pytest.mark.fault("Connection refused for a moment", expect="retried; nothing to see")
def test_a_service_that_is_away_for_a_moment(local, bucket):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {**local.client_options, "endpoint_url": f"http://127.0.0.1:{port}"}
    found = []
    with MarengoClient(**options) as client:
        thread = threading.Thread(target=lambda: found.append(client.embed_media(f"{bucket}0.mp4")))
        thread.start()
        time.sleep(0.3)
        # Its S3 is the same; only the jobs' service was not there yet.
        with marengo_local.serve(port=port, bucket=f"{local.bucket}-x", synthetic_sec=18.0) as late:
            thread.join()
            assert len(found[0]) == 12 and len(late.jobs) == 1


@pytest.mark.fault("Connection refused for longer", expect="ServiceError that says what to check; nothing is billed")
def test_a_service_that_stays_away_is_told_and_costs_nothing(connect, local, video, monkeypatch):
    monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda _: 0.0)
    away = connect(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(ServiceError, match=r"StartAsyncInvoke for .*EndpointConnectionError.*AWS did not respond"):
        away.embed_media(video)
    assert len(connect().embed_media(video)) == 12 and len(local.jobs) == 1


@pytest.mark.fault("A slow body", expect="read to its end")
@pytest.mark.parametrize("op", ["InvokeModel", "s3:GetObject"])
def test_a_slow_body_is_read_to_its_end(client, local, video, truth, same, op):
    wanted = truth(video)
    local.faults = [Fault(op, body_sec=0.4, times=2)]
    assert same(client.embed_media(video), wanted) and client.embed_text("a").shape == (512,)
    assert local.faults[0].hits and len(local.jobs) == 1


@pytest.mark.fault("A reply that stands still", expect="the call is repeated after read_timeout; one job")
@pytest.mark.parametrize("op", ["InvokeModel", "StartAsyncInvoke", "s3:GetObject"])
def test_a_body_that_never_comes_is_asked_for_again(connect, local, video, truth, same, op):
    wanted = truth(video)
    client = connect(config=Config(read_timeout=1.0))
    # The first is done and never reported.
    local.faults = [Fault(op, body_sec=60.0, times=1)]
    assert same(client.embed_media(video), wanted) and client.embed_text("a").shape == (512,)
    assert local.faults[0].hits == 1 and len(local.jobs) == 1


@pytest.mark.fault(
    "Credentials that expire in the middle of a run",
    expect="ServiceError for each file left; a run with new ones pays nothing again",
)
class TestCredentialsThatExpire:
    """In the middle of a run, at any point: each file reports it, and a run with new ones pays for nothing again."""

    @pytest.mark.parametrize("stands", ["before the start", "while the jobs run", "before the outputs are read"])
    def test_a_run_with_new_ones_goes_on(self, connect, local, run, two, held, stands):
        if stands != "while the jobs run":
            held.set()
        if stands == "before the start":
            local.faults = expired(("StartAsyncInvoke",))
        elif stands == "before the outputs are read":
            local.faults = expired(("s3:GetObject",))
        client = connect()
        if stands == "while the jobs run":
            for uri in two:
                client.start(uri)
            local.faults = expired((*CONTROL, *S3))
        errors = [done.error for done in client.embed_many(two)]
        assert all("refresh them and run again; finished work is kept" in str(error) for error in errors)
        # What no wait can cure is not tried again.
        assert sum(fault.hits for fault in local.faults) <= 2
        assert len(local.jobs) == (0 if stands == "before the start" else 2)
        local.faults = []
        held.set()
        run(connect())

    def test_between_start_and_collect(self, connect, local, video, truth, same):
        wanted = truth(video)
        client = connect()
        job = client.start(video)
        local.faults = expired((*CONTROL, *S3))
        with pytest.raises(ServiceError, match="Expired"):
            client.collect(job)
        local.faults = []
        assert same(connect().collect(job), wanted) and len(local.jobs) == 1

    def test_while_a_local_file_is_uploaded(self, client, local, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"a")
        local.faults = expired(("s3:PutObject",))
        with pytest.raises(ServiceError, match=r"a\.mp4 -> s3://.*ExpiredToken.*refresh them"):
            client.embed_media(tmp_path / "a.mp4")
        local.faults = []
        assert len(client.embed_media(tmp_path / "a.mp4")) == 12 and len(local.jobs) == 1


def expired(ops):
    return [Fault(op, error="ExpiredToken" if op.startswith("s3:") else "ExpiredTokenException") for op in ops]


@pytest.mark.fault(
    "Access denied on the output, or where results are kept",
    expect="ServiceError that names the operation and place; the job and what was read are kept",
)
class TestAccessDenied:
    def test_to_the_output_once_it_is_written(self, connect, local, video, truth, same):
        wanted = truth(video)
        job = connect().start(video)
        for op in ("s3:ListObjectsV2", "s3:GetObject"):
            local.faults = [Fault(op, error="AccessDenied")]
            with pytest.raises(ServiceError, match=rf"{op[3:]} .*AccessDenied.*Check IAM"):
                connect().collect(job)
        local.faults = []
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1

    def test_404_and_then_403(self, connect, local, video, truth, same):
        wanted = truth(video)
        local.faults = [
            Fault("s3:GetObject", error="NoSuchKey", times=1, when=reads_output),
            Fault("s3:GetObject", error="AccessDenied", when=reads_output),
        ]
        with pytest.raises(ServiceError, match="AccessDenied"):
            connect().embed_media(video)
        local.faults = []
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1

    def test_to_write_where_an_image_would_be_kept_costs_no_image(self, connect, local, png):
        uris = [local.put(png(i), f"i/{i}.png") for i in range(3)]
        local.faults = [Fault("s3:PutObject", error="AccessDenied")]
        errors = [done.error for done in connect().embed_many(uris)]
        assert all("PutObject" in str(error) for error in errors) and local.calls["InvokeModel"] == 0
        local.faults = []
        assert [done.error for done in connect().embed_many(uris)] == [None] * 3 and local.calls["InvokeModel"] == 3

    def test_to_note_that_an_output_was_read_does_not_lose_it(self, connect, local, video, truth, same):
        wanted = truth(video)
        local.faults = [Fault("s3:PutObject", error="AccessDenied", when=3)]
        with pytest.warns(MarengoWarning, match=r"was read, but request.json could not be updated.*AccessDenied"):
            assert same(connect().embed_media(video), wanted)
        assert local.faults[0].hits == 1 and len(local.jobs) == 1

    def test_to_mark_an_output_as_useless_says_both(self, connect, local, video):
        local.mutate_output = lambda rows: b"<html>"
        local.faults = [Fault("s3:PutObject", error="AccessDenied", when=lambda c: c.body["key"].endswith("void.json"))]
        with pytest.raises(ServiceError, match=r"output\.json: .*cut off.*could not be marked.*AccessDenied"):
            connect().embed_media(video)
        # Another attempt would be met by the same refusal.
        assert len(local.jobs) == 1

    def test_a_note_of_a_start_that_is_refused_starts_nothing_twice(self, connect, local, video, truth, same):
        wanted = truth(video)
        local.faults = [Fault("s3:PutObject", error="AccessDenied", when=2)]
        with pytest.raises(ServiceError, match=r"PutObject .*request\.json"):
            connect().embed_media(video)
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1


def reads_output(call):
    return call.body["key"].endswith("/output.json")


@pytest.mark.fault(
    "Starts refused indefinitely (a quota of 0)", expect="a warning after a minute; the start is retried until it works"
)
def test_starts_that_are_refused_for_ever_are_told_of(connect, local, video, monkeypatch):
    monkeypatch.setattr(start_rate, "PATIENCE_SEC", 0.3)
    local.max_jobs = 0
    client = connect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=lambda: client.embed_media(video))
        thread.start()
        while not caught and thread.is_alive():
            time.sleep(0.05)
        # It goes on being asked: as soon as the quota allows, the job is started.
        local.max_jobs = None
        thread.join()
    assert re.search(
        r"refused to start any job for .*ServiceQuotaExceededException.*quota of 0", str(caught[0].message)
    )
    assert len(caught) == 1 and len(local.jobs) == 1


@pytest.mark.fault("A proxy's page instead of a text's vector", expect="OutputError")
def test_a_text_whose_reply_is_a_strangers_is_no_vector(client, local):
    local.faults = [Fault("InvokeModel", body=b"<html/>", times=1)]
    with pytest.raises(OutputError, match="not in Marengo's format"):
        client.embed_text("a")
    assert np.isfinite(client.embed_text("a")).all()
