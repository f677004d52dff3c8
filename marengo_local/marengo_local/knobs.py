"""The settings of a stand-in: given to serve(), or changed on the handle at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from marengo_local.faults import Fault
from marengo_local.jobs import Job

__all__ = ["Knobs"]

Rows = list[dict[str, Any]]


@dataclass(eq=False)
class Knobs:
    """How the stand-in behaves.

    Attributes:
        faults: failures to inject.
        mutate_output: receives the rows of each output.json, and returns other rows, the raw bytes of the file, or
            None to write no output.
        latency_sec: wait before each response, in seconds.
        invoke_rate: InvokeModel calls per second, above which calls are throttled.
        start_rate: StartAsyncInvoke calls per second, above which calls are throttled.
        max_jobs: jobs in progress at once, above which a start exceeds the quota.
        job_duration_sec: the minimum duration of a job in seconds: a number, or a callable that receives the Job.
        synthetic_sec: skips the content model. Vectors are generated from a hash, and any file is media of this length.
        application_profiles: maps ARNs of application inference profiles to base model IDs.
        archive_tiers: maps S3 URIs of objects to the archive tier ("ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS") that
            Intelligent-Tiering has moved them to. HeadObject reports it and GetObject is refused.
        bucket_owners: maps buckets to the accounts that own them, if not this server's.
        subscribed: if False, StartAsyncInvoke is denied until the first InvokeModel call subscribes the account.
        availability: fields to change in the response of GetFoundationModelAvailability.
        clock_skew_sec: how far AWS's clock is ahead, in seconds. Responses carry its time, and calls whose signature
            is too far off are rejected.
        seed: the seed for faults with a probability.
    """

    faults: list[Fault] = field(default_factory=list)
    mutate_output: Callable[[Rows], Rows | bytes | None] | None = None
    latency_sec: float = 0.0
    invoke_rate: float | None = None
    start_rate: float | None = None
    max_jobs: int | None = None
    job_duration_sec: float | Callable[[Job], float] = 0.0
    synthetic_sec: float | None = None
    application_profiles: Mapping[str, str] = field(default_factory=dict)
    archive_tiers: Mapping[str, str] = field(default_factory=dict)
    bucket_owners: Mapping[str, str] = field(default_factory=dict)
    subscribed: bool = True
    availability: Mapping[str, str] = field(default_factory=dict)
    clock_skew_sec: float = 0.0
    seed: int = 0
