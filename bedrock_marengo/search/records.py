"""Segments as records for any framework's store, and what happens to files that failed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo.contract.inputs import MediaLike
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings, checked_metadata
from bedrock_marengo.contract.words import Words, segment_text
from bedrock_marengo.embedding.file_words import FileWords
from bedrock_marengo.errors import ConfigurationError, MarengoError, MarengoWarning, MediaFailedError
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.sources import TimedWords
from bedrock_marengo.words.transcribe import Transcribe

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient
    from bedrock_marengo.embedding.batch import MediaResult

__all__ = [
    "Captions",
    "Failures",
    "OnError",
    "SegmentRecord",
    "Transcripts",
    "check_transcripts",
    "records_of",
    "said_in",
    "user_fields",
    "word_sources",
]

Captions = Transcript | Path | str
Transcripts = bool | Transcribe | Mapping[str, Captions] | Callable[[str], Captions | None]
OnError = Literal["raise", "skip"] | Callable[[MediaLike, MarengoError], None]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRecord:
    """One segment: text (URI, file and time, words), flat metadata, vector as float32 ``(dimension,)``."""

    segment: Segment
    text: str
    metadata: dict[str, Any]
    vector: npt.NDArray[np.float32]


def records_of(
    client: MarengoClient,
    segments: SegmentEmbeddings,
    *,
    source: MediaLike,
    transcripts: Transcripts = True,
    words: FileWords | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[SegmentRecord]:
    """One record for each segment of a file.

    Args:
        client: reads captions that are stored next to the file.
        segments: the segments of the file.
        source: the file as the user gave it: captions of a local file are next to it, not next to its upload.
        transcripts: True reads captions next to the file; False reads none; a mapping or a callable gives
            them by source URI: a ``pathlib.Path``, or the captions' text.
        words: what ``embed_many`` gave for the file; files with captions are not transcribed.
        metadata: the user's own fields.

    Raises:
        InputError: A field of the user's is reserved or not flat.
    """
    fields = checked_metadata(metadata or {}, segments.source)
    given = words or FileWords()
    transcript = given.said or said_in(client, segments, source=source, transcripts=transcripts)
    records = []
    for i, segment in enumerate(segments):
        said = transcript.words(segment.start_sec, segment.end_sec) if transcript else ""
        seen = given.seen.words(segment.start_sec, segment.end_sec) if given.seen else ""
        text = segment_text(segment, Words(said, seen))
        client.remember_words(segment, text.partition("\n")[2])
        records.append(SegmentRecord(segment, text, {**segments.metadata(i), **fields}, segments.vectors[i]))
    return records


def said_in(
    client: MarengoClient, segments: SegmentEmbeddings, *, source: MediaLike, transcripts: Transcripts
) -> TimedWords | None:
    """What captions say; None, with a warning, if they can't be read. Arguments as of ``records_of``."""
    try:
        return _transcript(client, segments, source, transcripts)
    except MarengoError as error:
        # The vectors are paid for and correct: unreadable captions must not lose them.
        warnings.warn(f"{segments.source} is loaded without its captions: {error}", MarengoWarning, stacklevel=3)
        return None


def user_fields(
    client: MarengoClient,
    source: str,
    *,
    metadata: Callable[[str], Mapping[str, Any]] | None,
    object_tags: Sequence[str] = (),
) -> dict[str, Any]:
    """The user's own fields of a source: its object's tags ("" for one that it lacks), then those of ``metadata``.

    Raises:
        InputError: A field is reserved or not flat.
        ServiceError: AWS refused to return the tags.
    """
    tags = client.object_tags(source) if object_tags else {}
    fields = checked_metadata(metadata(source), source) if metadata else {}
    return checked_metadata({**{name: tags.get(name, "") for name in object_tags}, **fields}, source)


def check_transcripts(transcripts: Any) -> None:
    """Refuse a setting that can't give captions.

    Raises:
        ConfigurationError: Not True, False, ``Transcribe``, a mapping or a callable.
    """
    if not isinstance(transcripts, bool | Transcribe | Mapping) and not callable(transcripts):
        raise ConfigurationError(
            "expected True, False, Transcribe(...), or a mapping or a callable from a source's URI to a pathlib.Path "
            "or to the captions' text.",
            setting="transcripts",
            value=transcripts,
        )


def word_sources(transcripts: Any, descriptions: Any = None) -> dict[str, Any]:
    """The settings of ``embed_many`` that a loader's ``transcripts`` and ``descriptions`` give."""
    settings = {"transcripts": transcripts} if isinstance(transcripts, Transcribe) else {}
    return settings if descriptions is None else {**settings, "descriptions": descriptions}


class Failures:
    """What happens to files that failed: raised after the rest is done, skipped, or reported to a callable."""

    def __init__(self, on_error: OnError) -> None:
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise ConfigurationError("expected 'raise', 'skip' or a callable.", setting="on_error", value=on_error)
        self._on_error = on_error
        self._failed: list[MediaResult] = []

    def note(self, done: MediaResult) -> None:
        """A file failed."""
        if self._on_error == "raise":
            self._failed.append(done)
        elif callable(self._on_error) and done.error is not None:
            self._on_error(done.source, done.error)

    def raise_noted(self) -> None:
        """All files are done.

        Raises:
            MarengoError: The error of the one file that failed, or ``MediaFailedError`` if several did.
        """
        if len(self._failed) == 1 and self._failed[0].error is not None:
            raise self._failed[0].error
        if self._failed:
            raise MediaFailedError(self._failed)


def _transcript(
    client: MarengoClient, segments: SegmentEmbeddings, source: MediaLike, given: Transcripts
) -> Transcript | None:
    uri = segments.source
    if not KINDS[segments.media_type].captions or given is False:
        return None
    if given is True or isinstance(given, Transcribe):
        return client.captions_of(uri if isinstance(source, str) else source)
    captions = given.get(uri) if isinstance(given, Mapping) else given(uri)
    return Transcript.of(captions, uri) if captions is not None else None
