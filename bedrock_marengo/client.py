"""MarengoClient: what users type. Every call has an ``a...`` twin."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from bedrock_marengo.aws.cancellation import CancellableExecutor, CancelToken, cancel_scope
from bedrock_marengo.aws.fork_safety import renew_in_children
from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import AWS_FIELDS, Aws, AwsSettings
from bedrock_marengo.aws.start_rate import StartLimiter
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import Media, MediaLike, Query, Segmentation, Sources, check_images
from bedrock_marengo.contract.models import Kind, Model, find_model
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.embedding.batch import MediaResult, embed_all
from bedrock_marengo.embedding.invoke import Invoker
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.embedding.pipeline import MediaEmbedder, Progress
from bedrock_marengo.embedding.plan import JOB_SEC, JOBS_ALLOWED, Plan, Planner
from bedrock_marengo.embedding.pricing import Budget, Prices, Usage
from bedrock_marengo.embedding.vector_cache import VectorCache
from bedrock_marengo.errors import ConfigurationError, InputError, SegmentNotFoundError, warn_once
from bedrock_marengo.jobs.cleanup import Cleanup, DeletionReport
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.jobs.job import Job
from bedrock_marengo.jobs.resume import resume_job
from bedrock_marengo.jobs.runner import Jobs
from bedrock_marengo.media.clips import clip_of
from bedrock_marengo.media.durations import Durations
from bedrock_marengo.media.frames import frames_of
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.listing import MediaListing, object_tags
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.presign import playable_url
from bedrock_marengo.s3.sidecars import captions_beside
from bedrock_marengo.settings import check_client, check_run
from bedrock_marengo.validation import reject_unknown, require_many, short_repr
from bedrock_marengo.words.captions import Transcript

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

__all__ = ["MarengoClient"]

P = ParamSpec("P")
T = TypeVar("T")
Vector = npt.NDArray[np.float32]

JOBS_AT_ONCE = 64
"""Media that embed_many has under way; how many jobs the account allows is found out, about 20 were seen."""
_END = object()
_TAKEN = 128
"""Vectors that asyncio takes at a time."""


class MarengoClient:
    """Marengo on Amazon Bedrock: text, images, video and audio into one space.

    Nothing is called until the first use. One client serves many threads and asyncio tasks.

    Args:
        model: "3.0", "2.7", a model ID, an inference profile's ID, or an ARN of these.
        region_name: where the model and the buckets are: us-east-1, eu-west-1 or ap-northeast-2.
        output_s3_uri: an S3 prefix that this package may write to: jobs' outputs and uploads. Needed for segments.
        invoke_model_id: what InvokeModel gets in place of the region's ID, such as an application inference profile.
        bucket_owner: the account (12 digits) that owns the buckets, or a mapping of bucket to account. Left out, STS
            tells one's own.
        max_concurrency: calls in flight at once.
        truncate: "end" lets the service cut a text that is too long, with one warning; "error" refuses a text that
            might be cut: one of more bytes than the limit has tokens, or as ``token_counter`` counts.
        token_counter: text -> tokens, in place of our estimate.
        tags: for the jobs, on the AWS bill.
        output_kms_key_id: the key that Bedrock encrypts outputs with.
        staging_s3_uri: an S3 prefix in the model's region, such as "s3://bucket/stage/", that files in
            buckets of other regions are copied to, within S3, while their jobs run. Without it they are refused.
        identity: what tells one version of an object from another, beside key and size: "etag" (a listing gives it),
            "checksum" (S3's own, by one HEAD for each object: what is copied in place is not paid for again), or a
            callable from ``SourceIdentity`` to a string.
        prices: the table that plans, budgets and ``usage`` reckon by.
        max_starts_per_sec: jobs started a second, at most; what the account allows is found out anyway.

    The other settings are boto3's: ``profile_name``, ``session``, ``aws_access_key_id`` and the like, ``config``,
    ``endpoint_url`` (Bedrock), ``s3_endpoint_url``, ``bedrock_client``; and ``role_arn``, a role to work in, whose
    credentials are fetched anew before they run out, with its ``role_session_name``.

    Examples:
        >>> client = MarengoClient(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        >>> client.embed_text("a dog on a beach").shape  # doctest: +SKIP
        (512,)
    """

    _made: tuple[Jobs, MediaEmbedder] | None

    def __init__(
        self,
        model: str = "3.0",
        *,
        region_name: str | None = None,
        output_s3_uri: str | None = None,
        invoke_model_id: str | None = None,
        profile_name: str | None = None,
        role_arn: str | None = None,
        role_session_name: str = "bedrock-marengo",
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        session: boto3.Session | None = None,
        bedrock_client: BedrockRuntimeClient | None = None,
        endpoint_url: str | None = None,
        s3_endpoint_url: str | None = None,
        config: Config | None = None,
        bucket_owner: str | Mapping[str, str] | None = None,
        max_concurrency: int = 16,
        truncate: Literal["end", "error"] = "end",
        token_counter: Callable[[str], int] | None = None,
        tags: Mapping[str, str] | None = None,
        output_kms_key_id: str | None = None,
        staging_s3_uri: str | None = None,
        identity: Identity = "etag",
        prices: Prices | None = None,
        max_starts_per_sec: float | None = None,
    ) -> None:
        given = locals()
        self._model, profile = find_model(model)
        self._settings = {name: given[name] for name in _OWN_FIELDS}
        check_client(self._settings)
        self._settings["invoke_model_id"] = invoke_model_id or profile
        self._aws_settings = AwsSettings(**{name: given[name] for name in AWS_FIELDS if name in given})
        self._set_up()
        if day := self._model.end_of_life.get("*"):
            warn_once(
                f"end {self._model.version}",
                f"AWS ends Marengo {self._model.version} on {day.isoformat()}, and its vectors never mix with those of "
                "another version: embed again with {model}. (Shown once.)",
                remedy={"model": "3.0"},
                stacklevel=3,
            )

    # Text, images and their combinations: one InvokeModel call for each.

    def embed_text(self, text: str) -> Vector:
        """One text as float32 ``(dimension,)``.

        Raises:
            InputError: Empty, not a string, or too long with ``truncate="error"``.
            ServiceError: AWS refused.
        """
        return self._invoker.vector(self._invoker.text_body(text))

    def embed_texts(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """Many texts as float32 ``(n, dimension)``, in order; equal texts are asked for once.

        All texts are checked before the first call; the first failure stops the rest.

        Raises:
            InputError: As ``embed_text``, naming the text by its place.
            ServiceError: AWS refused.
        """
        texts = list(require_many(texts, "embed_texts", "texts"))
        return self._embed_texts(texts, range(len(texts)), len(texts))

    def iter_embed_texts(self, texts: Iterable[str]) -> Iterator[Vector]:
        """Any number of texts, one float32 ``(dimension,)`` for each, in order, in bounded memory.

        Texts are taken as needed, many calls at once; equal ones among the latest 4,096 are asked for once. The first
        failure ends it, after the vectors of all texts before.

        Raises:
            InputError: As ``embed_text``, naming the text by its place.
            ServiceError: AWS refused.
        """
        return self._invoker.each(
            self._pool("calls"), require_many(texts, "iter_embed_texts", "texts"), ahead=self._ahead
        )

    def embed_image(self, image: MediaLike) -> Vector:
        """One image as float32 ``(dimension,)``. A local image goes inside the request.

        Args:
            image: ``s3://bucket/key``, a ``pathlib.Path`` or ``Media``; JPEG or PNG of at most 5 MB.

        Raises:
            InputError: No image, or too large.
            ConfigurationError: Its bucket is in another region, or nobody knows the account that owns it.
            ServiceError: AWS refused.
        """
        media = Media.of(image, "image")
        return self._invoker.vector(
            payloads.encode(payloads.image(self._model, self._invoker.location(media))), media.name, kind="image"
        )

    def embed_images(self, images: Iterable[MediaLike]) -> npt.NDArray[np.float32]:
        """Many images as float32 ``(n, dimension)``, in order, read and sent as their turn comes.

        The first failure stops the rest. Raises as ``embed_image``.
        """
        images = require_many(images, "embed_images", "images")
        vectors = list(in_order(self._pool("calls"), self.embed_image, images, ahead=self._ahead))
        return np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)

    def embed_text_image(self, text: str, image: MediaLike) -> Vector:
        """A text and an image as one vector, float32 ``(dimension,)``. Marengo 3.0.

        Raises:
            InputError: The model has no such input, the text is empty or the image can't be used.
            ServiceError: AWS refused.
        """
        media = Media.of(image, "image")
        body = payloads.text_image(self._model, text, self._invoker.location(media))
        self._invoker.check_length(text)
        return self._invoker.vector(payloads.encode(body), f"a text with {media.name}", kind="image")

    def embed_multi_input(self, text: str | None, images: Mapping[str, MediaLike] | Sequence[MediaLike]) -> Vector:
        """Up to 10 images as one vector, placed in a text by ``<@name>`` if there is one. Marengo 3.0.

        Args:
            text: such as "<@a> beside <@b>"; None for the images alone.
            images: name -> image, or a plain list where the text names none.

        Returns:
            float32 ``(dimension,)``.

        Raises:
            InputError: The model has no such input, a name in the text has no image, or there are too many.
            ServiceError: AWS refused.
        """
        check_images(images)

        def find(image: MediaLike) -> dict[str, Any]:
            return self._invoker.location(Media.of(image, "image"))

        if isinstance(images, Mapping):
            body = payloads.multi_input(self._model, text, {name: find(image) for name, image in images.items()})
        else:
            body = payloads.multi_input(self._model, text, [find(image) for image in images])
        if text is not None:
            self._invoker.check_length(text)
        return self._invoker.vector(payloads.encode(body), f"{len(images)} images", kind="image")

    def embed_query(self, query: Query | str) -> Vector:
        """A query as float32 ``(dimension,)``, whatever it is made of.

        Audio and video queries are jobs like any other: they need ``output_s3_uri`` and take as long. Their vector is
        that of the sound or the sight of the whole medium.

        Raises:
            InputError: The model has no such query, or a part of it can't be used.
            ServiceError: AWS refused. Audio and video raise as ``embed_media``, too.
        """
        if isinstance(query, str):
            return self.embed_text(query)
        if not isinstance(query, Query):
            raise InputError(
                f"{short_repr(query)} is no query: give a string, or Query(text=..., image=...) and the like."
            )
        if query.images is not None:
            return self.embed_multi_input(query.text, query.images)
        if query.image is not None:
            if query.text is None:
                return self.embed_image(query.image)
            return self.embed_text_image(query.text, query.image)
        if query.text is not None:
            return self.embed_text(query.text)
        kind: Literal["audio", "video"] = "video" if query.video is not None else "audio"
        media = query.video if query.video is not None else query.audio
        assert media is not None  # noqa: S101  Query has one of them
        option = self._model.options[kind][0]
        scope = self._model.scopes[-1]
        found = self.embed_media(Media.of(media, kind), options=[option], scopes=[scope])
        mean = found.vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    # Segments of media: asynchronous invocations.

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
        """All segments of one medium. Work that was done before is found, a running job is joined.

        Local media are uploaded under ``output_s3_uri`` first, unless they are there already. An image is one segment.

        Args:
            source: ``s3://bucket/key``, a ``pathlib.Path`` or ``Media``.
            options: the tracks, such as ["visual", "audio"]. Default: all that the model has for the kind.
            scopes: ["clip"], ["asset"] or both. Default: the service's, both for 3.0.
            segmentation: ``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's.
            start_sec: where to begin, seconds.
            end_sec: where to end, seconds.
            fused: True for the fused vectors too, "only" for just them. 3.0.
            force: pay again for work that was done, or failed for good, before.
            repay_expired: pay again for work whose output was read before and has been deleted since.
            timeout_sec: how long to wait for the job; it goes on, and the next run joins it.
            on_progress: called with ``Progress`` in the thread that works.

        Raises:
            InputError: What was asked does not fit the model or the medium. Nothing was paid.
            MediaNotFoundError: The medium is not there.
            JobError: The job failed for good.
            OutputError: Its output can't be used.
            ServiceError: AWS refused.
        """
        check_run(force=force, repay_expired=repay_expired, timeout_sec=timeout_sec, on_progress=on_progress)
        media = Media.of(source)
        request = self._request_of(
            media.kind,
            options=options,
            scopes=scopes,
            segmentation=segmentation,
            start_sec=start_sec,
            end_sec=end_sec,
            fused=fused,
        )
        found = self._worker.embed(
            media,
            request,
            force=force,
            repay_expired=repay_expired,
            timeout_sec=timeout_sec,
            on_progress=on_progress,
        )
        self._recall.remember(found)
        return found

    def embed_many(
        self,
        sources: Sources | MediaListing,
        *,
        jobs_at_once: int = JOBS_AT_ONCE,
        read_ahead: bool = False,
        **settings: Any,
    ) -> Generator[MediaResult, None, None]:
        """Many media, each handed on as it finishes. One that fails does not stop the others: it has ``.error``.

        What was done before costs one listing of the output prefix for all of it, and is read when its ``.segments``
        are asked for. How fast to start and how many jobs to run is found out from what the account allows; a run that
        was killed goes on where it stood.

        Args:
            sources: prefixes, objects, paths, folders, ``Media`` or an iterator of these, taken as needed.
            jobs_at_once: media under way, and so jobs in flight, at most.
            read_ahead: read the segments of what was done before on the threads that embed, too.
            settings: as for ``embed_media``; and ``max_cost_usd``, which stops before the start that would pass it,
                with ``durations`` (source URI -> seconds) and ``assume_duration_sec`` for media of unknown length;
                ``only_done``, with which nothing is uploaded, started or waited for: what was not embedded with these
                options before has a ``NotEmbeddedError``; and ``validate``, called with each medium's S3 URI before
                anything is started for it: a ``MarengoError`` that it raises is that medium's.

        Raises:
            InputError: A setting that fits neither video nor audio.
        """
        return self._embed_all(sources, jobs_at_once, read_ahead, settings, CancelToken(self._gate.stop))

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
        """Start a medium's job, or find it started or done, and return at once. Arguments as of ``embed_media``.

        Raises:
            InputError: What was asked does not fit the model or the medium. Nothing was paid.
            MediaNotFoundError: The medium is not there.
            JobError: The job failed for good before.
            ServiceError: AWS refused.
        """
        check_run(force=force, repay_expired=repay_expired)
        media = Media.of(source)
        request = self._request_of(
            media.kind,
            options=options,
            scopes=scopes,
            segmentation=segmentation,
            start_sec=start_sec,
            end_sec=end_sec,
            fused=fused,
        )
        return self._worker.start(media, request, force=force, repay_expired=repay_expired)

    def collect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """Wait for a job and read its segments.

        Raises:
            InputError: What was given is no job.
            JobError: It failed, or did not end within ``timeout_sec``.
            OutputError: Its output can't be used, or the medium was replaced before anyone had read it.
        """
        if not isinstance(job, Job):
            raise InputError(f"{short_repr(job)} is no job: give what start() or job() gave.")
        check_run(timeout_sec=timeout_sec)
        found = self._worker.collect(job, timeout_sec=timeout_sec)
        self._recall.remember(found)
        return found

    def job(self, name: str) -> Job:
        """The job of an earlier ``start``, in any process: by its ARN, or the S3 URI of its output.json.

        Examples:
            >>> client.collect(client.job("s3://bucket/marengo/.../a1b2c3d4e5f6/output.json"))  # doctest: +SKIP

        Raises:
            InputError: The name is neither.
            JobError: Bedrock does not know the ARN.
            OutputError: It is no job of ours, or the output is of no use.
            ConfigurationError: It is a job of another model.
            ServiceError: AWS refused.
        """
        return resume_job(self._jobs, self._model, name)

    def plan(
        self,
        sources: Sources | MediaListing,
        *,
        durations: Durations | None = None,
        probe: bool = True,
        assume_duration_sec: float | None = None,
        jobs_at_once: int = JOBS_ALLOWED,
        mean_job_sec: float = JOB_SEC,
        force: bool = False,
        **settings: Any,
    ) -> Plan:
        """The dry run of ``embed_many``: what would be started, joined, reused, uploaded, staged, and what it costs.

        Starts and writes nothing. A prefix costs its listing and one of the output prefix; lengths cost a few ranged
        GETs for each medium to start, unless given.

        Args:
            sources: as for ``embed_many``.
            durations: source URI (or path) -> seconds, a mapping or a callable; what it lacks is read.
            probe: whether to read lengths from the media, where PyAV is installed (extra ``media``).
            assume_duration_sec: what to take a medium of unknown length for; left out, such media are in no sum.
            jobs_at_once: jobs that the account allows in flight.
            mean_job_sec: how long a job takes, seconds.
            force: as if nothing were done yet.
            settings: as for ``embed_many``: options, scopes, segmentation, start_sec, end_sec, fused.

        Returns:
            Counts, seconds, bytes and US dollars of what would be started.

        Raises:
            InputError: A setting that fits neither video nor audio.
            ServiceError: AWS would not list.
        """
        check_run(
            durations=durations,
            assume_duration_sec=assume_duration_sec,
            jobs_at_once=jobs_at_once,
            mean_job_sec=mean_job_sec,
            force=force,
        )
        request = self._requests("plan", settings)
        planner = Planner(
            aws=self._aws,
            request=request,
            check_size=self._invoker.check_size,
            output_s3_uri=self.output_s3_uri,
            index=JobIndex.load(self._aws, self.output_s3_uri),
            staged=self._settings["staging_s3_uri"] is not None,
            identity=self._settings["identity"],
            prices=self._prices,
            durations=durations,
            probe=probe,
            assume_duration_sec=assume_duration_sec,
            force=force,
        )
        listing = sources if isinstance(sources, MediaListing) else self.list_media(sources)
        return planner.plan(
            listing, self._pool("calls"), ahead=self._ahead, jobs_at_once=jobs_at_once, mean_job_sec=mean_job_sec
        )

    def forget(
        self, source: MediaLike, *, dry_run: bool = False, store: Callable[[str], Any] | None = None
    ) -> DeletionReport:
        """Remove all that was made of a source: outputs, request files, uploads, copies; never the source itself.

        The object may be gone already. Whoever embeds the source again pays again.

        Args:
            source: ``s3://bucket/key``, as segments' metadata name it, or the local medium that was uploaded.
            dry_run: only tell.
            store: called with each source's URI first, to take out its segments:
                ``functools.partial(langchain_marengo.delete_segments, vectorstore)`` or ``index.delete_ref_doc``.

        Raises:
            InputError: No source, or a local file that is gone: give its upload's URI.
            ServiceError: AWS refused; what is left is removed by the next call.
        """
        receipt = Cleanup(self._aws, self.output_s3_uri, self._stage).forget(source, dry_run=dry_run, store=store)
        if not dry_run:
            for uri in receipt.sources:
                self._recall.forget(uri)
        return receipt

    def list_media(
        self,
        sources: Sources,
        *,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        modified_after: datetime | None = None,
        limit: int | None = None,
    ) -> MediaListing:
        """The media that a prefix, folder, manifest or list holds, lazily.

        Args:
            sources: ``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a file or folder, ``Media``, a
                ``Manifest``, or an iterable of these.
            suffixes: of a prefix, folder or manifest only these, such as [".mp4"].
            exclude: glob patterns of keys to leave out.
            modified_after: only what was modified after this time, which names its zone.
            limit: at most this many.

        Returns:
            A listing, to read as often as you like; ``.skipped`` counts what was left out and why.
        """
        return MediaListing(
            self._aws,
            sources,
            suffixes=suffixes,
            exclude=exclude,
            modified_after=modified_after,
            limit=limit,
            output_s3_uri=self._settings["output_s3_uri"],
            staged=self._settings["staging_s3_uri"] is not None,
        )

    def object_tags(self, source: str) -> dict[str, str]:
        """The tags of an object at ``s3://bucket/key``.

        Raises:
            ServiceError: AWS refused: it needs s3:GetObjectTagging.
        """
        return object_tags(self._aws, source)

    def locate(self, source: MediaLike) -> SourceIdentity:
        """A medium's URI, size in bytes and ETag on S3, by one listing; a local one is uploaded first.

        Raises:
            MediaNotFoundError: The medium is not there.
            InputError: It is empty, archived or too large.
            ServiceError: AWS refused.
        """
        return self._worker.locate(Media.of(source))

    def playable_url(self, segment: Segment | str, *, expires_sec: int = 3600) -> str:
        """A presigned URL, with ``#t=start,end``, that plays a segment in a browser. Made without a call.

        Whoever has it can read the whole medium until it expires, at the latest with the credentials that signed it.

        Args:
            segment: the segment or its URI.
            expires_sec: seconds, at most 7 days.

        Raises:
            InputError: A string that is no segment's URI.
            ConfigurationError: ``expires_sec`` is more than S3 takes.
            ServiceError: There are no credentials.
        """
        return playable_url(self._aws, Segment.of(segment), expires_sec=expires_sec)

    def frames(self, source: MediaLike, at_sec: Sequence[float], *, width: int = 512) -> list[bytes]:
        """JPEGs of what a video shows at some times, in the order asked; past its end it is the last frame.

        From S3 only what is needed is read, in ranges. With the extra ``media``.

        Args:
            source: a video or an image (of which every time is the same), as for ``embed_media``.
            at_sec: seconds on the medium's own clock.
            width: pixels at most; the height follows.

        Raises:
            InputError: It shows nothing, can't be decoded, or a time or the width makes no sense.
            ServiceError: AWS would not give the bytes.
            ConfigurationError: PyAV is not installed.
        """
        return frames_of(self._aws, Media.of(source), at_sec, width=width)

    def clip(self, source: MediaLike, start_sec: float, end_sec: float, *, width: int = 480) -> bytes:
        """A part of a video or of audio as a small MP4 (H.264, AAC) of its own, which begins where the part does.

        For pages and notebooks that must hold what they show. From S3 only what is needed is read. With the extra
        ``media``.

        Args:
            source: as for ``embed_media``.
            start_sec: seconds on the medium's own clock.
            end_sec: seconds, as ``start_sec``.
            width: pixels at most; the height follows.

        Raises:
            InputError: There is nothing between these times, or it can't be decoded.
            ServiceError: AWS would not give the bytes.
            ConfigurationError: PyAV is not installed.
        """
        return clip_of(self._aws, Media.of(source), start_sec, end_sec, width=width)

    def captions_of(self, source: MediaLike) -> Transcript | None:
        """The captions (.vtt, .srt) that lie beside a medium under its own name; None if there are none.

        Raises:
            InputError: They are no captions.
            ServiceError: AWS refused.
        """
        return captions_beside(self._aws, Media.of(source))

    def segment_vectors(self, segments: Iterable[Segment | str]) -> list[Vector]:
        """The vectors that segments (or their URIs) name, each float32 ``(dimension,)``, in order.

        From a bounded cache, else from the job's output.json under our own output prefix, each read once.

        Raises:
            InputError: A string that is no segment's URI.
            SegmentNotFoundError: No job of ours holds the segment.
            ServiceError: AWS refused.
        """
        return self._recall.vectors(
            [Segment.of(segment) for segment in require_many(segments, "segment_vectors", "segments")]
        )

    def vectors_of(self, inputs: Sequence[str | Segment]) -> list[Vector]:
        """Texts and segments in any mixture, each float32 ``(dimension,)``: a text is embedded, a segment has its own.

        Raises:
            InputError: As ``embed_texts``, naming the text by its place among all.
            SegmentNotFoundError: As ``segment_vectors``.
            ServiceError: AWS refused.
        """
        # Segments first: one that is not ours is refused before a text costs.
        known = iter(self.segment_vectors([given for given in inputs if isinstance(given, Segment)]))
        texts = {place: given for place, given in enumerate(inputs) if not isinstance(given, Segment)}
        plain = iter(self._embed_texts(list(texts.values()), texts, len(inputs)))
        return [next(known if isinstance(given, Segment) else plain) for given in inputs]

    # The same, for asyncio: on threads of our own, never on the loop nor on its default executor.

    async def aembed_text(self, text: str) -> Vector:
        """``embed_text`` for asyncio."""
        return await self.run_async(self.embed_text, text)

    async def aembed_texts(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """``embed_texts`` for asyncio."""
        return await self.run_async(self.embed_texts, texts)

    async def aiter_embed_texts(self, texts: Iterable[str]) -> AsyncIterator[Vector]:
        """``iter_embed_texts`` for asyncio: ``async for vector in client.aiter_embed_texts(...)``."""
        results = self.iter_embed_texts(texts)
        error: Exception | None = None

        def take() -> list[Vector]:
            # Many at a time: a trip to a thread costs more than a vector. What came before a failure is not lost.
            nonlocal error
            taken: list[Vector] = []
            try:
                taken.extend(itertools.islice(results, _TAKEN))
            except Exception as raised:
                error = raised
            return taken

        while error is None and (vectors := await self.run_async(take)):
            for vector in vectors:
                yield vector
        if error is not None:
            raise error

    async def aembed_image(self, image: MediaLike) -> Vector:
        """``embed_image`` for asyncio."""
        return await self.run_async(self.embed_image, image)

    async def aembed_images(self, images: Iterable[MediaLike]) -> npt.NDArray[np.float32]:
        """``embed_images`` for asyncio."""
        return await self.run_async(self.embed_images, images)

    async def aembed_text_image(self, text: str, image: MediaLike) -> Vector:
        """``embed_text_image`` for asyncio."""
        return await self.run_async(self.embed_text_image, text, image)

    async def aembed_multi_input(
        self, text: str | None, images: Mapping[str, MediaLike] | Sequence[MediaLike]
    ) -> Vector:
        """``embed_multi_input`` for asyncio."""
        return await self.run_async(self.embed_multi_input, text, images)

    async def aembed_query(self, query: Query | str) -> Vector:
        """``embed_query`` for asyncio."""
        return await self.run_async(self.embed_query, query)

    async def aembed_media(self, source: MediaLike, **settings: Any) -> SegmentEmbeddings:
        """``embed_media`` for asyncio. Cancelled, it waits no more; its job goes on, and the next call joins it."""
        return await self._run("jobs", self.embed_media, source, **settings)

    async def aembed_many(
        self,
        sources: Sources | MediaListing,
        *,
        jobs_at_once: int = JOBS_AT_ONCE,
        read_ahead: bool = False,
        **settings: Any,
    ) -> AsyncIterator[MediaResult]:
        """``embed_many`` for asyncio: ``async for done in client.aembed_many(...)``."""
        left = CancelToken(self._gate.stop)
        results = self._embed_all(sources, jobs_at_once, read_ahead, settings, left)
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = self._submit("jobs", left, next, results, _END)
                # Shielded: a generator can't be closed while a thread is inside it.
                if (done := await asyncio.shield(step)) is _END:
                    return
                yield done
        finally:
            left.set()
            if step is not None and not step.done():
                await asyncio.wait([step])
                # Looked at, or asyncio would complain; nobody wants it any more.
                _ = step.cancelled() or step.exception()
            await self._submit("async", CancelToken(), results.close)

    async def astart(self, source: MediaLike, **settings: Any) -> Job:
        """``start`` for asyncio."""
        return await self.run_async(self.start, source, **settings)

    async def acollect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """``collect`` for asyncio."""
        return await self._run("jobs", self.collect, job, timeout_sec=timeout_sec)

    async def ajob(self, name: str) -> Job:
        """``job`` for asyncio."""
        return await self.run_async(self.job, name)

    async def aplan(self, sources: Sources | MediaListing, **settings: Any) -> Plan:
        """``plan`` for asyncio."""
        return await self.run_async(self.plan, sources, **settings)

    async def aforget(
        self, source: MediaLike, *, dry_run: bool = False, store: Callable[[str], Any] | None = None
    ) -> DeletionReport:
        """``forget`` for asyncio."""
        return await self.run_async(self.forget, source, dry_run=dry_run, store=store)

    async def aframes(self, source: MediaLike, at_sec: Sequence[float], *, width: int = 512) -> list[bytes]:
        """``frames`` for asyncio."""
        return await self.run_async(self.frames, source, at_sec, width=width)

    async def aclip(self, source: MediaLike, start_sec: float, end_sec: float, *, width: int = 480) -> bytes:
        """``clip`` for asyncio."""
        return await self.run_async(self.clip, source, start_sec, end_sec, width=width)

    async def asegment_vectors(self, segments: Iterable[Segment | str]) -> list[Vector]:
        """``segment_vectors`` for asyncio."""
        return await self.run_async(self.segment_vectors, segments)

    async def run_async(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call of this client for asyncio, on the client's own threads.

        Cancelled, it begins no more requests, and its waits end.
        """
        return await self._run("async", call, *args, **kwargs)

    # What it is.

    @property
    def model(self) -> Model:
        """What the model is: dimension, limits, options."""
        return self._model

    @property
    def model_id(self) -> str:
        """The base model's ID, as it stands in metadata and fingerprints."""
        return self._model.model_id

    @property
    def dimension(self) -> int:
        """Length of each vector: 512 for 3.0, 1024 for 2.7."""
        return self._model.dimension

    @property
    def usage(self) -> Usage:
        """What this client has done, and what it cost by the table of prices."""
        return self._usage

    @property
    def output_s3_uri(self) -> str:
        """Where jobs write.

        Raises:
            ConfigurationError: It was not given.
        """
        uri: str | None = self._settings["output_s3_uri"]
        if uri is None:
            raise ConfigurationError(
                "Segments need a prefix on S3 for the jobs' outputs: give {output_s3_uri}.",
                setting="output_s3_uri",
                remedy={"output_s3_uri": "s3://bucket/marengo/"},
            )
        return uri

    def close(self) -> None:
        """Let go of threads and connections. The client makes new ones if it is used again.

        Requests under way in other threads or tasks end first; what waits there, for a job, for its turn or after a
        failure, is called off and raises ``ClosedError``. Jobs go on, and the next run joins them.
        """
        with self._lock:
            threads, made = list(self._threads), self._made
            self._pools.clear()
            self._made = None
            self._gate.close()
        for own in threads:
            own.shutdown(wait=True)
        if made is not None:
            made[0].close()
        self._aws.close()

    def __enter__(self) -> MarengoClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shown = {"model": self._model.version, "region_name": self._aws_settings.region_name}
        shown["output_s3_uri"] = self._settings["output_s3_uri"]
        return f"MarengoClient({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __deepcopy__(self, memo: dict[int, Any]) -> MarengoClient:
        # Within a process there is nothing to copy: settings never change, and threads and connections are shared.
        return self

    def __getstate__(self) -> dict[str, Any]:
        aws = self._aws_settings.without_secrets()
        return {**self._settings, **{name: getattr(aws, name) for name in AWS_FIELDS}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # How it is done.

    def _set_up(self) -> None:
        self._made = None
        self._aws = Aws(self._aws_settings)
        self._gate = RetryLimiter(self._aws_settings.max_concurrency)
        self._starts = StartLimiter(max_per_sec=self._settings["max_starts_per_sec"])
        settings = {name: self._settings[name] for name in ("invoke_model_id", "truncate", "token_counter")}
        self._prices = self._settings["prices"] or Prices()
        self._usage = Usage(self._prices)
        self._stage = (
            CrossRegionCopies(self._aws, self._settings["staging_s3_uri"]) if self._settings["staging_s3_uri"] else None
        )
        self._invoker = Invoker(self._aws, self._gate, self._model, usage=self._usage, **settings)
        self._recall = VectorCache(self._read_job)
        renew_in_children(self)

    def renew(self) -> None:
        """No threads: they don't survive a fork."""
        self._lock = threading.RLock()
        self._pools: dict[str, CancellableExecutor] = {}
        self._threads: WeakSet[CancellableExecutor] = WeakSet()

    @property
    def _jobs(self) -> Jobs:
        return self._jobs_and_worker()[0]

    @property
    def _worker(self) -> MediaEmbedder:
        return self._jobs_and_worker()[1]

    def _jobs_and_worker(self) -> tuple[Jobs, MediaEmbedder]:
        with self._lock:
            if self._made is None:
                if self._settings["invoke_model_id"] is None:
                    self._aws.check_region(self._model)
                settings = {name: self._settings[name] for name in ("tags", "output_kms_key_id")}
                jobs = Jobs(self._aws, self._gate, self._starts, self._model, self.output_s3_uri, **settings)
                how = {"outlay": self._outlay(), "identity": self._settings["identity"]}
                worker = MediaEmbedder(
                    self._aws, self._gate, self._model, self._invoker, jobs, self.output_s3_uri, **how
                )
                self._made = jobs, worker
            return self._made

    def _outlay(self, budget: Budget | None = None, durations: Durations | None = None) -> JobCosts:
        return JobCosts(aws=self._aws, usage=self._usage, stage=self._stage, budget=budget, durations=durations)

    @property
    def _ahead(self) -> int:
        # Enough that a slow call at the head leaves no thread idle.
        return 8 * self._aws_settings.max_concurrency

    async def _run(self, pool: Literal["async", "jobs"], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        stop = CancelToken(self._gate.stop)
        try:
            return await self._submit(pool, stop, call, *args, **kwargs)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _submit(
        self, pool: Literal["async", "jobs"], stop: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        with cancel_scope(stop):
            bound = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)
            return asyncio.get_running_loop().run_in_executor(self._pool(pool), bound)

    def _pool(self, name: Literal["calls", "async", "jobs"]) -> CancellableExecutor:
        with self._lock:
            if name not in self._pools:
                self._pools[name] = self._open_threads(name, self._sizes[name], self._gate.stop)
            return self._pools[name]

    def _open_threads(self, name: str, size: int, stop: CancelToken) -> CancellableExecutor:
        with self._lock:
            threads = CancellableExecutor(size, f"marengo-{name}", stop)
            self._threads.add(threads)
            return threads

    @property
    def _sizes(self) -> dict[str, int]:
        # An awaitable holds a thread while it waits, a medium's for as long as its job runs; the gate bounds what is in
        # flight. Media have their own, so that texts don't wait for jobs.
        calls = self._aws_settings.max_concurrency
        return {"calls": calls, "async": calls + 48, "jobs": JOBS_AT_ONCE}

    def _embed_all(
        self,
        sources: Sources | MediaListing,
        jobs_at_once: int,
        read_ahead: bool,
        settings: dict[str, Any],
        stopped: CancelToken,
    ) -> Generator[MediaResult, None, None]:
        reject_unknown(settings, (*_REQUEST_SETTINGS, *_RUN_SETTINGS), "embed_many")
        how = {name: settings.pop(name) for name in _RUN_SETTINGS if name in settings}
        check_run(jobs_at_once=jobs_at_once, **how)
        how["outlay"] = self._outlay(self._budget(how), how.pop("durations", None))
        only_done = how.pop("only_done", False)
        request = self._requests("embed_many", settings)

        def embed(media: Media) -> SegmentEmbeddings:
            if only_done:
                found = self._worker.read_done(media, request(media.kind))
            else:
                found = self._worker.embed(media, request(media.kind), **how)
            self._recall.remember(found)
            return found

        return embed_all(
            sources if isinstance(sources, MediaListing) else self.list_media(sources),
            embed,
            # What is to be paid again is not done.
            fingerprint=lambda m: None if how.get("force") else self._worker.job_id(m, request(m.kind)),
            is_done=lambda m: self._worker.is_done(m, request(m.kind)),
            load_index=lambda: JobIndex.load(self._aws, self.output_s3_uri),
            threads=functools.partial(self._open_threads, "media", jobs_at_once, stopped),
            at_once=jobs_at_once,
            read_ahead=read_ahead,
            stopped=stopped,
        )

    def _embed_texts(self, texts: Sequence[str], places: Iterable[int], total: int) -> npt.NDArray[np.float32]:
        """Texts, of which an error tells the place among ``total`` inputs."""
        bodies: dict[str, bytes] = {}
        for place, text in zip(places, texts, strict=True):
            if not isinstance(text, str) or text not in bodies:
                try:
                    bodies[text] = self._invoker.text_body(text)
                except InputError as error:
                    raise InputError(f"Text {place} of {total}: {error}") from None
        rows = {text: row for row, text in enumerate(bodies)}
        vectors = np.empty((len(bodies), self.dimension), np.float32)
        for row, vector in enumerate(self._invoker.vectors(self._pool("calls"), bodies.values(), ahead=self._ahead)):
            vectors[row] = vector
        return vectors if len(rows) == len(texts) else vectors[[rows[text] for text in texts]]

    def _budget(self, how: dict[str, Any]) -> Budget | None:
        most, assumed = how.pop("max_cost_usd", None), how.pop("assume_duration_sec", None)
        return None if most is None else Budget(most, self._prices, assume_duration_sec=assumed)

    def _request_of(self, kind: Kind, **settings: Any) -> MediaRequest:
        return MediaRequest(model=self._model, kind=kind, **settings)

    def _requests(self, where: str, settings: Mapping[str, Any]) -> Callable[[Kind], MediaRequest]:
        """The request for each kind. What fits no kind is refused at once; of what fits one, the other's media tell."""
        reject_unknown(settings, _REQUEST_SETTINGS, where)
        request = functools.cache(functools.partial(self._request_of, **settings))
        try:
            request("video")
        except InputError:
            request("audio")
        return request

    def _read_job(self, segment: Segment) -> SegmentEmbeddings:
        if self._settings["output_s3_uri"] is None:
            raise SegmentNotFoundError(
                f"{segment.uri!r} is a segment with its vector in its job's output: give {{output_s3_uri}} to find it.",
                setting="output_s3_uri",
                remedy={"output_s3_uri": ...},
            )
        return self._worker.recall(segment)


_REQUEST_SETTINGS = ("options", "scopes", "segmentation", "start_sec", "end_sec", "fused")
_RUN_SETTINGS = (
    "force",
    "repay_expired",
    "timeout_sec",
    "on_progress",
    "durations",
    "max_cost_usd",
    "assume_duration_sec",
    "only_done",
    "validate",
)
_OWN_FIELDS = (
    "model",
    "output_s3_uri",
    "invoke_model_id",
    "truncate",
    "token_counter",
    "tags",
    "output_kms_key_id",
    "staging_s3_uri",
    "identity",
    "prices",
    "max_starts_per_sec",
)
