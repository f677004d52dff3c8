"""MarengoClient, the public entry point. Each call has an asyncio version with the prefix ``a``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np

from bedrock_marengo.ask_calls import AskCalls
from bedrock_marengo.async_calls import async_twin, one_by_one
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.contract.inputs import Media, MediaLike, Query, Segmentation, Sources
from bedrock_marengo.contract.payloads import REQUEST_SETTINGS, MediaRequest, requests_by_kind
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.embedding.batch import MediaResult, embed_all
from bedrock_marengo.embedding.invoke import warn_of_end
from bedrock_marengo.embedding.run_options import Progress
from bedrock_marengo.errors import InputError
from bedrock_marengo.jobs.job import InvocationStatus, Job
from bedrock_marengo.jobs.resume import resume_job
from bedrock_marengo.runtime import JOBS_AT_ONCE, PREPARED
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.settings import WORDS, ClientSettings
from bedrock_marengo.validation import reject_unknown, short_repr
from bedrock_marengo.vector_calls import Vector, VectorCalls
from bedrock_marengo.word_calls import WordCalls

__all__ = ["MarengoClient"]

P = ParamSpec("P")
T = TypeVar("T")
_RUN_SETTINGS = (
    "force",
    "repay_expired",
    "timeout_sec",
    "on_progress",
    "only_done",
    "validate",
    "durations",
    "max_cost_usd",
    "assume_duration_sec",
    *WORDS,
)


def _takes(settings: Callable[P, Any]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give an ``__init__`` the signature of a settings class, for type checkers and for ``help()``."""

    def signed(init: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        init.__wrapped__ = settings.__init__  # type: ignore[attr-defined]
        return init

    return signed


class MarengoClient(VectorCalls, WordCalls, AskCalls):
    """Marengo on Amazon Bedrock: embeds text, images, video and audio in one vector space.

    Creating a client makes no call. One client works for many threads and asyncio tasks.

    Args:
        model: "3.0", "2.7", a model ID, an inference profile ID, or the ARN of either.
        region_name: the region of the model and the buckets: us-east-1, eu-west-1 or ap-northeast-2, where AWS ends
            Marengo 3.0 on 2027-03-22.
        output_s3_uri: an S3 prefix that this package may write to, for job outputs and uploads. Required for segments.
        invoke_model_id: the ID that InvokeModel uses instead of the region's default, such as that of an application
            inference profile.
        bucket_owner: the account (12 digits) that owns the buckets, or a mapping of bucket to account. Default: your
            own account, looked up with STS.
        max_concurrency: the maximum number of calls in flight.
        truncate: "end" lets the service truncate a text that is too long, with one warning. "error" refuses a text that
            might be truncated: its bytes, or the tokens that ``token_counter`` returns, exceed the token limit.
        token_counter: text -> number of tokens, instead of our estimate.
        tags: tags for the jobs, which appear on the AWS bill.
        output_kms_key_id: the KMS key that Bedrock encrypts outputs with.
        staging_s3_uri: an S3 prefix in the model's region, such as "s3://bucket/stage/". Files from other regions are
            copied there, within S3, while their jobs run. Without it, they are refused.
        identity: what identifies a version of an object, in addition to key and size: "etag" (read from a listing),
            "checksum" (S3's own, read with one HeadObject per object; an object that is copied in place is then not
            billed again), or a callable from ``SourceIdentity`` to a string.
        prices: the prices that plans, budgets and ``usage`` use.
        max_starts_per_sec: the maximum number of jobs to start per second. Below it, the rate adapts to your quota.
        job_slots: limits the running jobs of several processes together, such as ``marengo_ray.RayJobSlots``.

    The other settings are those of boto3: ``profile_name``, ``session``, ``aws_access_key_id``,
    ``aws_secret_access_key``, ``aws_session_token``, ``config``, ``endpoint_url`` (Bedrock), ``s3_endpoint_url``,
    ``transcribe_endpoint_url`` and ``bedrock_client``. With ``role_arn`` (and ``role_session_name``), the client
    assumes a role and refreshes its credentials before they expire.

    Raises:
        InputError: ``output_s3_uri`` or ``staging_s3_uri`` is not a valid S3 prefix.
        ConfigurationError: Another setting is invalid.

    Examples:
        >>> client = MarengoClient(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        >>> client.embed_text("a dog on a beach").shape  # doctest: +SKIP
        (512,)
    """

    @_takes(ClientSettings)
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(ClientSettings(*args, **settings))
        warn_of_end(self.model, self._settings.region_name)

    # Queries.

    def embed_query(self, query: Query | str) -> Vector:
        """Embed a query of any kind as float32 ``(dimension,)``.

        An audio or video query runs as a job: it needs ``output_s3_uri`` and takes as long as any other job. Its vector
        covers the whole file: what is heard in audio, what is seen in video.

        Raises:
            InputError: The model doesn't support this query, or a part of it can't be used.
            ServiceError: AWS refused the call. For audio and video, also the errors of ``embed_media``.
        """
        if isinstance(query, str):
            return self.embed_text(query)
        if not isinstance(query, Query):
            raise InputError(
                f"{short_repr(query)} is not a query: pass a string or a Query, such as Query(text=..., image=...)."
            )
        if query.images is not None:
            return self.embed_multi_input(query.text, query.images)
        if query.image is not None:
            return (
                self.embed_image(query.image) if query.text is None else self.embed_text_image(query.text, query.image)
            )
        if query.text is not None:
            return self.embed_text(query.text)
        kind = query.job_kind
        assert kind is not None  # noqa: S101  all other queries are handled above
        media = Media.of(getattr(query, kind), kind)
        option, scope = self.model.options[kind][0], self.model.scopes[-1]
        mean = self.embed_media(media, options=[option], scopes=[scope]).vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    # Segments of files: asynchronous jobs.

    def embed_media(
        self,
        source: MediaLike,
        *,
        options: Sequence[str] | None = None,
        scopes: Sequence[str] | None = None,
        segmentation: Segmentation | None = None,
        start_sec: float | None = None,
        end_sec: float | None = None,
        fused: bool | Literal["only"] = False,
        force: bool = False,
        repay_expired: bool = False,
        timeout_sec: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SegmentEmbeddings:
        """Embed one file and return all its segments. Reuses a finished job and joins a running one.

        A local file is uploaded under ``output_s3_uri`` first, unless it is already there. An image is one segment.

        Args:
            source: ``s3://bucket/key``, a ``pathlib.Path`` or ``Media``.
            options: the embedding options, such as ["visual", "audio"]. Default: all that the model has for this kind
                of media.
            scopes: ["clip"], ["asset"] or both. Default: the service's default, which is both for 3.0.
            segmentation: ``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's default.
            start_sec: where to begin in the file, in seconds.
            end_sec: where to end in the file, in seconds.
            fused: True also returns fused vectors, "only" returns nothing else. Marengo 3.0.
            force: embed the file again, and pay again, if its job is finished or failed permanently.
            repay_expired: embed the file again, and pay again, if its output was read before and has since been
                deleted.
            timeout_sec: how long to wait for the job. After that the job continues, and the next run joins it.
            on_progress: called with ``Progress``, in the thread that does the work.

        Raises:
            InputError: The request does not fit the model or the file. Nothing is billed.
            MediaNotFoundError: The file does not exist.
            JobError: The job failed permanently, or did not finish within ``timeout_sec``.
            OutputError: The output can't be used.
            ServiceError: AWS refused a call.
        """
        settings = {"options": options, "scopes": scopes, "segmentation": segmentation, "start_sec": start_sec}
        settings |= {"end_sec": end_sec, "fused": fused}
        run = self._run_options(
            force=force, repay_expired=repay_expired, timeout_sec=timeout_sec, on_progress=on_progress
        )
        media = Media.of(source)
        request = MediaRequest(model=self.model, kind=media.kind, **settings)  # type: ignore[arg-type]
        return self._runtime.embedder.embed(media, request, run)

    def embed_many(
        self,
        sources: Sources | MediaListing,
        *,
        jobs_at_once: int = JOBS_AT_ONCE,
        read_ahead: bool = False,
        **settings: Any,
    ) -> Generator[MediaResult, None, None]:
        """Embed many files and yield each result as soon as it is ready. A file that fails has an ``.error``.

        Finished files are found with one listing of the output prefix, and their outputs are read only if you access
        ``.segments``. The start rate and the number of running jobs adapt to your quota. If a run is killed, the next
        one resumes where it stopped.

        Args:
            sources: prefixes, objects, paths, folders, ``Media`` or an iterator of these, which is read as needed.
            jobs_at_once: the maximum number of running jobs. A few more files are prepared and read at the same time.
            read_ahead: read the segments of finished files on the threads that embed. By default, this begins when
                ``.segments`` of a finished file is accessed for the first time.
            settings: the settings of ``embed_media``, and also:
                ``max_cost_usd``: stop before the first start that would exceed this, with ``durations`` (source URI ->
                seconds) and ``assume_duration_sec`` for files of unknown length.
                ``only_done``: upload, start and wait for nothing. A file that is not embedded with these options has a
                ``NotEmbeddedError``.
                ``validate``: called with each file's S3 URI before anything is started for it. If it raises a
                ``MarengoError``, the file gets that error.
                ``transcripts=Transcribe(...)``: transcribe files without captions with Amazon Transcribe while they are
                embedded. The result's ``.words.said`` has the words. If they are missing, a warning says why.
                ``descriptions=Pegasus(...)``: have TwelveLabs Pegasus describe what is seen in videos, as
                ``.words.seen``. A call that is in flight when the process dies may be paid for twice.

        Raises:
            InputError: A setting is valid for neither video nor audio.
        """
        token = CancelToken(self._runtime.limiter.cancel_token)
        return self._embed_all(sources, jobs_at_once, read_ahead, settings, token)

    def start(
        self,
        source: MediaLike,
        *,
        options: Sequence[str] | None = None,
        scopes: Sequence[str] | None = None,
        segmentation: Segmentation | None = None,
        start_sec: float | None = None,
        end_sec: float | None = None,
        fused: bool | Literal["only"] = False,
        force: bool = False,
        repay_expired: bool = False,
    ) -> Job:
        """Start the job of a file, or find it running or finished, and return at once.

        The arguments are those of ``embed_media``.

        Raises:
            InputError: The request does not fit the model or the file. Nothing is billed.
            MediaNotFoundError: The file does not exist.
            JobError: An earlier attempt failed permanently.
            ServiceError: AWS refused a call.
        """
        settings = {"options": options, "scopes": scopes, "segmentation": segmentation, "start_sec": start_sec}
        settings |= {"end_sec": end_sec, "fused": fused}
        run = self._run_options(force=force, repay_expired=repay_expired)
        media = Media.of(source)
        request = MediaRequest(model=self.model, kind=media.kind, **settings)  # type: ignore[arg-type]
        return replace(self._runtime.embedder.start(media, request, run), _ask=self._ask)

    def collect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """Wait for a job and read its segments.

        Raises:
            InputError: ``job`` is not a job.
            JobError: The job failed, or did not finish within ``timeout_sec``.
            OutputError: The output can't be used, or the file was replaced before the output was first read.
        """
        if not isinstance(job, Job):
            raise InputError(f"{short_repr(job)} is not a job: pass what start() or job() returned.")
        return self._runtime.embedder.collect(job, self._run_options(timeout_sec=timeout_sec))

    def job(self, name: str) -> Job:
        """Find the job of an earlier ``start``, in any process, by its ARN or by the S3 URI of its output.json.

        Examples:
            >>> client.collect(client.job("s3://bucket/marengo/.../a1b2c3d4e5f6/output.json"))  # doctest: +SKIP

        Raises:
            InputError: ``name`` is neither.
            JobError: Bedrock does not know the ARN.
            OutputError: It is not a job of this package, or its output is unusable.
            ConfigurationError: The job is for another model.
            ServiceError: AWS refused a call.
        """
        return replace(resume_job(self._runtime.runner, self.model, name), _ask=self._ask)

    # The same for asyncio.

    aembed_query = async_twin(embed_query)
    aembed_media = async_twin(embed_media, "jobs")
    astart = async_twin(start)
    acollect = async_twin(collect, "jobs")
    ajob = async_twin(job)

    def aembed_many(
        self,
        sources: Sources | MediaListing,
        *,
        jobs_at_once: int = JOBS_AT_ONCE,
        read_ahead: bool = False,
        **settings: Any,
    ) -> AsyncGenerator[MediaResult, None]:
        """``embed_many`` for asyncio: ``async for done in client.aembed_many(...)``."""
        runtime = self._runtime
        token = CancelToken(runtime.limiter.cancel_token)
        results = self._embed_all(sources, jobs_at_once, read_ahead, settings, token)
        return one_by_one(results, lambda: self._runtime.pool("jobs"), lambda: self._runtime.pool("async"), token)

    # How.

    def _ask(self, job: Job) -> InvocationStatus:
        # By the runtime of this process: a job may outlive a fork.
        return self._runtime.runner.ask(job)

    def _embed_all(
        self,
        sources: Sources | MediaListing,
        jobs_at_once: int,
        read_ahead: bool,
        settings: dict[str, Any],
        token: CancelToken,
    ) -> Generator[MediaResult, None, None]:
        reject_unknown(settings, (*REQUEST_SETTINGS, *_RUN_SETTINGS), "embed_many")
        given = {name: settings.pop(name) for name in _RUN_SETTINGS if name in settings}
        run = self._run_options(token, jobs_at_once=jobs_at_once, **given)
        runtime, at_once = self._runtime, jobs_at_once + min(PREPARED, jobs_at_once - 1)
        if run.words is not None:
            # Files that wait for their words only must not keep others from being embedded.
            at_once += sum(source.at_once for source in run.words.sources)
            is_whole = settings.get("start_sec") is None and settings.get("end_sec") is None
            run = replace(run, words=replace(run.words, is_whole=is_whole))
        return embed_all(
            lambda: self._runtime.embedder,
            sources if isinstance(sources, MediaListing) else self.list_media(sources),
            requests_by_kind(self.model, "embed_many", settings),
            run,
            executor=runtime.open_executor("media", at_once, token),
            at_once=at_once,
            read_ahead=read_ahead,
            token=token,
        )
