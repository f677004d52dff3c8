"""Calls about files that embed nothing: list, locate, plan, forget, play, frames, clips, captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bedrock_marengo.async_calls import async_twin
from bedrock_marengo.contract.inputs import Media, MediaLike, Sources
from bedrock_marengo.contract.payloads import requests_by_kind
from bedrock_marengo.contract.segments import Segment, time_range
from bedrock_marengo.embedding.plan import JOB_SEC, JOBS_ALLOWED, Plan, Planner
from bedrock_marengo.embedding.run_options import RunOptions
from bedrock_marengo.errors import MarengoError
from bedrock_marengo.jobs.cleanup import Cleanup, DeletionReport
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.media.clips import clip_of
from bedrock_marengo.media.durations import Durations, duration_of
from bedrock_marengo.media.frames import frames_of
from bedrock_marengo.runtime import ClientBase
from bedrock_marengo.s3.listing import MediaListing, object_tags
from bedrock_marengo.s3.missing import missing_sources
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.presign import playable_url
from bedrock_marengo.settings import WORDS, check_run
from bedrock_marengo.words.captions import Transcript, captions_of

__all__ = ["FileCalls"]


class FileCalls(ClientBase):
    """The part of ``MarengoClient`` that looks at files, plays them, and plans or removes what is made from them."""

    def list_media(
        self,
        sources: Sources,
        *,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        modified_after: datetime | None = None,
        limit: int | None = None,
    ) -> MediaListing:
        """List the media files of a prefix, folder, manifest or list. The listing is lazy.

        Args:
            sources: ``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a file or folder, ``Media``, a
                ``Manifest``, or an iterable of these.
            suffixes: list only files with these suffixes, such as [".mp4"], from a prefix, folder or manifest.
            exclude: glob patterns of keys to leave out.
            modified_after: list only files modified after this time, which must have a time zone.
            limit: the maximum number of files.

        Returns:
            A listing that can be read any number of times. ``.skipped`` counts skipped files by reason.
        """
        return MediaListing(
            self._objects,
            sources,
            suffixes=suffixes,
            exclude=exclude,
            modified_after=modified_after,
            limit=limit,
            output_s3_uri=self._settings.output_s3_uri,
            staged=self._runtime.copies is not None,
        )

    def object_tags(self, source: str) -> dict[str, str]:
        """The tags of an object at ``s3://bucket/key``.

        Raises:
            ServiceError: AWS refused the call, which needs s3:GetObjectTagging.
        """
        return object_tags(self._runtime.objects, source)

    def locate(self, source: MediaLike) -> SourceIdentity:
        """The URI, size in bytes and ETag of a file on S3, from one listing. A local file is uploaded first.

        Raises:
            MediaNotFoundError: The file does not exist.
            InputError: The file is empty, archived or too large.
            ServiceError: AWS refused a call.
        """
        runtime = self._runtime
        return runtime.embedder.locate(Media.of(source), RunOptions(costs=runtime.costs()))

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
        embed: bool = True,
        **settings: Any,
    ) -> Plan:
        """A dry run of ``embed_many``: what would be started, joined, reused, uploaded and copied, and what it costs.

        Starts and writes nothing. It lists the sources and the output prefix. For each file to start whose duration is
        not in ``durations``, it reads the duration with a few ranged GETs.

        Args:
            sources: as for ``embed_many``.
            durations: source URI (or path) -> seconds, as a mapping or a callable. Other durations are read.
            probe: whether to read durations from the files, if PyAV is installed (extra ``media``).
            assume_duration_sec: the duration to assume if it is unknown. Without it, such files are not in the totals.
            jobs_at_once: how many jobs the account can run at once.
            mean_job_sec: how long a job takes on average, in seconds.
            force: plan as if no file had been embedded before.
            embed: False plans only the words that ``transcripts`` gives, as for ``transcribe_many``.
            settings: as for ``embed_many``: options, scopes, segmentation, start_sec, end_sec, fused, transcripts,
                descriptions.

        Returns:
            Counts, seconds, bytes and US dollars of what would be started.

        Raises:
            InputError: A setting is not valid for any kind of media.
            ServiceError: AWS refused to list the objects.
        """
        sources_of_words = {name: settings.pop(name) for name in WORDS if name in settings}
        check_run(
            **sources_of_words,
            durations=durations,
            assume_duration_sec=assume_duration_sec,
            jobs_at_once=jobs_at_once,
            mean_job_sec=mean_job_sec,
            force=force,
        )
        runtime = self._runtime
        planner = Planner(
            objects=runtime.objects,
            request=requests_by_kind(self.model, "plan", settings),
            output_s3_uri=self.output_s3_uri,
            index=JobIndex.load(runtime.objects, self.output_s3_uri),
            staged=runtime.copies is not None,
            identity=self._settings.identity,
            prices=self._usage.prices,
            durations=durations,
            probe=probe,
            assume_duration_sec=assume_duration_sec,
            force=force,
            embed=embed,
            words=[runtime.word_source(each) for each in sources_of_words.values() if each is not None],
        )
        return planner.plan(
            sources if isinstance(sources, MediaListing) else self.list_media(sources),
            runtime.pool("calls"),
            ahead=self._ahead,
            jobs_at_once=jobs_at_once,
            mean_job_sec=mean_job_sec,
        )

    def forget(
        self, source: MediaLike, *, dry_run: bool = False, store: Callable[[str], Any] | None = None
    ) -> DeletionReport:
        """Delete everything that was created for a source: outputs, request files, uploads, copies.

        The source itself is never deleted, and may already be gone. If you embed it again, you pay again.

        Args:
            source: ``s3://bucket/key``, as in segments' metadata, or the local file that was uploaded.
            dry_run: only report what would be deleted.
            store: called with each source's URI first, to remove its segments:
                ``functools.partial(langchain_marengo.delete_segments, vectorstore)`` or ``index.delete_ref_doc``.

        Raises:
            InputError: It is not a source, or it is a local file that no longer exists: pass the URI of its upload.
            ServiceError: AWS refused a call. The next call deletes what is left.
        """
        runtime = self._runtime
        cleanup = Cleanup(runtime.objects, self.output_s3_uri, runtime.copies)
        report = cleanup.forget(source, dry_run=dry_run, store=store)
        if not dry_run:
            for uri in report.sources:
                runtime.cache.forget(uri)
        return report

    def missing_sources(self, sources: Iterable[str], places: Iterable[str | Path]) -> list[str]:
        """The sources of some places that no longer exist, sorted. Sources in other places are not looked at.

        Args:
            sources: as in segments' metadata: S3 URIs of objects, or of uploads of local files.
            places: ``s3://bucket/prefix/``, ``s3://bucket/key``, and ``pathlib.Path``s of folders or files. The upload
                of a local file doesn't say which folder it was in: of local files, pass all folders.

        Raises:
            InputError: A place is invalid, or a local file can't be read.
            ServiceError: AWS refused to list.
        """
        return missing_sources(
            self._runtime.objects, sources, places, files_in=self._files_in, output_s3_uri=self.output_s3_uri
        )

    def _files_in(self, folder: Path) -> Iterator[Media]:
        for _, media in self.list_media(folder).items():
            if isinstance(media, MarengoError):
                raise media
            yield media

    def playable_url(self, segment: Segment | str, *, expires_sec: int = 3600) -> str:
        """A presigned URL, with ``#t=start,end``, that plays a segment in a browser. No request is made.

        Anyone with the URL can read the whole file until it expires, or until the credentials that signed it expire.

        Args:
            segment: the segment, its URI, or a moment's URI, for the whole moment.
            expires_sec: seconds, at most 7 days.

        Raises:
            InputError: The string is not a segment's URI.
            ConfigurationError: ``expires_sec`` is more than S3 supports.
            ServiceError: There are no credentials.
        """
        shown, times = Segment.of(segment), time_range(segment)
        if times is not None:
            shown = replace(shown, start_sec=times[0], end_sec=times[1])
        return playable_url(self._runtime.objects, shown, expires_sec=expires_sec)

    def frames(self, source: MediaLike, at_sec: Sequence[float], *, width: int = 512) -> list[bytes]:
        """Frames of a video as JPEGs, in the order of ``at_sec``. A time past the end returns the last frame.

        From S3, only the required byte ranges are read. Needs the extra ``media``.

        Args:
            source: a video, as for ``embed_media``, or an image, which is the same at every time.
            at_sec: times in seconds from the start of the file.
            width: the maximum width in pixels. The aspect ratio is kept.

        Raises:
            InputError: The file has no picture or can't be decoded, or a time or the width is out of range.
            ServiceError: AWS refused to send the bytes.
            ConfigurationError: PyAV is not installed.
        """
        return frames_of(self._runtime.objects, Media.of(source), at_sec, width=width)

    def clip(self, source: MediaLike, start_sec: float, end_sec: float, *, width: int = 480) -> bytes:
        """A part of a video or audio file as a small, separate MP4 (H.264, MP3).

        For pages and notebooks that must include their media. From S3, only the required byte ranges are read. Needs
        the extra ``media``.

        Args:
            source: as for ``embed_media``.
            start_sec: the start in seconds from the start of the file.
            end_sec: the end in seconds from the start of the file.
            width: the maximum width in pixels. The aspect ratio is kept.

        Raises:
            InputError: There is no content between these times, or it can't be decoded.
            ServiceError: AWS refused to send the bytes.
            ConfigurationError: PyAV is not installed.
        """
        return clip_of(self._runtime.objects, Media.of(source), start_sec, end_sec, width=width)

    def duration(self, source: MediaLike) -> float | None:
        """How long a file is, in seconds, read from its container; None if it doesn't say, or for an image.

        From S3, only the required byte ranges are read. Needs the extra ``media``, without which it is None.

        Args:
            source: as for ``embed_media``.

        Raises:
            ServiceError: AWS refused to send the bytes.
        """
        return duration_of(self._runtime.objects, Media.of(source))

    def captions_of(self, source: MediaLike) -> Transcript | None:
        """The captions stored next to a file under its own name, such as match.srt; None if there are none.

        Raises:
            InputError: The captions can't be read.
            ServiceError: AWS refused a call.
        """
        return captions_of(self._runtime.objects, Media.of(source))

    # The same for asyncio.

    async def aplan(self, sources: Sources | MediaListing, **settings: Any) -> Plan:
        """``plan`` for asyncio."""
        return await self.run_async(self.plan, sources, **settings)

    aforget = async_twin(forget)
    amissing_sources = async_twin(missing_sources)
    aframes = async_twin(frames)
    aclip = async_twin(clip)
    aduration = async_twin(duration)
