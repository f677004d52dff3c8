"""Many media: each handed on as it finishes, what is done found without asking for each."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from bedrock_marengo.aws.cancellation import CancellableExecutor, CancelToken, cancel_scope
from bedrock_marengo.aws.parallel import as_finished
from bedrock_marengo.contract.inputs import Media, MediaLike
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.errors import MarengoError
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.s3.listing import MediaListing

__all__ = ["MediaResult", "embed_all"]

LOOKS = 8
"""Media looked up one by one before the whole output prefix is listed: a handful must not cost 1,000 LISTs."""


@dataclass(slots=True, eq=False)
class MediaResult:
    """One medium of ``embed_many``: ``source`` as handed in, and either ``segments`` or ``error``.

    The segments of a medium that was done before are read when they are first asked for: that may raise.
    """

    source: MediaLike
    uri: str | None
    error: MarengoError | None = None
    media: Media | None = field(default=None, repr=False)
    """The medium as listed, with what the listing said of it: size, ETag, captions."""
    read: Callable[[], SegmentEmbeddings] | None = field(default=None, repr=False)
    _found: SegmentEmbeddings | None = field(default=None, repr=False)

    @property
    def segments(self) -> SegmentEmbeddings | None:
        """The medium's segments; None if it failed."""
        if self._found is None and self.read is not None:
            self._found = self.read()
        return self._found


def embed_all(
    listing: MediaListing,
    embed: Callable[[Media], SegmentEmbeddings],
    *,
    fingerprint: Callable[[Media], str | None],
    is_done: Callable[[Media], bool],
    load_index: Callable[[], JobIndex],
    threads: Callable[[], CancellableExecutor],
    at_once: int,
    read_ahead: bool,
    stopped: CancelToken,
) -> Generator[MediaResult, None, None]:
    """Embed what a listing holds.

    Args:
        listing: the media.
        embed: one medium to its segments, wherever its work stands.
        fingerprint: a listed medium's work, None if only a call could tell.
        is_done: looks one medium's work up.
        load_index: lists the output prefix.
        threads: opens the threads that embed.
        at_once: media under way.
        read_ahead: read the segments of what was done before on the threads, too, in place of when they are asked for.
        stopped: ends it; set when nobody takes results any more.
    """
    looks = 0
    index: JobIndex | None = None

    def done_before(item: tuple[MediaLike, Media | MarengoError]) -> MediaResult | None:
        nonlocal looks, index
        source, media = item
        if isinstance(media, MarengoError):
            return MediaResult(source, None, error=media)
        if read_ahead or (digest := _digest(media)) is None:
            return None
        looks += 1
        if index is None and looks > LOOKS:
            index = load_index()
        done = index.state(digest) == "done" if index is not None else is_done(media)
        return MediaResult(source, media.uri, media=media, read=lambda: embed(media)) if done else None

    def _digest(media: Media) -> str | None:
        try:
            return fingerprint(media)
        except MarengoError:
            # What is wrong with it, the thread that embeds it will say.
            return None

    def embed_one(item: tuple[MediaLike, Media | MarengoError]) -> MediaResult:
        source, media = item
        assert isinstance(media, Media)  # noqa: S101  errors were handed on
        try:
            with cancel_scope(stopped):
                found = embed(media)
        except MarengoError as error:
            return MediaResult(source, media.uri, error=error, media=media)
        return MediaResult(source, found.source, media=media, _found=found)

    return as_finished(embed_one, listing.items(), threads=threads, at_once=at_once, stopped=stopped, known=done_before)
