"""MarengoClient: what users type. Every call has an ``a...`` twin."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from bedrock_marengo import requests
from bedrock_marengo.aws import AWS_FIELDS, Aws, AwsSettings
from bedrock_marengo.errors import ConfigurationError, InputError, JobError, MarengoError, SegmentNotFoundError
from bedrock_marengo.identity import SourceIdentity
from bedrock_marengo.inputs import Media, MediaLike, Query, Segmentation, split_s3_uri
from bedrock_marengo.invoking import Invoker, warn_once
from bedrock_marengo.jobs import Job, Jobs
from bedrock_marengo.links import playable_url
from bedrock_marengo.media import Progress, Worker
from bedrock_marengo.models import Kind, Model, find_model
from bedrock_marengo.pacing import Gate, as_finished, in_order
from bedrock_marengo.recall import Recall
from bedrock_marengo.requests import MediaRequest
from bedrock_marengo.segments import Segment, SegmentEmbeddings
from bedrock_marengo.sources import MediaListing
from bedrock_marengo.transcripts import Transcript, captions_beside

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

__all__ = ["Done", "MarengoClient"]

P = ParamSpec("P")
T = TypeVar("T")
Vector = npt.NDArray[np.float32]

JOBS_AT_ONCE = 16
"""Jobs that embed_many keeps in flight. About 20 were seen to be allowed on real accounts."""
_END = object()


@dataclass(frozen=True, slots=True)
class Done:
    """One medium of ``embed_many``: ``source`` as handed in, and either ``segments`` or ``error``."""

    source: MediaLike
    uri: str | None
    segments: SegmentEmbeddings | None = None
    error: MarengoError | None = None


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

    The other settings are boto3's: ``profile_name``, ``session``, ``aws_access_key_id`` and the like, ``config``,
    ``endpoint_url`` (Bedrock), ``s3_endpoint_url``, ``bedrock_client``.

    Example:
        >>> client = MarengoClient(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        >>> client.embed_text("a dog on a beach").shape  # doctest: +SKIP
        (512,)
    """

    def __init__(
        self,
        model: str = "3.0",
        *,
        region_name: str | None = None,
        output_s3_uri: str | None = None,
        invoke_model_id: str | None = None,
        profile_name: str | None = None,
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
    ) -> None:
        given = locals()
        self._model, profile = find_model(model)
        if truncate not in ("end", "error"):
            raise ConfigurationError(f"truncate={truncate!r}: give 'end' or 'error'.")
        if output_s3_uri is not None:
            split_s3_uri(output_s3_uri)
        self._settings = {name: given[name] for name in _OWN_FIELDS}
        self._settings["invoke_model_id"] = invoke_model_id or profile
        self._aws_settings = AwsSettings(**{name: given[name] for name in AWS_FIELDS})
        self._set_up()
        if day := self._model.end_of_life.get("*"):
            warn_once(
                f"end {self._model.version}",
                f"AWS ends Marengo {self._model.version} on {day.isoformat()}, and its vectors never mix with those of "
                "another version: embed with model='3.0' anew. (Said once.)",
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
        if isinstance(texts, str):
            raise InputError("embed_texts takes many texts; for one use embed_text: a string would be its letters.")
        texts = list(texts)
        bodies: dict[str, bytes] = {}
        for i, text in enumerate(texts):
            if not isinstance(text, str) or text not in bodies:
                try:
                    bodies[text] = self._invoker.text_body(text)
                except InputError as error:
                    raise InputError(f"Text {i} of {len(texts)}: {error}") from None
        rows = {text: row for row, text in enumerate(bodies)}
        vectors = np.empty((len(bodies), self.dimension), np.float32)
        for row, vector in enumerate(self._invoker.vectors(self._pool("calls"), bodies.values(), ahead=self._ahead)):
            vectors[row] = vector
        return vectors if len(rows) == len(texts) else vectors[[rows[text] for text in texts]]

    def embed_image(self, image: MediaLike) -> Vector:
        """One image as float32 ``(dimension,)``. Local images go inside the request, at most 5 MB each."""
        media = Media.of(image, "image")
        return self._invoker.vector(
            requests.encode(requests.image(self._model, self._invoker.location(media))), media.name
        )

    def embed_images(self, images: Iterable[MediaLike]) -> npt.NDArray[np.float32]:
        """Many images as float32 ``(n, dimension)``, in order, read and sent as their turn comes."""
        vectors = list(in_order(self._pool("calls"), self.embed_image, images, ahead=self._ahead))
        return np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)

    def embed_text_image(self, text: str, image: MediaLike) -> Vector:
        """A text and an image as one vector, float32 ``(dimension,)``. Marengo 3.0."""
        media = Media.of(image, "image")
        body = requests.text_image(self._model, text, self._invoker.location(media))
        self._invoker.check_length(text)
        return self._invoker.vector(requests.encode(body), f"a text with {media.name}")

    def embed_multi_input(self, text: str | None, images: Mapping[str, MediaLike] | Sequence[MediaLike]) -> Vector:
        """Up to 10 images as one vector, placed in a text by ``<@name>`` if there is one. Marengo 3.0.

        Args:
            text: such as "<@a> beside <@b>"; None for the images alone.
            images: name -> image, or a plain list where the text names none.
        """
        if not isinstance(images, Mapping | Sequence) or isinstance(images, str):
            raise InputError("multi_input takes a mapping of name to image, or a list of images.")

        def find(image: MediaLike) -> dict[str, Any]:
            return self._invoker.location(Media.of(image, "image"))

        if isinstance(images, Mapping):
            body = requests.multi_input(self._model, text, {name: find(image) for name, image in images.items()})
        else:
            body = requests.multi_input(self._model, text, [find(image) for image in images])
        if text is not None:
            self._invoker.check_length(text)
        return self._invoker.vector(requests.encode(body), f"{len(images)} images")

    def embed_query(self, query: Query | str) -> Vector:
        """A query as float32 ``(dimension,)``, whatever it is made of.

        Audio and video queries are jobs like any other: they need ``output_s3_uri`` and take as long. Their vector is
        that of the sound or the sight of the whole medium.
        """
        if isinstance(query, str):
            return self.embed_text(query)
        if query.images is not None:
            return self.embed_multi_input(query.text, query.images)
        if query.image is not None:
            return self.embed_text_image(query.text, query.image) if query.text else self.embed_image(query.image)
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
            timeout_sec: how long to wait for the job; it goes on, and the next run joins it.
            on_progress: called with ``Progress`` in the thread that works.

        Raises:
            InputError: What was asked does not fit the model or the medium. Nothing was paid.
            MediaNotFoundError: The medium is not there.
            JobError: The job failed for good.
            OutputError: Its output can't be used.
            ServiceError: AWS refused.
        """
        media = Media.of(source)
        request = self._request(media.kind, options, scopes, segmentation, start_sec, end_sec, fused)
        found = self._worker.embed(media, request, force=force, timeout_sec=timeout_sec, on_progress=on_progress)
        self._recall.remember(found)
        return found

    def embed_many(
        self, sources: MediaLike | Iterable[MediaLike], *, jobs_at_once: int = JOBS_AT_ONCE, **settings: Any
    ) -> Iterator[Done]:
        """Many media, each handed on as it finishes. One that fails does not stop the others: it has ``.error``.

        Args:
            sources: prefixes, objects, paths, folders, ``Media`` or an iterator of these, taken as needed.
            jobs_at_once: jobs in flight.
            settings: as for ``embed_media``.
        """
        listing = sources if isinstance(sources, MediaListing) else self.list_media(sources)
        return self._embed_listed(listing, jobs_at_once, settings, threading.Event())

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
    ) -> Job:
        """Start a medium's job, or find it started or done, and return at once. See ``embed_media``."""
        media = Media.of(source)
        request = self._request(media.kind, options, scopes, segmentation, start_sec, end_sec, fused)
        return self._worker.start(media, request, force=force)

    def collect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """Wait for a job and read its segments.

        Raises:
            JobError: It failed, or did not end within ``timeout_sec``.
            OutputError: Its output can't be used.
        """
        found = self._worker.collect(job, timeout_sec=timeout_sec)
        self._recall.remember(found)
        return found

    def list_media(
        self,
        sources: MediaLike | Iterable[MediaLike],
        *,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        limit: int | None = None,
    ) -> MediaListing:
        """The media that a prefix, folder or list holds, lazily; ``.skipped`` counts what was left out and why."""
        return MediaListing(
            self._aws,
            sources,
            suffixes=suffixes,
            exclude=exclude,
            limit=limit,
            output_s3_uri=self._settings["output_s3_uri"],
        )

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
        """
        found = Segment.parse(segment) if isinstance(segment, str) else segment
        return playable_url(self._aws, found, expires_sec=expires_sec)

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
            SegmentNotFoundError: No job of ours holds the segment.
        """
        found = [Segment.parse(segment) if isinstance(segment, str) else segment for segment in segments]
        return self._recall.vectors(found)

    # The same, for asyncio: on threads of our own, never on the loop nor on its default executor.

    async def aembed_text(self, text: str) -> Vector:
        """``embed_text`` for asyncio."""
        return await self.run_async(self.embed_text, text)

    async def aembed_texts(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """``embed_texts`` for asyncio."""
        return await self.run_async(self.embed_texts, texts)

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
        """``embed_media`` for asyncio."""
        return await self.run_async(self.embed_media, source, **settings)

    async def aembed_many(
        self, sources: MediaLike | Iterable[MediaLike], *, jobs_at_once: int = JOBS_AT_ONCE, **settings: Any
    ) -> AsyncIterator[Done]:
        """``embed_many`` for asyncio: ``async for done in client.aembed_many(...)``."""
        listing = sources if isinstance(sources, MediaListing) else self.list_media(sources)
        left = threading.Event()
        results = self._embed_listed(listing, jobs_at_once, settings, left)
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = asyncio.ensure_future(self.run_async(next, results, _END))
                # Shielded: a generator can't be closed while a thread is inside it.
                if (done := await asyncio.shield(step)) is _END:
                    return
                yield done
        finally:
            left.set()
            if step is not None and not step.done():
                await asyncio.wait([step])
            await self.run_async(results.close)

    async def astart(self, source: MediaLike, **settings: Any) -> Job:
        """``start`` for asyncio."""
        return await self.run_async(self.start, source, **settings)

    async def acollect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """``collect`` for asyncio."""
        return await self.run_async(self.collect, job, timeout_sec=timeout_sec)

    async def asegment_vectors(self, segments: Iterable[Segment | str]) -> list[Vector]:
        """``segment_vectors`` for asyncio."""
        return await self.run_async(self.segment_vectors, segments)

    async def run_async(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call of this client for asyncio, on the client's own threads."""
        context = contextvars.copy_context()
        bound = functools.partial(context.run, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool("async"), bound)

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
    def output_s3_uri(self) -> str:
        """Where jobs write.

        Raises:
            ConfigurationError: It was not given.
        """
        uri: str | None = self._settings["output_s3_uri"]
        if uri is None:
            raise ConfigurationError(
                "Segments need a place on S3 for the jobs' outputs: give output_s3_uri='s3://bucket/marengo/'."
            )
        return uri

    def close(self) -> None:
        """Let go of threads and connections. The client makes new ones if it is used again."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools.clear()
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
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._aws = Aws(self._aws_settings)
        self._gate = Gate(self._aws_settings.max_concurrency)
        settings = {name: self._settings[name] for name in ("invoke_model_id", "truncate", "token_counter")}
        self._invoker = Invoker(self._aws, self._gate, self._model, **settings)
        self._recall = Recall(self._read_job)

    @functools.cached_property
    def _worker(self) -> Worker:
        if self._settings["invoke_model_id"] is None:
            self._aws.check_region(self._model)
        settings = {name: self._settings[name] for name in ("tags", "output_kms_key_id")}
        jobs = Jobs(self._aws, self._gate, self._model, self.output_s3_uri, **settings)
        return Worker(self._aws, self._gate, self._model, self._invoker, jobs, self.output_s3_uri)

    @property
    def _ahead(self) -> int:
        # Enough that a slow call at the head leaves no thread idle.
        return 8 * self._aws_settings.max_concurrency

    def _pool(self, name: Literal["calls", "async"]) -> ThreadPoolExecutor:
        with self._lock:
            if self._pid != os.getpid():
                # Threads don't survive a fork.
                self._pools, self._pid = {}, os.getpid()
            if name not in self._pools:
                # Each waiting awaitable holds a thread of "async"; the gate bounds what is in flight.
                size = self._aws_settings.max_concurrency + (48 if name == "async" else 0)
                self._pools[name] = ThreadPoolExecutor(size, thread_name_prefix=f"marengo-{name}")
            return self._pools[name]

    def _request(
        self,
        kind: Kind,
        options: Sequence[str] | None,
        scopes: Sequence[str] | None,
        segmentation: Segmentation | None,
        start_sec: float | None,
        end_sec: float | None,
        fused: bool | Literal["only"],
    ) -> MediaRequest:
        return MediaRequest(
            model=self._model,
            kind=kind,
            options=options,
            scopes=scopes,
            segmentation=segmentation,
            start_sec=start_sec,
            end_sec=end_sec,
            fused=fused,
        )

    def _embed_listed(
        self, listing: MediaListing, jobs_at_once: int, settings: dict[str, Any], stopped: threading.Event
    ) -> Generator[Done, None, None]:
        tell = settings.pop("on_progress", None)

        def on_progress(progress: Progress) -> None:
            if stopped.is_set():
                # Nobody waits for this medium any more; its job goes on and the next run joins it.
                raise JobError(f"{progress.name} was left.", source=progress.name, arn=None)
            if tell is not None:
                tell(progress)

        def embed(item: tuple[MediaLike, Media | MarengoError]) -> Done:
            source, media = item
            if isinstance(media, MarengoError):
                return Done(source, None, error=media)
            try:
                found = self.embed_media(media, on_progress=on_progress, **settings)
            except MarengoError as error:
                return Done(source, media.uri, error=error)
            return Done(source, found.source, segments=found)

        return as_finished(embed, listing.items(), at_once=jobs_at_once, on_leave=stopped.set)

    def _read_job(self, segment: Segment) -> SegmentEmbeddings:
        if self._settings["output_s3_uri"] is None:
            raise SegmentNotFoundError(
                f"{segment.uri!r} is a segment, whose vector is in its job's output: give output_s3_uri= to find it."
            )
        return self._worker.recall(segment)


_OWN_FIELDS = ("model", "output_s3_uri", "invoke_model_id", "truncate", "token_counter", "tags", "output_kms_key_id")
