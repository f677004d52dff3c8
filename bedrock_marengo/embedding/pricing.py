"""What Marengo costs, what a client has spent, and when a run must stop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.html_tables import html_table
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.prices import Prices
from bedrock_marengo.errors import BudgetError, ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.media.durations import requested_sec
from bedrock_marengo.validation import is_number
from bedrock_marengo.words.sources import SERVICES, Service

__all__ = ["Budget", "Prices", "ServiceUsage", "Usage"]


@dataclass(slots=True)
class ServiceUsage:
    """What was asked of a service that gives words.

    Attributes:
        calls: jobs started, or calls made, whatever became of them.
        seconds: seconds of media that were billed, or are expected to be.
        usd: US dollars, at the client's prices.
        unknown: the calls that are in neither: still running, or of a file whose length is unknown.
    """

    calls: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    unknown: int = 0


@dataclass(eq=False)
class Usage:
    """What one client has asked AWS for, and what that costs. Thread-safe; ``reset()`` sets it to 0.

    Attributes:
        texts: requests with a text.
        images: requests with images.
        jobs: jobs started, by kind: "video", "audio", whatever became of them.
        media_sec: seconds of media in jobs whose length is known, which is when their segments are read.
        unknown: the other jobs, which are neither in ``media_sec`` nor in ``usd``: still running, failed, without a
            usable output, or collected elsewhere.
        copied_bytes: bytes copied from other regions.
        services: "transcribe" or "pegasus" -> what was asked of it.
        usd: US dollars, at the client's prices, of all of these.
    """

    prices: Prices = field(default_factory=Prices, repr=False)
    texts: int = field(default=0, init=False)
    images: int = field(default=0, init=False)
    jobs: Counter[str] = field(default_factory=Counter, init=False)
    media_sec: float = field(default=0.0, init=False)
    unknown: int = field(default=0, init=False)
    copied_bytes: int = field(default=0, init=False)
    services: dict[Service, ServiceUsage] = field(
        default_factory=lambda: {service: ServiceUsage() for service in SERVICES}, init=False
    )
    usd: float = field(default=0.0, init=False)
    _unmeasured: dict[str, MediaRequest] = field(default_factory=dict, init=False, repr=False)
    _lock: ForkSafeLock = field(default_factory=ForkSafeLock, init=False, repr=False)

    def __str__(self) -> str:
        return f"{self.media_sec:,.0f} s of media" + (f", {self.usd:,.2f} USD" if self.usd else "")

    def _repr_html_(self) -> str:
        """What was asked for, as a table, with the cost if there is one."""
        rows: list[tuple[str, object]] = [("texts", self.texts), ("images", self.images)]
        rows += [(f"{kind} jobs", count) for kind, count in self.jobs.items()]
        rows += [(f"{service} calls", row.calls) for service, row in self.services.items()]
        rows = [(name, f"{count:,}") for name, count in rows if count]
        rows.append(("media", f"{self.media_sec:,.0f} s"))
        rows += [("of unknown length", f"{self.unknown:,} jobs")] if self.unknown else []
        rows += [("cost", f"{self.usd:,.2f} USD")] if self.usd else []
        return html_table(rows)

    def text(self) -> None:
        """A text was embedded."""
        with self._lock:
            self.texts += 1
            self.usd += self.prices.text
        instrumentation.emit("text embedded", kind="text", usd=self.prices.text)

    def image(self) -> None:
        """An image, or a request with several, was embedded."""
        with self._lock:
            self.images += 1
            self.usd += self.prices.image
        instrumentation.emit("image embedded", kind="image", usd=self.prices.image)

    def job(self, arn: str, request: MediaRequest) -> None:
        """A job was started."""
        with self._lock:
            self.jobs[request.kind] += 1
            self.unknown += 1
            self._unmeasured[arn] = request

    def measured(self, arn: str, length_sec: float) -> float | None:
        """The length of a job's file is known now: how many seconds of it were embedded.

        None if the job was not started by this client, or was measured before.
        """
        with self._lock:
            if (request := self._unmeasured.pop(arn, None)) is None:
                return None
            media_sec = requested_sec(request, length_sec) or 0.0
            self.unknown -= 1
            self.media_sec += media_sec
            self.usd += self.prices.media(request.kind, media_sec) or 0.0
        return media_sec

    def copied(self, size: int) -> None:
        """A file was copied from another region."""
        with self._lock:
            self.copied_bytes += size
            self.usd += self.prices.copied(size)
        instrumentation.emit("file copied", size=size, usd=self.prices.copied(size))

    def called(self, service: Service) -> None:
        """A call for words was made that costs."""
        with self._lock:
            self.services[service].calls += 1
            self.services[service].unknown += 1

    def priced(self, service: Service, seconds: float, usd: float) -> None:
        """It is known now what such a call cost."""
        with self._lock:
            row = self.services[service]
            row.unknown, row.seconds, row.usd = max(0, row.unknown - 1), row.seconds + seconds, row.usd + usd
            self.usd += usd
        instrumentation.emit("words priced", service=SERVICES[service], seconds=seconds, usd=usd)

    def reset(self) -> None:
        """Count from 0."""
        with self._lock:
            self.texts = self.images = self.unknown = self.copied_bytes = 0
            self.media_sec = self.usd = 0.0
            self.jobs.clear()
            self.services.update({service: ServiceUsage() for service in SERVICES})
            self._unmeasured.clear()


class Budget:
    """Stops a run before the start that would exceed ``max_cost_usd``. Thread-safe.

    Only starts are charged: jobs that are joined or already done cost nothing. Once a start has been refused, no other
    is allowed, however cheap, so that the run ends there and the next run continues from there.

    Args:
        max_cost_usd: the most that starts may cost, at ``prices``.
        prices: the table.
        assume_duration_sec: the length to charge for a file of unknown length; without it such a file is refused.
    """

    def __init__(
        self, max_cost_usd: float, prices: Prices | None = None, *, assume_duration_sec: float | None = None
    ) -> None:
        if not (is_number(max_cost_usd) and max_cost_usd >= 0):
            raise ConfigurationError("expected US dollars, 0 or more.", setting="max_cost_usd", value=max_cost_usd)
        if assume_duration_sec is not None and not (is_number(assume_duration_sec) and assume_duration_sec > 0):
            raise ConfigurationError(
                "expected seconds, more than 0.", setting="assume_duration_sec", value=assume_duration_sec
            )
        self.max_cost_usd = max_cost_usd
        self.spent_usd = 0.0
        self.exhausted = False
        self.assume_duration_sec = assume_duration_sec
        self._prices = prices or Prices()
        self._lock = ForkSafeLock()

    def charge(self, media: Media, kind: Kind, duration_sec: float | None, *, copied_bytes: int = 0) -> float:
        """Allow a start, and add its cost.

        Args:
            media: for the message.
            kind: "video", "audio" or "image".
            duration_sec: seconds of it to embed; None if unknown.
            copied_bytes: bytes to copy for it from another region.

        Returns:
            US dollars, for ``refund`` if the start fails.

        Raises:
            BudgetError: It would cost too much, or its length is unknown. Nothing was added.
        """
        cost = self._prices.media(kind, self.assume_duration_sec if duration_sec is None else duration_sec)
        return self.charge_usd(media.name, None if cost is None else cost + self._prices.copied(copied_bytes))

    def charge_usd(self, name: str, usd: float | None) -> float:
        """The same for what costs ``usd``; None if that depends on a length that is unknown."""
        if usd is None:
            raise BudgetError(
                f"{name} was not started: its duration, and therefore its cost, is unknown. Install the extra "
                "'media', or "
                "set {durations} or {assume_duration_sec}.",
                spent_usd=self.spent_usd,
                exhausted=False,
                remedy={"durations": ..., "assume_duration_sec": ...},
            )
        with self._lock:
            # A tolerance for sums of floats.
            if self.exhausted or self.spent_usd + usd > self.max_cost_usd + 1e-9:
                self.exhausted = True
                raise BudgetError(
                    f"{name} was not started: {usd:.4f} USD on top of {self.spent_usd:.4f} would exceed "
                    "{max_cost_usd}. Run again with a higher budget: finished files are not paid for again.",
                    spent_usd=self.spent_usd,
                    exhausted=True,
                    remedy={"max_cost_usd": self.max_cost_usd},
                )
            self.spent_usd += usd
        return usd

    def refund(self, usd: float) -> None:
        """A start that was charged did not happen: AWS refused it, or a job that was already running was joined."""
        with self._lock:
            self.spent_usd -= usd
