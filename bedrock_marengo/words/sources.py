"""What a source of words is: a service that transcribes or describes files, and the file as it is given to one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.prices import Prices
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["SERVICES", "Charges", "Part", "Parts", "Service", "TimedWords", "WordSettings", "WordSource", "WordsFile"]

Service = Literal["transcribe", "pegasus"]
Part = Literal["said", "seen"]
SERVICES: Mapping[Service, str] = {"transcribe": "Amazon Transcribe", "pegasus": "TwelveLabs Pegasus"}
"""Each service's name in messages."""


class TimedWords(Protocol):
    """The words of one file."""

    def words(self, start_sec: float, end_sec: float) -> str:
        """Those of a time range, on one line; "" if there are none."""


class Charges(Protocol):
    """What pays for the calls of one run, and counts them."""

    @property
    def assume_duration_sec(self) -> float | None:
        """The length to charge for a file of unknown length."""

    def length_of(self, media: Media, source: SourceIdentity) -> float | None:
        """A file's length in seconds, as given or as its container says; None if it is unknown."""

    def charge(self, name: str, usd: float | None) -> float:
        """Charge the budget before a call that costs: US dollars, for ``refund``.

        Args:
            name: what is not done without it, for the message.
            usd: the most that the call costs; None if that is unknown.

        Raises:
            BudgetError: It would cost too much, or that is unknown. Nothing was charged.
        """

    def refund(self, usd: float) -> None:
        """A call that was charged was not made."""

    def called(self, service: Service) -> None:
        """A call that costs was made: it counts as unknown until it is priced."""

    def priced(self, service: Service, seconds: float, usd: float) -> None:
        """It is known what a call cost: 0 if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a source works with: the parts of one client in one process."""

    aws: Aws
    objects: S3Objects
    limiter: RetryLimiter
    output_s3_uri: str
    identity: Identity
    prices: Prices
    tags: Mapping[str, str] | None = None
    output_kms_key_id: str | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class WordsFile:
    """One file whose words are asked for, while it is embedded.

    Attributes:
        media: as it was given: captions of a local file are next to it, not next to its upload.
        source: the version on S3 that is embedded.
        costs: what pays.
        segments: done once the file is embedded, with an error if that failed. Never, if only words are asked for.
        is_whole: whether the whole file is embedded, so that the end of its segments is its length.
        force: pay again for what is done or failed for good.
        timeout_sec: how long to wait for each call.
    """

    media: Media
    source: SourceIdentity
    costs: Charges
    segments: Future[SegmentEmbeddings] = field(default_factory=Future)
    is_whole: bool = True
    force: bool = False
    timeout_sec: float | None = None


class WordSource(Protocol):
    """One service that gives words, as one client uses it in one process. Thread-safe.

    Attributes:
        part: which words it gives: "said" or "seen".
        service: its row in ``Usage.services`` and ``Plan.usd``.
        at_once: how many files it works on at once.
    """

    part: Part
    service: Service
    at_once: int

    def takes(self, media: Media) -> bool:
        """Whether it gives words for a file: not for an image if it listens, nor for a file with captions.

        Raises:
            InputError: The file is one that the service can't read.
            ServiceError: AWS refused to list the captions.
        """

    def fingerprint(self, source: SourceIdentity) -> str:
        """64 hex digits over the file's version and the settings; our record is at ``work_prefix`` of them."""

    def price(self, length_sec: float | None) -> float | None:
        """US dollars that a file costs at most; None if its length is unknown."""

    def is_final(self, source: SourceIdentity) -> bool:
        """Whether our own record says that nothing of a file would be paid for: it is done, or it failed for good.

        Raises:
            OutputError: The record can't be read.
            ServiceError: AWS refused.
        """

    def find(self, source: SourceIdentity) -> TimedWords | None:
        """The words of a file, if our own record says that they are done. Never calls the service.

        Raises:
            OutputError: They are gone, or can't be read.
            ServiceError: AWS refused.
        """

    def make(self, file: WordsFile) -> TimedWords:
        """The words of a file: found, joined or paid for. Runs beside the embedding, on a thread of its own.

        Raises:
            MarengoError: It failed. What is paid for is found by the next run.
        """


class WordSettings(Protocol):
    """The settings of a source, which users pass: frozen, hashable, picklable, checked when they are made."""

    def open(self, parts: Parts) -> WordSource:
        """The source for one client in one process."""
