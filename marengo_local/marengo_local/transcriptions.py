"""Transcription jobs: records, listing, and how long they are kept."""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from marengo_local.errors import ServiceError

__all__ = ["TranscriptionJob", "Transcriptions"]

_PAGE_SIZE: Final = 5
# What the service returns of the request, besides the name and the fields that it adds itself.
_RETURNED: Final = (
    *("LanguageCode", "MediaSampleRateHertz", "MediaFormat", "Media", "Settings", "ModelSettings", "Tags"),
    *("JobExecutionSettings", "IdentifyLanguage", "IdentifyMultipleLanguages", "LanguageOptions"),
)
_SUMMARY: Final = (
    *("TranscriptionJobName", "CreationTime", "StartTime", "CompletionTime", "LanguageCode", "FailureReason"),
    *("TranscriptionJobStatus", "IdentifyLanguage", "IdentifyMultipleLanguages", "IdentifiedLanguageScore"),
    "LanguageCodes",
)


@dataclass
class TranscriptionJob:
    """One job: `request` is the complete body of StartTranscriptionJob, `outputs` maps json, vtt and srt to S3 URIs.

    `found` are the fields that the service detected.
    """

    request: Mapping[str, Any]
    number: int
    status: str = "QUEUED"
    failure_reason: str | None = None
    creation_time: float = field(default_factory=lambda: round(time.time(), 3))
    start_time: float | None = None
    completion_time: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The job's name, which is unique."""
        return self.request["TranscriptionJobName"]  # type: ignore[no-any-return]

    @property
    def media_uri(self) -> str:
        """The S3 URI of the media file."""
        return self.request["Media"]["MediaFileUri"]  # type: ignore[no-any-return]

    @property
    def done(self) -> bool:
        """Whether the job is COMPLETED or FAILED."""
        return self.status in ("COMPLETED", "FAILED")

    def begin(self) -> None:
        """Mark the job as IN_PROGRESS."""
        self.status, self.start_time = "IN_PROGRESS", round(time.time(), 3)

    def end(self, failure_reason: str | None = None) -> None:
        """Mark the job as COMPLETED, or as FAILED if a reason is given."""
        self.failure_reason, self.completion_time = failure_reason, round(time.time(), 3)
        self.status = "COMPLETED" if failure_reason is None else "FAILED"

    def description(self, links: Mapping[str, str]) -> dict[str, Any]:
        """The job as StartTranscriptionJob and GetTranscriptionJob return it, with links to its outputs."""
        asked = {name: self.request[name] for name in _RETURNED if name in self.request}
        fields = {
            **asked,
            **self.found,
            "TranscriptionJobName": self.name,
            "TranscriptionJobStatus": self.status,
            "CreationTime": self.creation_time,
            "StartTime": self.start_time,
            "CompletionTime": self.completion_time,
            "FailureReason": self.failure_reason,
            "Transcript": {"TranscriptFileUri": links["json"]} if "json" in links else None,
        }
        if self.request.get("Subtitles", {}).get("Formats"):
            uris = [link for kind, link in links.items() if kind != "json"]
            fields["Subtitles"] = {**self.request["Subtitles"], **({"SubtitleFileUris": uris} if uris else {})}
        return {name: value for name, value in fields.items() if value is not None}

    def summary(self) -> dict[str, Any]:
        """The job as ListTranscriptionJobs returns it."""
        fields = self.description({})
        bucket = "CUSTOMER_BUCKET" if "OutputBucketName" in self.request else "SERVICE_BUCKET"
        return {name: fields[name] for name in _SUMMARY if name in fields} | {"OutputLocationType": bucket}


class Transcriptions:
    """All transcription jobs of one server, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, TranscriptionJob] = {}
        self._started = 0

    def __iter__(self) -> Iterator[TranscriptionJob]:
        with self._lock:
            return iter(tuple(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def __getitem__(self, name: str) -> TranscriptionJob:
        return self._jobs[name]

    def running(self) -> list[TranscriptionJob]:
        """The jobs in progress."""
        return [job for job in self if job.status == "IN_PROGRESS"]

    def add(self, request: Mapping[str, Any]) -> TranscriptionJob:
        """Record a new job; a name that exists raises ConflictException, whatever became of that job."""
        with self._lock:
            name = request["TranscriptionJobName"]
            if name in self._jobs:
                raise ServiceError(
                    "ConflictException",
                    "The requested job name already exists. Use a different job name.",
                    409,
                )
            self._started += 1
            job = self._jobs[name] = TranscriptionJob(request, self._started)
            return job

    def forget(self, name: str) -> None:
        """Delete the record of a job. If it is running, it continues unseen."""
        with self._lock:
            del self._jobs[name]

    def expire(self, retention_sec: float, name: str | None) -> None:
        """Forget the job of that name, or any, if it ended longer ago than `retention_sec`."""
        oldest = time.time() - retention_sec
        for job in self if name is None else filter(None, [self._jobs.get(name)]):
            if job.completion_time is not None and job.completion_time <= oldest:
                self.forget(job.name)

    def reset(self) -> None:
        """Delete the records of all jobs."""
        with self._lock:
            self._jobs.clear()

    def page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """One page of summaries, newest first, for ListTranscriptionJobs."""
        part = query.get("JobNameContains", "").lower()
        # The token names the last job returned, so that jobs started in the meantime don't shift the pages.
        before = _number(query["NextToken"]) if "NextToken" in query else self._started + 1
        matching = [
            job
            for job in self
            if job.number < before and part in job.name.lower() and query.get("Status", job.status) == job.status
        ][::-1]
        size = query.get("MaxResults", _PAGE_SIZE)
        page = matching[:size]
        status = {"Status": query["Status"]} if "Status" in query else {}
        token = {"NextToken": _token(page[-1].number)} if len(matching) > size else {}
        return {**status, **token, "TranscriptionJobSummaries": [job.summary() for job in page]}


def _token(number: int) -> str:
    return urlsafe_b64encode(f"before-{number}".encode()).decode()


def _number(token: str) -> int:
    try:
        return int(urlsafe_b64decode(token).removeprefix(b"before-"))
    except ValueError:
        raise ServiceError("BadRequestException", "The NextToken that you provided isn't valid.", 400) from None
