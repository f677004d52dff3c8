"""Words for segments that a store holds already: what their texts become. Embeds nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.parallel import as_finished
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.contract.words import Words, segment_text, words_in
from bedrock_marengo.search.records import Transcripts, check_transcripts, records_of
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, kind_of

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["new_texts"]

_AT_ONCE = 16
"""Ours: files whose words are read or computed at the same time."""


class _Stored(NamedTuple):
    text: str
    segment: Segment
    metadata: Mapping[str, Any]


def new_texts(
    client: MarengoClient,
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    transcripts: Transcripts = True,
    sources: Sequence[str] | None = None,
) -> Iterator[dict[str, str]]:
    """Stored text -> new text, of those that change, file by file as their words are known.

    A text's first line, the URI, stays. A file for which no words are found keeps those that it has.

    Args:
        client: reads captions that are stored next to the files.
        rows: the text and the metadata of what a store holds; other documents are left as they are.
        transcripts: as in ``records_of``.
        sources: only these files, or those under a prefix that ends in "/"; None for all.

    Raises:
        ConfigurationError: ``transcripts`` can't give captions.
        InputError: ``sources`` isn't a list of S3 URIs.
    """
    check_transcripts(transcripts)
    check_allowed_prefixes(sources)
    stored: defaultdict[str, list[_Stored]] = defaultdict(list)
    for text, metadata in rows:
        segment = Segment.find(text)
        # A moment's text is no segment's.
        if segment is not None and text.startswith(segment.uri) and is_allowed(segment.source, sources):
            stored[segment.source].append(_Stored(text, segment, metadata))
    contexts = {source: copy_context() for source in stored}

    def read(source: str) -> dict[str, str]:
        # In the caller's context, so that cancelling the caller cancels its reads.
        return contexts[source].run(_of_file, client, source, stored[source], transcripts)

    token = CancelToken()
    executor = CancellableExecutor(_AT_ONCE, "marengo-words", token)
    return as_finished(read, stored, executor=executor, at_once=_AT_ONCE, token=token)


def _of_file(client: MarengoClient, source: str, stored: Sequence[_Stored], transcripts: Transcripts) -> dict[str, str]:
    ranges = sorted({(row.segment.start_sec, row.segment.end_sec) for row in stored})
    words = _words(client, source, ranges, stored[0], transcripts)
    texts = {}
    for row in stored:
        found = words[row.segment.start_sec, row.segment.end_sec] if any(words.values()) else words_in(row.text)
        # As stored before: words of both kinds are one text with labels.
        text = segment_text(row.segment, Words(found))
        client.remember_words(row.segment, found)
        if text != row.text:
            texts[row.text] = text
    return texts


def _words(
    client: MarengoClient, source: str, ranges: Sequence[tuple[float, float]], first: _Stored, transcripts: Transcripts
) -> dict[tuple[float, float], str]:
    """Time range -> its words, found as they are when a file is loaded. All tracks and jobs of a file share them."""
    times = np.array(ranges, np.float64).reshape(-1, 2)
    kind: Kind = kind_of(first.segment)
    if first.metadata.get("media_type") in ("video", "audio", "image"):
        kind = first.metadata["media_type"]
    segments = SegmentEmbeddings(
        vectors=np.zeros((len(ranges), 0), np.float32),
        start_sec=times[:, 0],
        end_sec=times[:, 1],
        option=[first.segment.option] * len(ranges),
        scope=[first.segment.scope] * len(ranges),
        source=source,
        job=first.segment.job,
        model_id=str(first.metadata.get("model_id", "")),
        media_type=kind,
    )
    records = records_of(client, segments, source=source, transcripts=transcripts)
    return {times: words_in(record.text) for times, record in zip(ranges, records, strict=True)}
