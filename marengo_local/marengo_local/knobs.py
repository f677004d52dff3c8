"""What can be turned on a running service, by serve(**knobs) or on the handle at any time."""

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
    """The service's behaviour.

    `mutate_output` gets the rows of each output.json and returns other rows, the file's raw bytes, or None to
    write no output. `latency_sec` is waited before each reply. `invoke_rate` and `start_rate` are calls a
    second, beyond which InvokeModel and StartAsyncInvoke throttle; `max_jobs` in progress at once, beyond
    which a start exceeds its quota. A job ends no earlier than `job_duration_sec`, a number or a callable.
    `synthetic_sec` skips the content model: vectors are drawn from a hash, media last that long.
    `application_profiles` maps ARNs to base model IDs, `bucket_owners` buckets to other accounts. Without `subscribed`
    StartAsyncInvoke is refused until an InvokeModel has subscribed; `availability` changes members of
    GetFoundationModelAvailability's reply. AWS's clock is `clock_skew_sec` ahead: replies carry its time, and calls
    signed too far from it are refused.
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
    bucket_owners: Mapping[str, str] = field(default_factory=dict)
    subscribed: bool = True
    availability: Mapping[str, str] = field(default_factory=dict)
    clock_skew_sec: float = 0.0
    seed: int = 0
