"""Words for segments that a store holds already: what their texts become. Embeds nothing."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bedrock_marengo.aws.cancellation import cancel_scope
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.parallel import as_finished
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS, Kind
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.contract.words import Words, segment_text, words_in
from bedrock_marengo.embedding.file_words import FileWords, RunWords
from bedrock_marengo.errors import MarengoError, MarengoWarning
from bedrock_marengo.search.records import Transcripts, check_transcripts, said_in, word_sources
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, kind_of
from bedrock_marengo.words.pegasus import Pegasus
from bedrock_marengo.words.sources import SERVICES, TimedWords

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["new_texts"]

_AT_ONCE = 16
"""Ours: files whose words are read or computed at the same time, in addition to those that wait for a service."""


class _Stored(NamedTuple):
    text: str
    segment: Segment
    metadata: Mapping[str, Any]


class _Asked(NamedTuple):
    """What the words of a run come from."""

    client: MarengoClient
    transcripts: Transcripts
    run: RunWords | None


def new_texts(
    client: MarengoClient,
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    transcripts: Transcripts = True,
    descriptions: Pegasus | None = None,
    sources: Sequence[str] | None = None,
    **settings: Any,
) -> Generator[dict[str, str], None, None]:
    """Stored text -> new text, of those that change, file by file as their words are known.

    A text's first line, the URI, stays. What is said and what is seen are replaced separately, each if new words of it
    are found for the file. A file whose words can't be had is a warning.

    Args:
        client: reads captions that are stored next to the files, and asks the services.
        rows: the text and the metadata of what a store holds; other documents are left as they are.
        transcripts: as in ``records_of``; ``Transcribe(...)`` transcribes files without captions.
        descriptions: has Pegasus describe videos.
        sources: only these files, or those under a prefix that ends in "/"; None for all.
        settings: those of ``client.transcribe``, for the whole run: max_cost_usd, durations, assume_duration_sec,
            force and timeout_sec.

    Raises:
        ConfigurationError: ``transcripts`` can't give captions, or another setting is not valid.
        InputError: ``sources`` isn't a list of S3 URIs.
    """
    check_transcripts(transcripts)
    check_allowed_prefixes(sources)
    run, token = client.open_words(**word_sources(transcripts, descriptions), **settings)
    stored: defaultdict[str, list[_Stored]] = defaultdict(list)
    for text, metadata in rows:
        segment = Segment.find(text)
        # A moment's text is no segment's.
        if segment is not None and text.startswith(segment.uri) and is_allowed(segment.source, sources):
            stored[segment.source].append(_Stored(text, segment, metadata))
    contexts = {source: copy_context() for source in stored}
    asked = _Asked(client, transcripts, run)

    def in_scope(source: str) -> dict[str, str]:
        with cancel_scope(token):
            return _of_file(asked, source, stored[source])

    def read(source: str) -> dict[str, str]:
        # In the caller's context: a file's span belongs to the caller's span.
        return contexts[source].run(in_scope, source)

    # Files that wait for a service must not keep others from being read.
    at_once = _AT_ONCE + sum(each.at_once for each in run.sources) if run else _AT_ONCE
    executor = CancellableExecutor(at_once, "marengo-words", token)
    return _to_the_end(as_finished(read, stored, executor=executor, at_once=at_once, token=token), run)


def _to_the_end(
    texts: Generator[dict[str, str], None, None], run: RunWords | None
) -> Generator[dict[str, str], None, None]:
    """The texts; at the end, all work on words has ended."""
    with ExitStack() as ended:
        for executor in run.executors.values() if run else ():
            ended.enter_context(executor)
        yield from texts


def _of_file(asked: _Asked, source: str, stored: Sequence[_Stored]) -> dict[str, str]:
    segments = _segments(source, stored)
    try:
        # First: force=True replaces what is kept.
        held = _held(asked.client, source, stored)
    except MarengoError as error:
        warnings.warn(f"{source} keeps the words that it has: {error}", MarengoWarning, stacklevel=2)
        return {}
    words = _ask(asked, segments)
    words.warn(source)
    said = words.said or said_in(asked.client, segments, source=source, transcripts=asked.transcripts)
    new = [Words(_words(said, *_times(row)), _words(words.seen, *_times(row))) for row in stored]
    has_said, has_seen = any(one.said for one in new), any(one.seen for one in new)
    texts = {}
    for row, before, found in zip(stored, held, new, strict=True):
        both = Words(found.said if has_said else before.said, found.seen if has_seen else before.seen)
        if all(both):
            # Captions of the first version may have several lines.
            both = Words(*(" ".join(part.splitlines()) for part in both))
        text = segment_text(row.segment, both)
        asked.client.remember_words(row.segment, text.partition("\n")[2])
        if text != row.text:
            texts[row.text] = text
    return texts


def _ask(asked: _Asked, segments: SegmentEmbeddings) -> FileWords:
    """What the services say of the file as it is now; their errors, too."""
    run, kind = asked.run, segments.media_type
    if run is None or not KINDS[kind].captions:
        return FileWords()
    try:
        source = asked.client.locate(Media(kind, uri=segments.source))
    except MarengoError as error:
        return FileWords(errors={SERVICES[each.service]: error for each in run.sources})
    words = run.of(Media(kind, uri=source.uri, size=source.size, etag=source.etag))
    words.begin(source)
    return words.embedded(segments)


def _held(client: MarengoClient, source: str, stored: Sequence[_Stored]) -> list[Words]:
    """What each row holds. Words without labels are seen if Pegasus has said them of this range, and said if not."""
    texts = [words_in(row.text) for row in stored]
    unclear = any(text and Words.find(text) is None for text in texts)
    described = client.descriptions_of(source) if unclear else []
    held = []
    for row, text in zip(stored, texts, strict=True):
        is_seen = bool(text) and any(text == _words(one, *_times(row)) for one in described)
        held.append(Words.find(text) or (Words(seen=text) if is_seen else Words(said=text)))
    return held


def _words(found: TimedWords | None, start_sec: float, end_sec: float) -> str:
    return found.words(start_sec, end_sec) if found else ""


def _times(row: _Stored) -> tuple[float, float]:
    return row.segment.start_sec, row.segment.end_sec


def _segments(source: str, stored: Sequence[_Stored]) -> SegmentEmbeddings:
    """The segments that the store holds of a file, without their vectors. All tracks and jobs of a file share words."""
    segments = sorted({row.segment for row in stored}, key=lambda one: (one.start_sec, one.end_sec))
    times = np.array([(one.start_sec, one.end_sec) for one in segments], np.float64)
    first = stored[0]
    kind: Kind = kind_of(first.segment)
    if first.metadata.get("media_type") in ("video", "audio", "image"):
        kind = first.metadata["media_type"]
    return SegmentEmbeddings(
        vectors=np.zeros((len(segments), 0), np.float32),
        start_sec=times[:, 0],
        end_sec=times[:, 1],
        option=[one.option for one in segments],
        scope=[one.scope for one in segments],
        source=source,
        job=first.segment.job,
        model_id=str(first.metadata.get("model_id", "")),
        media_type=kind,
    )
