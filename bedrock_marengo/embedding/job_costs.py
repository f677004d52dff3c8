"""What a start costs: money, and a copy of the file if it is in another region."""

from __future__ import annotations

from dataclasses import dataclass

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.embedding.pricing import Budget, Usage
from bedrock_marengo.errors import MarengoError
from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.media.durations import Durations, duration_of, requested_sec
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.words.sources import Service

__all__ = ["JobCosts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCosts:
    """Charges and counts the starts of one run.

    Attributes:
        objects: S3.
        usage: counts what was embedded.
        copies: of files in other regions; None if such files are refused.
        budget: when the run must stop.
        durations: source URI -> seconds, for the budget; lengths that it lacks are read from the file.
    """

    objects: S3Objects
    usage: Usage
    copies: CrossRegionCopies | None = None
    budget: Budget | None = None
    durations: Durations | None = None

    def copy_of(self, source_uri: str, job_folder: str, attempt: int | str) -> str | None:
        """The copy that Bedrock reads for one attempt of a job; None if it reads the file itself."""
        if self.copies is None or not self.copies.needed(source_uri):
            return None
        return self.copies.uri_of(source_uri, job_folder, attempt)

    def before_start(self, key: JobKey, attempt: int | str) -> float:
        """Charge the budget, then copy the file if needed.

        Returns:
            US dollars that were charged.

        Raises:
            BudgetError: It would cost too much, or its length is unknown. Nothing was copied.
            ServiceError: AWS refused the copy, or to read the length. Nothing was charged.
        """
        request, source, usd = key.request, key.source, 0.0
        copy = self.copy_of(source.uri, key.prefix, attempt)
        copied = source.size if copy else 0
        if self.budget is not None:
            media = Media(request.kind, uri=source.uri, size=source.size)
            length = requested_sec(request, duration_of(self.objects, media, self.durations))
            usd = self.budget.charge(media, request.kind, length, copied_bytes=copied)
        if copy is not None and self.copies is not None:
            try:
                self.copies.put(source, copy)
            except MarengoError:
                self.refund(usd)
                raise
            self.usage.copied(copied)
        return usd

    def refund(self, usd: float) -> None:
        """A start that was charged did not happen."""
        if self.budget is not None:
            self.budget.refund(usd)

    # The calls for words: these and ``refund`` are ``Charges``.

    @property
    def assume_duration_sec(self) -> float | None:
        """The length to charge for a file of unknown length."""
        return self.budget.assume_duration_sec if self.budget else None

    def length_of(self, media: Media, source: SourceIdentity) -> float | None:
        """A file's length in seconds, as given for its name or its URI on S3, or as its container says."""
        for known in (media, Media(media.kind, uri=source.uri)):
            if (given := duration_of(self.objects, known, self.durations, probe=False)) is not None:
                return given
        return duration_of(self.objects, media)

    def charge(self, name: str, usd: float | None) -> float:
        """Charge the budget for a call: US dollars, for ``refund``.

        Raises:
            BudgetError: It would cost too much, or that is unknown (None).
        """
        return self.budget.charge_usd(name, usd) if self.budget else 0.0

    def called(self, service: Service) -> None:
        """A call that costs was made."""
        self.usage.called(service)

    def priced(self, service: Service, seconds: float, usd: float) -> None:
        """It is known what a call cost."""
        self.usage.priced(service, seconds, usd)

    def ended(self, source_uri: str, job_folder: str, attempt: int | str) -> None:
        """Bedrock will not read the file for this attempt again: delete its copy."""
        if (copy := self.copy_of(source_uri, job_folder, attempt)) is not None and self.copies is not None:
            self.copies.remove(copy)

    def measured(self, arn: str, found: SegmentEmbeddings) -> None:
        """Count the length that a job's segments show, if this client started it."""
        if (media_sec := self.usage.measured(arn, float(found.end_sec.max()))) is None:
            return
        facts = {"source": found.source, "kind": found.media_type, "media_sec": media_sec}
        usd = self.usage.prices.media(found.media_type, media_sec)
        instrumentation.emit("job unpriced" if usd is None else "job priced", usd=usd, **facts)
