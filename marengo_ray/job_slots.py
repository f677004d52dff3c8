"""Slots for running jobs that all processes of a Ray cluster share: leases, which a named actor keeps."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from bedrock_marengo.aws.start_rate import JobCeiling, SlotOutcome
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.settings import check_run
from bedrock_marengo.validation import is_number

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"marengo_ray needs {error.name}: pip install 'bedrock-marengo[ray]'", name=error.name
    ) from error

__all__ = ["RayJobSlots"]

NAMESPACE = "bedrock-marengo"
LEASE_SEC = 60.0
"""How long a dead process keeps its slots: about as long as its jobs still run (23 to 70 s were measured)."""
RENEWALS = 6
"""Renewals in the time of one lease: some may be late or lost."""
LOOK_SEC = 0.5
"""How often to look for leases that have ended."""
REPLY_SEC = 10.0
"""How long the actor may take to reply, as while it is restarted, before a start looks whether it is cancelled."""


class RayJobSlots:
    """Limits the running jobs of all clients on a Ray cluster together; pass it to each as ``job_slots=``.

    A named actor counts the jobs. It also learns from what AWS refuses, so all clients keep to what the account allows.
    Create it after ``ray.init()``. It can be pickled, and all that have the same name share one limit, whichever driver
    or worker creates them.

    The slots of a process that dies come free ``lease_sec`` later: until then its jobs, which run on, count. A client
    that stops waiting for a job, as after ``timeout_sec``, frees its slot at once.

    Args:
        jobs_at_once: the maximum number of running jobs of all clients.
        max_starts_per_sec: the maximum number of jobs to start per second, of all clients. Default: no limit; each
            client adapts its rate to your quota.
        name: the limit's name. Use one for each account and region.
        lease_sec: how long the slots of a dead process stay taken, in seconds. Living processes renew theirs.

    Raises:
        ConfigurationError: A setting is invalid, or Ray is not initialized in this process.

    Examples:
        ```python
        ray.init("auto")
        settings = {"output_s3_uri": "s3://bucket/marengo/", "job_slots": RayJobSlots(jobs_at_once=20)}
        ```
    """

    def __init__(
        self,
        *,
        jobs_at_once: int = 64,
        max_starts_per_sec: float | None = None,
        name: str = "marengo-job-slots",
        lease_sec: float = LEASE_SEC,
    ) -> None:
        check_run(jobs_at_once=jobs_at_once)
        numbers = {"lease_sec": lease_sec}
        if max_starts_per_sec is not None:
            numbers["max_starts_per_sec"] = max_starts_per_sec
        for setting, value in numbers.items():
            if not (is_number(value) and value > 0):
                raise ConfigurationError("expected a number, more than 0.", setting=setting, value=value)
        if not (isinstance(name, str) and name):
            raise ConfigurationError("expected the name of a Ray actor.", setting="name", value=name)
        self._settings = (jobs_at_once, max_starts_per_sec, name, lease_sec)
        self._jobs_at_once, self._name, self._lease_sec = jobs_at_once, name, lease_sec
        self._pause_sec = 0.0 if max_starts_per_sec is None else 1 / max_starts_per_sec
        self._lock = ForkSafeLock()
        self._held: set[str] = set()
        self._renewing: threading.Thread | None = None
        self._made: tuple[str, Any] | None = None
        # Here, so that it is on the driver's node: without the driver, nothing would ask for slots.
        self._keeper()

    def __reduce__(self) -> tuple[Any, ...]:
        return _of, self._settings

    def acquire(self, wait_sec: float) -> str | None:
        """A slot; None if none became free within ``wait_sec``."""
        slot = uuid.uuid4().hex
        try:
            asked = self._keeper().acquire.remote(slot, self._jobs_at_once, self._pause_sec, self._lease_sec, wait_sec)
            if not ray.get(asked, timeout=wait_sec + REPLY_SEC):
                return None
        except GetTimeoutError:
            # If it is given later, no one renews it.
            return None
        except RayActorError:
            # Killed by someone: the next call makes another.
            self._made = None
            time.sleep(wait_sec)
            return None
        with self._lock:
            self._held.add(slot)
            if self._renewing is None or not self._renewing.is_alive():
                self._renewing = threading.Thread(target=self._renew, name="marengo-job-slots", daemon=True)
                self._renewing.start()
        return slot

    def release(self, slot: str, outcome: SlotOutcome) -> None:
        """Free a slot, without waiting for the actor; a release that is lost is made up for by the lease's end."""
        with self._lock:
            self._held.discard(slot)
            if ray.is_initialized():
                self._keeper().release.remote(slot, outcome)

    def _renew(self) -> None:
        while True:
            time.sleep(self._lease_sec / RENEWALS)
            with self._lock:
                if not self._held or not ray.is_initialized():
                    self._renewing = None
                    return
                self._keeper().renew.remote(sorted(self._held), self._lease_sec)

    def _keeper(self) -> Any:
        """The actor of this name in the cluster that this process is connected to."""
        if not ray.is_initialized():
            raise ConfigurationError("RayJobSlots needs a connection to Ray: call ray.init() first.")
        context = ray.get_runtime_context()
        with self._lock:
            if self._made is None or self._made[0] != context.gcs_address:
                options = {
                    "name": self._name,
                    "namespace": NAMESPACE,
                    "get_if_exists": True,
                    # It serves other drivers, too, and outlives the node that it is on.
                    "lifetime": "detached",
                    "max_restarts": -1,
                    "max_task_retries": -1,
                    "num_cpus": 0,
                    "scheduling_strategy": NodeAffinitySchedulingStrategy(context.get_node_id(), soft=True),
                }
                self._made = context.gcs_address, ray.remote(_Keeper).options(**options).remote()
            return self._made[1]


def _of(jobs_at_once: int, max_starts_per_sec: float | None, name: str, lease_sec: float) -> RayJobSlots:
    return RayJobSlots(jobs_at_once=jobs_at_once, max_starts_per_sec=max_starts_per_sec, name=name, lease_sec=lease_sec)


class _Keeper:
    """The actor. It keeps a lease for each running job, by its own clock, and no setting: each call brings its own."""

    def __init__(self) -> None:
        self._leases: dict[str, float] = {}
        self._ceiling = JobCeiling()
        self._next_start = 0.0
        self._freed = asyncio.Condition()
        self._made = time.monotonic()
        self._is_restarted = ray.get_runtime_context().was_current_actor_reconstructed

    async def acquire(self, slot: str, jobs_at_once: int, pause_sec: float, lease_sec: float, wait_sec: float) -> bool:
        """Lease a slot to whoever asks first. The same slot again is a repeated call."""
        until = time.monotonic() + wait_sec
        async with self._freed:
            while not self._is_free(slot, jobs_at_once, lease_sec):
                if (left_sec := until - time.monotonic()) <= 0:
                    return False
                # A lease that ends wakes no one.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), min(left_sec, LOOK_SEC))
            now = time.monotonic()
            start = max(now, self._next_start)
            if start <= until:
                self._next_start = start + pause_sec
                self._leases[slot] = start + lease_sec
        await asyncio.sleep(min(start, until) - now)
        return start <= until

    async def release(self, slot: str, outcome: SlotOutcome) -> None:
        """Free a slot."""
        async with self._freed:
            self._leases.pop(slot, None)
            if outcome == "ended":
                self._ceiling.ended()
            elif outcome == "refused":
                self._ceiling.refused(len(self._leases))
            self._freed.notify_all()

    @ray.method(max_task_retries=0)
    async def renew(self, slots: Sequence[str], lease_sec: float) -> None:
        """Renew what is leased. A slot that isn't was released just now, unless a restart has lost it."""
        until = time.monotonic() + lease_sec
        renewed = slots if self._is_rebuilding(lease_sec) else self._leases.keys() & set(slots)
        self._leases.update(dict.fromkeys(renewed, until))

    def _is_free(self, slot: str, jobs_at_once: int, lease_sec: float) -> bool:
        now = time.monotonic()
        self._leases = {leased: until for leased, until in self._leases.items() if until > now}
        has_room = len(self._leases) < min(jobs_at_once, self._ceiling.jobs)
        return slot in self._leases or (has_room and not self._is_rebuilding(lease_sec))

    def _is_rebuilding(self, lease_sec: float) -> bool:
        """After a restart, until all living processes have renewed their slots."""
        return self._is_restarted and time.monotonic() - self._made < 2 * lease_sec / RENEWALS
