"""What is logged and measured: a log record, a counter and a span for what happens to a file."""

import logging
import re
import subprocess
import sys
import textwrap

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bedrock_marengo import InputError, JobError, ServiceError, instrumentation
from bedrock_marengo.instrumentation import EVENTS, LABELS, METRICS
from marengo_local import Fault

VIDEO_USD = 18 * 0.0007


@pytest.fixture
def logged(caplog):
    """(level, event) of the records of a block, or their texts."""
    caplog.set_level(logging.DEBUG, "bedrock_marengo")

    def logged(level=logging.DEBUG):
        ours = [record for record in caplog.records if record.name.startswith("bedrock_marengo")]
        return [record for record in ours if record.levelno >= level]

    return logged


def events_of(records):
    return [(record.levelname, record.event) for record in records]


class TestLogs:
    def test_a_job_is_started_priced_and_completed(self, client, video, logged):
        client.embed_media(video)
        assert events_of(logged(logging.INFO)) == [
            ("INFO", "file started"),
            ("INFO", "job priced"),
            ("INFO", "file completed"),
        ]
        priced = logged(logging.INFO)[1]
        assert priced.getMessage() == f"{video} costs {VIDEO_USD:.4f} USD: 18.0 s of video"
        assert (priced.usd, priced.media_sec, priced.source) == (pytest.approx(VIDEO_USD), 18.0, video)

    def test_a_job_that_is_done_is_reused_and_costs_nothing(self, client, video, logged):
        client.embed_media(video)
        before = len(logged(logging.INFO))
        client.embed_media(video)
        assert events_of(logged(logging.INFO)[before:]) == [("INFO", "file reused"), ("INFO", "file completed")]

    def test_a_job_that_is_running_is_joined(self, client, connect, video, held, logged):
        job = client.start(video)
        connect().start(video)
        held.set()
        client.collect(job)
        assert [event for _, event in events_of(logged(logging.INFO))] == [
            "file started",
            "file joined",
            "job priced",
            "file completed",
        ]

    def test_each_request_of_each_service_is_logged_with_its_time(self, client, video, logged):
        client.embed_media(video)
        client.embed_text("a dog")
        requests = [record for record in logged() if record.event == "request"]
        made = {f"{record.service} {record.operation}" for record in requests}
        assert {"s3 ListObjectsV2", "s3 GetObject", "bedrock-runtime StartAsyncInvoke"} < made
        assert "bedrock-runtime InvokeModel" in made
        assert all(record.levelname == "DEBUG" and 0 < record.seconds < 60 for record in requests)
        assert {record.outcome for record in requests} == {"HTTP 200"}

    def test_a_request_without_a_response_is_logged(self, connect, logged):
        client = connect(endpoint_url="http://127.0.0.1:9")
        client._runtime.limiter._attempts = 2
        with pytest.raises(ServiceError):
            client.embed_text("a dog")
        assert {record.outcome for record in logged() if record.event == "request"} == {"EndpointConnectionError"}
        [retried] = [record for record in logged(logging.WARNING) if record.event == "call retried"]
        assert (retried.operation, retried.code, retried.attempt) == ("InvokeModel", "EndpointConnectionError", 2)

    @pytest.mark.parametrize(
        ("fault", "event"),
        [
            (Fault("InvokeModel", error="InternalServerException", times=1), "call retried"),
            (Fault("InvokeModel", error="ThrottlingException", times=1), "calls paused"),
            (Fault("StartAsyncInvoke", error="InternalServerException", times=1), "call retried"),
            (Fault("StartAsyncInvoke", error="ThrottlingException", times=1), "starts slowed"),
            (Fault("StartAsyncInvoke", error="ServiceQuotaExceededException", times=1), "jobs limited"),
            (Fault("s3:GetObject", error="SlowDown", times=1), "request retried"),
            (Fault("Job", error="Failed", message="internal error", times=1), "file retried"),
        ],
        ids=lambda value: f"{value.op} {value.error}" if isinstance(value, Fault) else "",
    )
    def test_a_retry_and_a_back_off_are_warnings(self, client, video, local, logged, fault, event):
        local.faults = [fault]
        client.embed_text("a dog")
        client.embed_media(video)
        assert events_of(logged(logging.WARNING)) == [("WARNING", event)]

    def test_what_a_listing_skips_is_one_warning(self, client, local, logged):
        for name in ("a.mp4", "b.txt", "c.txt", "d.mp4"):
            local.put(b"" if name == "d.mp4" else b"x", f"videos/{name}")
        assert len(list(client.list_media(f"s3://{local.bucket}/videos/"))) == 1
        [warned] = logged(logging.WARNING)
        assert warned.getMessage() == "Skipped 3 files: 2 not media, 1 empty"
        skipped = [(record.source, record.reason) for record in logged() if record.event == "file skipped"]
        assert skipped == [
            ("videos/b.txt", "not media"),
            ("videos/c.txt", "not media"),
            ("videos/d.mp4", "empty"),
        ]

    @pytest.mark.parametrize("many", [False, True], ids=["embed_media", "embed_many"])
    def test_what_is_given_up_is_an_error_once(self, client, video, local, logged, many):
        local.faults = [Fault("Job", error="Failed", message="the media can't be read")]
        if many:
            assert [done.error is not None for done in client.embed_many([video, "not a file"])] == [True, True]
        else:
            with pytest.raises(JobError):
                client.embed_media(video)
        failed = [record for record in logged(logging.ERROR) if record.source == video]
        assert events_of(failed) == [("ERROR", "file failed")]
        assert "the media can't be read" in failed[0].getMessage()
        assert len(logged(logging.ERROR)) == 1 + many

    def test_what_the_budget_leaves_is_no_error(self, client, video, logged):
        list(client.embed_many([video], max_cost_usd=0.001, assume_duration_sec=18))
        assert events_of(logged(logging.INFO)) == [("WARNING", "file left")]

    def test_nothing_is_printed_unless_logging_is_configured(self, local, video):
        local.faults = [Fault("Job", error="Failed", message="bad")]
        program = f"""
            from bedrock_marengo import MarengoClient
            with MarengoClient(**{local.client_options!r}) as client:
                [done] = client.embed_many([{video!r}])
                assert done.error
        """
        assert run(program) == ("", "")


@pytest.fixture(scope="module")
def exported():
    """OpenTelemetry as a program configures it, with exporters to memory. Once a process: so OpenTelemetry wants it."""
    spans, delta = InMemorySpanExporter(), {Counter: AggregationTemporality.DELTA}
    reader = InMemoryMetricReader(preferred_temporality=delta)
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))
    return spans, reader


@pytest.fixture
def spans(exported):
    exported[0].clear()
    return lambda: [span for span in exported[0].get_finished_spans() if span.name == "marengo.embed"]


@pytest.fixture
def counted(exported):
    """Metric -> sum, of what is counted from here on."""
    exported[1].get_metrics_data()

    def counted(*labels):
        data = exported[1].get_metrics_data()
        found = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else []:
            for point in metric.data.data_points:
                key = (metric.name, *(point.attributes[name] for name in labels if name in point.attributes))
                found[key] = found.get(key, 0) + point.value
        return found

    return counted


class TestOpenTelemetry:
    def test_a_file_is_a_span_in_the_callers_span(self, client, video, spans):
        with trace.get_tracer("app").start_as_current_span("ingest") as caller:
            list(client.embed_many([video]))
        [span] = spans()
        assert span.parent.span_id == caller.get_span_context().span_id
        job = client.start(video).id
        assert dict(span.attributes) == {
            "marengo.source": video,
            "marengo.kind": "video",
            "marengo.model": "3.0",
            "marengo.job": job,
            "marengo.stage": "completed",
        }
        assert [event.name for event in span.events] == ["file started", "job priced", "file completed"]

    async def test_so_it_is_for_asyncio(self, client, video, spans):
        with trace.get_tracer("app").start_as_current_span("ingest") as caller:
            assert [done.error async for done in client.aembed_many([video])] == [None]
        [span] = spans()
        assert span.parent.span_id == caller.get_span_context().span_id

    def test_a_file_that_failed_is_a_span_with_an_error(self, client, video, local, spans):
        local.faults = [Fault("Job", error="Failed", message="the media can't be read")]
        with pytest.raises(JobError):
            client.embed_media(video)
        [span] = spans()
        assert span.attributes["marengo.stage"] == "failed"
        assert span.status.status_code == trace.StatusCode.ERROR
        assert "the media can't be read" in span.status.description

    def test_jobs_seconds_and_dollars_are_counted(self, client, video, png, tmp_path, counted):
        client.embed_media(video)
        client.embed_media(video)
        client.embed_texts(["a dog", "a cat"])
        (tmp_path / "still.png").write_bytes(png())
        client.embed_image(tmp_path / "still.png")
        found = counted("stage", "kind")
        assert found["marengo.jobs", "started", "video"] == 1
        assert found["marengo.jobs", "reused", "video"] == 1
        assert found["marengo.jobs", "completed", "video"] == 2
        assert found["marengo.media", "video"] == 18.0
        assert found["marengo.cost", "video"] == pytest.approx(VIDEO_USD)
        assert found["marengo.cost", "text"] == pytest.approx(2 * 0.00007)
        assert found["marengo.cost", "image"] == pytest.approx(0.0001)
        assert sum(v for (name, *_), v in found.items() if name == "marengo.cost") == pytest.approx(client.usage.usd)

    def test_retries_are_counted_and_the_queue_empties(self, client, video, local, counted):
        local.faults = [
            Fault("InvokeModel", error="ThrottlingException", times=1),
            Fault("StartAsyncInvoke", error="InternalServerException", times=2),
        ]
        client.embed_text("a dog")
        client.embed_media(video)
        found = counted("operation", "code")
        assert found["marengo.retries", "InvokeModel", "ThrottlingException"] == 1
        assert found["marengo.retries", "StartAsyncInvoke", "InternalServerException"] == 2
        assert found["marengo.queue",] == 0

    def test_without_it_nothing_is_imported(self, local, video):
        """It is not looked for: a program that exports telemetry has imported it."""
        program = f"""
            import sys
            for name in ("opentelemetry", "opentelemetry.trace", "opentelemetry.metrics"):
                sys.modules[name] = None
            from bedrock_marengo import MarengoClient
            with MarengoClient(**{local.client_options!r}) as client:
                client.embed_media({video!r})
                client.embed_text("a dog")
        """
        assert run(program) == ("", "")
        program = f"""
            import sys
            from bedrock_marengo import MarengoClient
            with MarengoClient(**{local.client_options!r}) as client:
                client.embed_media({video!r})
                client.embed_text("a dog")
            assert not [name for name in sys.modules if name.startswith("opentelemetry")]
        """
        assert run(program) == ("", "")


def run(program):
    """What a program of its own prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


class TestTheTable:
    RESERVED = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "event"})

    @pytest.mark.parametrize("name", EVENTS)
    def test_an_event_names_no_attribute_of_log_records(self, name):
        event = EVENTS[name]
        facts = {*re.findall(r"%\((\w+)\)", event.message), *LABELS}
        assert not facts & self.RESERVED
        assert {*(event.adds or {})} <= METRICS.keys()

    @pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
    def test_each_level_has_events(self, level):
        assert any(logging.getLevelName(event.level) == level for event in EVENTS.values())

    def test_a_query_a_body_and_a_vector_are_left_out(self, caplog):
        caplog.set_level(logging.INFO, "bedrock_marengo")
        signed = "https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Signature=abc#t=1"
        error = InputError(f"{signed} can't be read")
        instrumentation.emit("file failed", source=signed, error=error, body=b"abc", vector=[0.1, 0.2])
        [record] = caplog.records
        assert record.getMessage() == (
            "Failed: https://bucket.s3.amazonaws.com/a.mp4: https://bucket.s3.amazonaws.com/a.mp4 can't be read"
        )
        assert (record.body, record.vector) == ("bytes", "list")

    def test_a_line_break_in_a_key_makes_no_line(self, caplog):
        caplog.set_level(logging.INFO, "bedrock_marengo")
        instrumentation.emit("file uploading", source="a\nERROR \x1b[2Jb.mp4")
        assert caplog.records[0].getMessage() == r"Uploading a\nERROR \x1b[2Jb.mp4"
