"""What Marengo costs, what a client has spent, and when a run must stop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS, Kind
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.errors import BudgetError, ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.media.durations import requested_sec
from bedrock_marengo.validation import is_number, short_repr

__all__ = ["Budget", "Prices", "Usage"]

GB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars for one of each. Set your own with ``MarengoClient(prices=Prices(...))``.

    The defaults are from litellm's test data, the same for both versions of Marengo, not from the AWS price page. Those
    of 2.7 may have risen: it has been in extended access since 2026-08-29, for which AWS announced higher prices. The
    price of a copy between regions is the usual one. Check yours.

    Attributes:
        text: a request with a text.
        image: a request with images.
        video_sec: a second of video.
        audio_sec: a second of audio.
        copied_gb: a GB copied from another region, with ``staging_s3_uri=``.
    """

    text: float = 0.00007
    image: float = 0.0001
    video_sec: float = 0.0007
    audio_sec: float = 0.00014
    copied_gb: float = 0.02

    def __post_init__(self) -> None:
        for price in fields(self):
            value = getattr(self, price.name)
            if not (is_number(value) and 0 <= value < float("inf")):
                raise ConfigurationError(
                    f"Prices({price.name}={short_repr(value)}): expected US dollars, 0 or more.", setting="prices"
                )

    def media(self, kind: Kind, duration_sec: float | None) -> float | None:
        """One file's price; None if it depends on a length that is unknown."""
        rules = KINDS[kind]
        price: float = getattr(self, rules.price)
        if not rules.timed:
            return price
        return None if duration_sec is None else duration_sec * price

    def copied(self, size: int) -> float:
        """A copy of so many bytes from another region."""
        return self.copied_gb * size / GB


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
        usd: US dollars, at the client's prices.
    """

    prices: Prices = field(default_factory=Prices, repr=False)
    texts: int = field(default=0, init=False)
    images: int = field(default=0, init=False)
    jobs: Counter[str] = field(default_factory=Counter, init=False)
    media_sec: float = field(default=0.0, init=False)
    unknown: int = field(default=0, init=False)
    copied_bytes: int = field(default=0, init=False)
    usd: float = field(default=0.0, init=False)
    _unmeasured: dict[str, MediaRequest] = field(default_factory=dict, init=False, repr=False)
    _lock: ForkSafeLock = field(default_factory=ForkSafeLock, init=False, repr=False)

    def __str__(self) -> str:
        return f"{self.media_sec:,.0f} s of media, {self.usd:,.2f} USD"

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

    def reset(self) -> None:
        """Count from 0."""
        with self._lock:
            self.texts = self.images = self.unknown = self.copied_bytes = 0
            self.media_sec = self.usd = 0.0
            self.jobs.clear()
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
        self._prices = prices or Prices()
        self._assume_duration_sec = assume_duration_sec
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
        cost = self._prices.media(kind, self._assume_duration_sec if duration_sec is None else duration_sec)
        if cost is None:
            raise BudgetError(
                f"{media.name} was not started: its duration, and therefore its cost, is unknown. Install the extra "
                "'media', or "
                "set {durations} or {assume_duration_sec}.",
                spent_usd=self.spent_usd,
                exhausted=False,
                remedy={"durations": ..., "assume_duration_sec": ...},
            )
        cost += self._prices.copied(copied_bytes)
        with self._lock:
            # A tolerance for sums of floats.
            if self.exhausted or self.spent_usd + cost > self.max_cost_usd + 1e-9:
                self.exhausted = True
                raise BudgetError(
                    f"{media.name} was not started: {cost:.4f} USD on top of {self.spent_usd:.4f} would exceed "
                    "{max_cost_usd}. Run again with a higher budget: finished files are not paid for again.",
                    spent_usd=self.spent_usd,
                    exhausted=True,
                    remedy={"max_cost_usd": self.max_cost_usd},
                )
            self.spent_usd += cost
        return cost

    def refund(self, usd: float) -> None:
        """A start that was charged did not happen: AWS refused it, or a job that was already running was joined."""
        with self._lock:
            self.spent_usd -= usd
