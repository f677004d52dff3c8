"""One medium to its segments: find it, put it on S3, find or start its work, follow, read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bedrock_marengo import requests
from bedrock_marengo.aws import Aws
from bedrock_marengo.errors import JobError, MarengoError, SegmentNotFoundError
from bedrock_marengo.identity import SourceIdentity, work_prefix
from bedrock_marengo.inputs import Media, split_s3_uri
from bedrock_marengo.invoking import Invoker
from bedrock_marengo.jobs import ATTEMPTS, Job, Jobs
from bedrock_marengo.models import Model
from bedrock_marengo.pacing import Gate
from bedrock_marengo.replies import read_output
from bedrock_marengo.requests import MediaRequest
from bedrock_marengo.segments import Segment, SegmentEmbeddings
from bedrock_marengo.sources import locate
from bedrock_marengo.uploads import upload

__all__ = ["Progress", "Worker"]

Stage = Literal["uploading", "reused", "joined", "started", "running", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens to one medium. ``uri`` is None for a local medium that isn't on S3 yet."""

    stage: Stage
    name: str
    uri: str | None = None

    def __str__(self) -> str:
        return f"{self.stage} {self.name.rsplit('/', 1)[-1]}"


Tell = Callable[[Stage], None]


class Worker:
    """Turns media into segments under one output prefix."""

    def __init__(self, aws: Aws, gate: Gate, model: Model, invoker: Invoker, jobs: Jobs, output_s3_uri: str) -> None:
        self._aws = aws
        self._gate = gate
        self._model = model
        self._invoker = invoker
        self._jobs = jobs
        self._output_s3_uri = output_s3_uri

    def embed(
        self,
        media: Media,
        request: MediaRequest,
        *,
        force: bool = False,
        timeout_sec: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SegmentEmbeddings:
        """All segments of one medium."""

        def tell(stage: Stage) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, media.name, media.uri))

        try:
            source = self._source(media, tell)
            if request.kind == "image":
                found = self._embed_image(source, request, tell, force=force)
            else:
                found = self._run_job(source, request, tell, force=force, timeout_sec=timeout_sec)
        except MarengoError:
            tell("failed")
            raise
        tell("completed")
        return found

    def locate(self, media: Media) -> SourceIdentity:
        """The medium where Bedrock can read it: as it is on S3 now, a local one uploaded."""
        return self._source(media, lambda stage: None)

    def start(self, media: Media, request: MediaRequest, *, force: bool = False) -> Job:
        """The medium's job, started, joined or found done."""
        return self._jobs.start(request, self.locate(media), force=force)

    def collect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """Follow a job to its end and read its segments."""
        output = self._jobs.wait(job, timeout_sec=timeout_sec)
        return self._jobs.read(output, source=job.source, job=job.id, kind=job.kind)

    def recall(self, segment: Segment) -> SegmentEmbeddings:
        """The embeddings of the job that a segment names, from its output under our own prefix."""
        prefix = work_prefix(self._output_s3_uri, segment.source, segment.job)
        outputs = self._jobs.outputs(prefix)
        if not outputs:
            raise SegmentNotFoundError(
                f"No vector for the segment {segment.uri!r}: {prefix} has no output.json. It was made under another "
                "output_s3_uri, its output is gone, or someone else wrote this text. Embed the medium again, or keep "
                "the first line from looking like a segment."
            )
        kind = segment.option if segment.option in ("image", "audio") else "video"
        return self._jobs.read(outputs[0], source=segment.source, job=segment.job, kind=kind)

    def _source(self, media: Media, tell: Tell) -> SourceIdentity:
        """The medium where Bedrock can read it, after every check that costs nothing."""
        self._invoker.check_size(media)
        self._aws.check_bucket(split_s3_uri(self._output_s3_uri)[0])
        if media.uri is None:
            tell("uploading")
            media = upload(self._aws, media, self._output_s3_uri)
        else:
            self._aws.check_bucket(split_s3_uri(media.uri)[0])
        source = locate(self._aws, media)
        self._invoker.check_size(Media(media.kind, uri=source.uri, size=source.size))
        return source

    def _run_job(
        self, source: SourceIdentity, request: MediaRequest, tell: Tell, *, force: bool, timeout_sec: float | None
    ) -> SegmentEmbeddings:
        for attempt in range(1, ATTEMPTS + 1):
            job = self._jobs.start(request, source, force=force and attempt == 1)
            tell("reused" if job.output_uri else "joined" if job.joined else "started")
            try:
                output = self._jobs.wait(job, timeout_sec=timeout_sec, on_poll=lambda: tell("running"))
                return self._jobs.read(output, source=job.source, job=job.id, kind=job.kind)
            except JobError as error:
                # start() counts attempts over all runs; a wait that timed out is the caller's to repeat.
                if not error.passing or timeout_sec is not None or attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _embed_image(
        self, source: SourceIdentity, request: MediaRequest, tell: Tell, *, force: bool
    ) -> SegmentEmbeddings:
        """An image as a segment: one synchronous call, its reply kept where a job's output would lie."""
        job = self._jobs.find(request, source)
        if job.output_uri is not None and not force:
            tell("reused")
            return self._jobs.read(job.output_uri, source=job.source, job=job.id, kind="image")
        tell("started")
        body = requests.encode(request.body(self._invoker.location(Media("image", uri=source.uri))))

        def call() -> tuple[bytes, SegmentEmbeddings]:
            reply = self._invoker.reply(body)
            found = read_output(
                [reply],
                dimension=self._model.dimension,
                source=source.uri,
                job=job.id,
                model_id=self._model.model_id,
                media_type="image",
            )
            return reply, found

        reply, found = self._gate.call(call, "InvokeModel", source.uri)
        self._jobs.put_output(job, reply)
        return found
