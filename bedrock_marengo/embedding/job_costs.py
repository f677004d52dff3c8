"""What a start takes: money, and perhaps a copy of the medium where the model is."""

from __future__ import annotations

from dataclasses import dataclass

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.embedding.pricing import Budget, Usage
from bedrock_marengo.media.durations import Durations, duration_of, requested_sec
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.object_version import SourceIdentity

__all__ = ["JobCosts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCosts:
    """Pays for the starts of one run.

    Attributes:
        aws: the clients.
        usage: counts what was really done.
        stage: where media of other regions are copied to.
        budget: where the run must stop.
        durations: source URI -> seconds, for the budget; what it lacks is read.
    """

    aws: Aws
    usage: Usage
    stage: CrossRegionCopies | None = None
    budget: Budget | None = None
    durations: Durations | None = None

    def place(self, source_uri: str, fingerprint: str) -> str | None:
        """Where Bedrock is to read a medium for a job, if not at its own place."""
        if self.stage is None or not self.stage.needed(source_uri):
            return None
        return self.stage.uri_of(source_uri, fingerprint)

    def before_start(self, request: MediaRequest, source: SourceIdentity, fingerprint: str) -> None:
        """Charge the budget, then copy the medium if it must be.

        Raises:
            BudgetError: It would cost too much, or its length is not known. Nothing was done.
            ServiceError: AWS refused the copy, or the bytes whose length is asked.
        """
        copied = source.size if self.place(source.uri, fingerprint) else 0
        if self.budget is not None:
            media = Media(request.kind, uri=source.uri, size=source.size)
            length = requested_sec(request, duration_of(self.aws, media, self.durations))
            self.budget.charge(media, request.kind, length, copied_bytes=copied)
        if copied and self.stage is not None:
            self.stage.put(source, fingerprint)
            self.usage.copied(copied)

    def job_ended(self, source_uri: str, fingerprint: str) -> None:
        """Bedrock will not read the medium for this job again: take its copy away."""
        if (copy := self.place(source_uri, fingerprint)) is not None and self.stage is not None:
            self.stage.remove(copy)

    def count(self, kind: Kind, request: MediaRequest, found: SegmentEmbeddings) -> None:
        """Count a job that this run started, by the length that its segments tell."""
        length = float(found.end_sec.max()) if len(found) else None
        self.usage.job(kind, requested_sec(request, length))
