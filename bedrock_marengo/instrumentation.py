"""What is logged and measured: one table of events, for ``logging`` and OpenTelemetry.

Nothing is shown unless the program configures logging, and OpenTelemetry is never imported here: a program that exports
telemetry has imported it. Events carry names, numbers and error texts; never a body, a vector, a credential or a URL's
query, which may be a signature.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bedrock_marengo.errors import error_code, visible
from bedrock_marengo.fork_safety import hold_forks

__all__ = ["EVENTS", "METRICS", "Event", "emit", "file_span", "queued", "watch_requests"]

PACKAGE = "bedrock_marengo"
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


@dataclass(frozen=True, slots=True)
class Event:
    """How one kind of event is logged and measured.

    Attributes:
        area: the logger's name under ``bedrock_marengo``.
        level: the level of its log record.
        message: with the event's facts by name.
        adds: metric -> what is added to it: a number, or the fact that holds it.
    """

    area: str
    level: int
    message: str
    adds: Mapping[str, float | str] | None = None


_JOBS, _RETRY = {"marengo.jobs": 1}, {"marengo.retries": 1}
_USD = {"marengo.cost": "usd"}

EVENTS: Mapping[str, Event] = {
    # Requests and retries.
    "request": Event("aws", DEBUG, "%(service)s %(operation)s: %(outcome)s after %(seconds).3f s"),
    "request retried": Event(
        "aws", WARNING, "%(service)s %(operation)s needed %(retries)d more attempts", {"marengo.retries": "retries"}
    ),
    "call retried": Event(
        "aws",
        WARNING,
        "%(operation)s for %(source)s failed (%(code)s); attempt %(attempt)d in %(seconds).1f s",
        _RETRY,
    ),
    "call throttled": Event("aws", DEBUG, "%(operation)s for %(source)s is throttled (%(code)s)", _RETRY),
    "calls paused": Event("aws", WARNING, "AWS throttles: all calls pause for %(seconds).1f s"),
    "starts slowed": Event("aws", WARNING, "AWS throttles the starts of jobs: %(per_sec).2f starts a second from now"),
    "jobs limited": Event("aws", WARNING, "The account's quota of jobs is reached: at most %(count)d at once from now"),
    "start queued": Event("jobs", DEBUG, "The start of %(source)s waits for its turn", {"marengo.queue": 1}),
    "start unqueued": Event("jobs", DEBUG, "The start of %(source)s has left the queue", {"marengo.queue": -1}),
    # What happens to a file.
    "file uploading": Event("embedding", INFO, "Uploading %(source)s"),
    "file reused": Event("embedding", INFO, "Reused: %(source)s (job %(job)s)", _JOBS),
    "file joined": Event("embedding", INFO, "Joined the running job of %(source)s (job %(job)s)", _JOBS),
    "file started": Event("embedding", INFO, "Started: %(source)s (%(kind)s, job %(job)s)", _JOBS),
    "listing outdated": Event(
        "embedding", WARNING, "%(source)s has changed since it was listed: it is embedded as it is now"
    ),
    "file retried": Event(
        "embedding", WARNING, "The job of %(source)s is unusable, another attempt follows: %(error)s", _RETRY
    ),
    "file completed": Event(
        "embedding", INFO, "Completed: %(source)s in %(seconds).1f s, %(segments)d segments", _JOBS
    ),
    "file left": Event("embedding", WARNING, "Not embedded in this run: %(source)s: %(error)s", _JOBS),
    "file failed": Event("embedding", ERROR, "Failed: %(source)s: %(error)s", _JOBS),
    "words started": Event("words", INFO, "%(service)s started on %(source)s"),
    "words joined": Event("words", INFO, "Joined the work of %(service)s on %(source)s"),
    "words done": Event("words", INFO, "The words of %(source)s by %(service)s are there"),
    "clip undescribed": Event("words", WARNING, "%(source)s has no description at %(start_sec).1f s: %(error)s"),
    "words failed": Event("words", WARNING, "No words of %(source)s by %(service)s: %(error)s"),
    "file skipped": Event("s3", DEBUG, "Skipped %(source)s: %(reason)s"),
    "files skipped": Event("s3", WARNING, "Skipped %(count)d files: %(reasons)s"),
    # What it costs, by the client's prices.
    "job priced": Event(
        "embedding",
        INFO,
        "%(source)s costs %(usd).4f USD: %(media_sec).1f s of %(kind)s",
        {**_USD, "marengo.media": "media_sec"},
    ),
    "words priced": Event("embedding", INFO, "%(service)s: %(seconds).1f s for %(usd).4f USD", _USD),
    "job unpriced": Event("embedding", INFO, "The price of %(source)s is unknown, because its length is"),
    "text embedded": Event("embedding", DEBUG, "A text: %(usd).5f USD", _USD),
    "image embedded": Event("embedding", DEBUG, "An image: %(usd).5f USD", _USD),
    "file copied": Event("embedding", INFO, "Copied %(size)d bytes between regions: %(usd).4f USD", _USD),
}
"""A new event is a line here, and a call of ``emit``."""

METRICS: Mapping[str, tuple[str, str, str]] = {
    "marengo.jobs": ("counter", "{job}", "Files by stage: reused, joined, started, completed, left, failed"),
    "marengo.media": ("counter", "s", "Seconds of media in jobs that were started"),
    "marengo.cost": ("counter", "USD", "Cost by the client's prices"),
    "marengo.retries": ("counter", "{retry}", "Requests and jobs that were tried again"),
    "marengo.queue": ("up_down_counter", "{job}", "Jobs that wait for their start"),
}
"""Name -> kind of instrument, unit, description."""

LABELS = ("kind", "stage", "operation", "code")
"""Facts that become attributes of a metric; none has many values."""

SPAN = "marengo.embed"
_BEGAN = "marengo_began"
_QUERY = re.compile(r"(https?://[^\s?#]+)\?\S*")

_LOGGERS = {event.area: logging.getLogger(f"{PACKAGE}.{event.area}") for event in EVENTS.values()}
logging.getLogger(PACKAGE).addHandler(logging.NullHandler())

_instruments: dict[str, Any] = {}
_span: ContextVar[Any] = ContextVar("marengo_span", default=None)


def emit(name: str, **facts: Any) -> None:
    """Log an event, add it to its metrics, and note it on the span of the file that this thread embeds.

    Args:
        name: of ``EVENTS``.
        facts: what its message names, and more for structured logs: each is an attribute of the log record.
    """
    event = EVENTS[name]
    logger, span = _LOGGERS[event.area], _span.get()
    is_logged = logger.isEnabledFor(event.level)
    is_counted = event.adds is not None and sys.modules.get("opentelemetry.metrics") is not None
    if not (is_logged or is_counted or span is not None):
        return
    known = {key: _plain(value) for key, value in facts.items()}
    if is_logged:
        with hold_forks():
            logger.log(event.level, event.message, known, extra={"event": name, **known}, stacklevel=2)
    if is_counted:
        _count(event.adds or {}, known)
    if span is not None and event.level > DEBUG:
        _note(span, name, event.level, known)


@contextmanager
def queued(source: str) -> Iterator[None]:
    """A job's start waits in this block."""
    emit("start queued", source=source)
    try:
        yield
    finally:
        emit("start unqueued", source=source)


@contextmanager
def file_span(**facts: Any) -> Iterator[None]:
    """A span ``marengo.embed`` around the embedding of one file."""
    if not sys.modules.get("opentelemetry.trace"):
        yield
        return
    from opentelemetry import trace

    tracer = trace.get_tracer(PACKAGE)
    attributes = _attributes({key: _plain(value) for key, value in facts.items()})
    # What an exception holds is not ours to check: the event "file failed" has its text.
    with tracer.start_as_current_span(
        SPAN, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        outer = _span.set(span)
        try:
            yield
        finally:
            _span.reset(outer)


def watch_requests(client: Any) -> None:
    """Log the requests of a boto3 client: operation, outcome and time, by botocore's events."""
    client.meta.events.register("before-call", _began)
    client.meta.events.register("after-call", _answered)
    client.meta.events.register("after-call-error", _unanswered)


def _began(context: dict[str, Any], **_: Any) -> None:
    if _LOGGERS["aws"].isEnabledFor(DEBUG):
        context[_BEGAN] = time.perf_counter()


def _answered(event_name: str, parsed: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> None:
    reply = parsed.get("ResponseMetadata", {})
    if retries := reply.get("RetryAttempts", 0):
        emit("request retried", retries=retries, **_operation(event_name))
    _request(event_name, context, f"HTTP {reply.get('HTTPStatusCode')}")


def _unanswered(event_name: str, exception: Exception, context: Mapping[str, Any], **_: Any) -> None:
    _request(event_name, context, error_code(exception))


def _request(event_name: str, context: Mapping[str, Any], outcome: str) -> None:
    if _BEGAN in context:
        seconds = time.perf_counter() - context[_BEGAN]
        emit("request", outcome=outcome, seconds=seconds, **_operation(event_name))


def _operation(event_name: str) -> dict[str, str]:
    """What "after-call.s3.GetObject" is about."""
    return dict(zip(("service", "operation"), event_name.split(".")[1:], strict=True))


def _plain(value: Any) -> Any:
    """A fact as it may leave the process."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str | Exception):
        return type(value).__name__
    return visible(_QUERY.sub(r"\1", str(value)))


def _count(adds: Mapping[str, float | str], facts: Mapping[str, Any]) -> None:
    labels = {name: facts[name] for name in LABELS if facts.get(name) is not None}
    for metric, amount in adds.items():
        _instrument(metric).add(facts[amount] if isinstance(amount, str) else amount, labels)


def _instrument(metric: str) -> Any:
    if metric not in _instruments:
        from opentelemetry import metrics

        kind, unit, description = METRICS[metric]
        create = getattr(metrics.get_meter(PACKAGE), f"create_{kind}")
        _instruments[metric] = create(metric, unit=unit, description=description)
    return _instruments[metric]


def _note(span: Any, name: str, level: int, facts: Mapping[str, Any]) -> None:
    from opentelemetry.trace import StatusCode

    span.add_event(name, _attributes(facts))
    span.set_attributes(_attributes({key: facts[key] for key in ("stage", "job") if facts.get(key) is not None}))
    if level >= ERROR:
        span.set_status(StatusCode.ERROR, str(facts["error"]))


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"marengo.{key}": value for key, value in facts.items() if value is not None}
