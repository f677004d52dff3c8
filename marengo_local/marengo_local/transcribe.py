"""Amazon Transcribe's batch jobs: reads media from S3, and writes transcripts and subtitles to S3."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar
from uuid import uuid4

from botocore.exceptions import ClientError

from marengo_local.calls import Call
from marengo_local.contract.transcribe import (
    FORMATS,
    MAX_BYTES,
    MAX_SEC,
    MIN_SEC,
    TRANSCRIBE_OPERATIONS,
    bad_request,
    check_transcribe,
    is_format,
)
from marengo_local.decoding import NotDecoded, listen_to
from marengo_local.errors import ServiceError
from marengo_local.faults import Fault, FaultInjector
from marengo_local.job_runner import wait
from marengo_local.knobs import Knobs
from marengo_local.speech import Speech
from marengo_local.storage import Storage, split
from marengo_local.transcriptions import TranscriptionJob, Transcriptions
from marengo_local.transcripts import Cue, subtitles, transcript_json
from marengo_local.usage import Usage

__all__ = ["Transcribe"]

Result = TypeVar("Result")
_CHECK_SEC: Final = 0.05
_LINK_SEC: Final = 900
_CONTENT_TYPES: Final = {"json": "application/json", "vtt": "text/vtt", "srt": "text/plain"}
# Of synthetic media, the name says the format.
_SUFFIXES: Final = {"m4v": "mp4", "oga": "ogg", "opus": "ogg", "wave": "wav"}
_UNKNOWN: Final = "The requested job couldn't be found. Check the job name and try your request again."
_LIMIT: Final = (
    "You have exceeded the maximum number of concurrent transcription jobs. Wait until some of your jobs have "
    "completed and try your request again."
)
_UNREADABLE: Final = (
    "The S3 URI that you provided can't be accessed. Make sure that you have read permission and try your request "
    "again."
)
_UNWRITABLE: Final = (
    "The specified S3 bucket can't be accessed. Make sure that you have write permission and try your request again."
)
_TOO_SHORT: Final = "The input media file length is too small. Minimum audio duration is 0.500 seconds."


class JobFailed(Exception):  # noqa: N818 - named after the state
    """The job ends as FAILED, for this reason."""


class Transcribe:
    """The four operations on transcription jobs, and the jobs themselves. Runs on the server's event loop."""

    def __init__(
        self, knobs: Knobs, storage: Storage, faults: FaultInjector, pool: Executor, region: str, account_id: str
    ) -> None:
        self.jobs = Transcriptions()
        self.speech = Speech()
        self.usage = Usage()
        self._knobs = knobs
        self._storage = storage
        self._faults = faults
        self._pool = pool
        self._region = region
        self._account_id = account_id
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: Mapping[str, Callable[[Any], Awaitable[dict[str, Any]]]] = dict(
            zip(TRANSCRIBE_OPERATIONS, (self._start, self._get, self._list, self._delete), strict=True)
        )

    async def handle(self, op: str, body: Any) -> bytes:
        """The body of the response."""
        check_transcribe(op, body)
        self.jobs.expire(self._knobs.transcription_retention_sec, body.get("TranscriptionJobName"))
        return json.dumps(await self._handlers[op](body)).encode()

    async def reset(self) -> None:
        """Cancel and delete all jobs; forget what is said, and what was billed."""
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.jobs.reset()
        self.speech.reset()
        self.usage.reset()

    async def _start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        deferred = body.get("JobExecutionSettings", {}).get("AllowDeferredExecution", False)
        if body["TranscriptionJobName"] not in self.jobs:
            await self._in_pool(lambda: self._check_places(body))
            if not deferred and self._is_full():
                raise ServiceError("LimitExceededException", _LIMIT, 429)
        job = self.jobs.add(body)
        described = self._described(job)
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return described

    async def _get(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body["TranscriptionJobName"] not in self.jobs:
            raise ServiceError("NotFoundException", _UNKNOWN, 404)
        return self._described(self.jobs[body["TranscriptionJobName"]])

    async def _list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.jobs.page(body)

    async def _delete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body["TranscriptionJobName"]
        if name not in self.jobs:
            raise bad_request(_UNKNOWN)
        if not self.jobs[name].done:
            raise bad_request(f"The job {name} is {self.jobs[name].status} and can't be deleted before it ends.")
        self.jobs.forget(name)
        return {}

    def _described(self, job: TranscriptionJob) -> dict[str, Any]:
        outputs = job.outputs if job.status == "COMPLETED" else {}
        return {"TranscriptionJob": job.description({kind: self._link(job, uri) for kind, uri in outputs.items()})}

    def _link(self, job: TranscriptionJob, uri: str) -> str:
        bucket, key = split(uri)
        if "OutputBucketName" in job.request:
            return f"https://s3.{self._region}.amazonaws.com/{bucket}/{key}"
        where = {"Bucket": bucket, "Key": key}
        link: str = self._storage.client.generate_presigned_url("get_object", Params=where, ExpiresIn=_LINK_SEC)
        return link

    def _is_full(self) -> bool:
        most = self._knobs.max_transcription_jobs
        return most is not None and sum(not job.done for job in self.jobs) >= most

    def _check_places(self, body: Mapping[str, Any]) -> None:
        """The media must be readable, and the output bucket writable: a small file is written there, and stays."""
        uri = body["Media"]["MediaFileUri"]
        try:
            self._storage.check_bucket(uri, None)
            self._storage.describe(uri)
        except ServiceError:
            raise bad_request(_UNREADABLE) from None
        if uri in self._knobs.archive_tiers:
            raise bad_request(_UNREADABLE)
        if "OutputBucketName" not in body:
            return
        folder = _output_uri(body, "json").rpartition("/")[0]
        try:
            self._storage.check_bucket(folder, None)
            self._storage.write(f"{folder}/.write_access_check_file.temp", b"", None)
        except ServiceError:
            raise bad_request(_UNWRITABLE) from None

    async def _run(self, job: TranscriptionJob) -> None:
        try:
            await self._transcribe(job)
            job.end()
        except JobFailed as failure:
            job.end(str(failure))
        except ServiceError as error:
            job.end(error.message)
        except Exception as error:  # A user's callable may raise anything; the job reports it.
            job.end(f"Internal error: {error!r}")

    async def _transcribe(self, job: TranscriptionJob) -> None:
        while self._knobs.max_transcription_jobs is not None and (
            len(self.jobs.running()) >= self._knobs.max_transcription_jobs
        ):
            await asyncio.sleep(_CHECK_SEC)
        job.begin()
        began = time.monotonic()
        call = Call("TranscriptionJob", job.number, None, dict(job.request), job.name)
        fault = self._faults.next_fault(self._knobs.faults, call) or Fault("TranscriptionJob")
        heard = await self._in_pool(lambda: self._listen(job))
        await wait(lambda: self._knobs.transcription_sec, job, began + fault.delay_sec)
        if fault.error is not None:
            raise JobFailed(fault.message if fault.message is not None else fault.error)
        await self._in_pool(lambda: self._write(job, heard, fault.body))
        self.usage.add_transcription(heard["duration_sec"])

    def _listen(self, job: TranscriptionJob) -> dict[str, Any]:
        """What is heard in the media file, as the fields of `content.listening.Heard`. Raises JobFailed."""
        uri, given = job.media_uri, job.request.get("MediaFormat")
        heard = self._heard(uri, given)
        if heard["format"] not in FORMATS:
            raise JobFailed("Unsupported media format.")
        if not is_format(given, heard["format"]):
            raise JobFailed("The media format provided does not match the detected media format.")
        if heard["sample_rate_hz"] is None:
            raise JobFailed("The media file has no audio track.")
        if job.request.get("MediaSampleRateHertz", heard["sample_rate_hz"]) != heard["sample_rate_hz"]:
            raise JobFailed("The sample rate provided does not match the detected sample rate.")
        if heard["duration_sec"] < MIN_SEC:
            raise JobFailed(_TOO_SHORT)
        if heard["duration_sec"] > MAX_SEC:
            raise JobFailed(f"The input media file is too long. The maximum is {MAX_SEC:.0f} seconds.")
        return heard

    def _heard(self, uri: str, given: str | None) -> dict[str, Any]:
        if self._storage.describe(uri)[1] > MAX_BYTES:
            raise JobFailed("Invalid file size: file size too large.")
        if self._knobs.synthetic_sec is not None:
            suffix = PurePosixPath(split(uri)[1]).suffix.lower().removeprefix(".")
            kind = _SUFFIXES.get(suffix, suffix) or given or "mp4"
            return {"format": kind, "duration_sec": self._knobs.synthetic_sec, "sample_rate_hz": 16_000, "words": []}
        with self._storage.open(uri) as file:
            try:
                return listen_to(file, MAX_SEC)
            except NotDecoded:
                raise JobFailed("Unsupported media format.") from None

    def _write(self, job: TranscriptionJob, heard: Mapping[str, Any], replacement: bytes | None) -> None:
        said = self.speech.of(job.media_uri)
        cues = said.cues if said is not None else [Cue(*words) for words in heard["words"]]
        language = said.language if said is not None else "en-US"
        job.found, languages = _languages(job.request, language, heard["duration_sec"])
        job.found["MediaFormat"] = job.request.get("MediaFormat", heard["format"])
        job.found["MediaSampleRateHertz"] = heard["sample_rate_hz"]
        transcript = transcript_json(job.name, self._account_id, cues, languages)
        bodies = {"json": transcript if replacement is None else replacement}
        asked = job.request.get("Subtitles", {})
        for kind in asked.get("Formats", ()):
            bodies[kind] = subtitles(kind, cues, asked.get("OutputStartIndex", 0))
        outputs = {kind: _output_uri(job.request, kind) for kind in bodies}
        if "OutputBucketName" not in job.request:
            folder = f"{self._service_bucket()}/{self._account_id}/{job.name}/{uuid4()}"
            outputs = {kind: f"s3://{folder}/asrOutput.{kind}" for kind in bodies}
        for kind, uri in outputs.items():
            key_id = job.request.get("OutputEncryptionKMSKeyId")
            self._storage.write(uri, bodies[kind], key_id, _CONTENT_TYPES[kind])
        job.outputs = outputs

    def _service_bucket(self) -> str:
        bucket = f"aws-transcribe-{self._region}-prod"
        location = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            self._storage.client.create_bucket(Bucket=bucket, **({} if self._region == "us-east-1" else location))
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                raise
        return bucket

    def _in_pool(self, work: Callable[[], Result]) -> Awaitable[Result]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


def _output_uri(body: Mapping[str, Any], kind: str) -> str:
    """Where an output of one kind is written: a key that ends in .json names the transcript, others a folder."""
    key, job = body.get("OutputKey", ""), body["TranscriptionJobName"]
    stem = key.removesuffix(".json") if key.endswith(".json") else "/".join(filter(None, (key.rstrip("/"), job)))
    return f"s3://{body.get('OutputBucketName', '')}/{stem}.{kind}"


def _languages(body: Mapping[str, Any], spoken: str, duration_sec: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields on languages: those of the job, and those of the transcript's results."""
    if "LanguageCode" in body:
        return {}, {"language_code": body["LanguageCode"]}
    options = body.get("LanguageOptions", [spoken])
    code = spoken if spoken in options else options[0]
    scores = [{"code": code, "score": "0.98"}, *({"code": c, "score": "0.01"} for c in options if c != code)]
    if body.get("IdentifyMultipleLanguages"):
        codes = [{"LanguageCode": code, "DurationInSeconds": round(duration_sec, 2)}]
        lower = [{"language_code": code, "duration_in_seconds": round(duration_sec, 2)}]
        return {"LanguageCodes": codes}, {"language_codes": lower, "language_identification": scores}
    identified = {"LanguageCode": code, "IdentifiedLanguageScore": 0.98}
    return identified, {"language_code": code, "language_identification": scores}
