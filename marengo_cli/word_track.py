"""The captions of searched files as a track: ``--words bm25``, without a store."""

from __future__ import annotations

from dataclasses import dataclass, field

from bedrock_marengo import MarengoClient, MarengoError, Media, SegmentEmbeddings
from bedrock_marengo.contract.words import Words, segment_text
from bedrock_marengo.errors import visible
from bedrock_marengo.search.retrieve import StoreHit
from bedrock_marengo.search.targets import SearchTarget
from bedrock_marengo.search.text_index import TextIndex, TextRow, check_bm25
from bedrock_marengo.words.captions import Transcript
from marengo_cli.terminal import say

__all__ = ["WordTrack", "read_captions"]


@dataclass(slots=True)
class WordTrack:
    """The words of all files so far.

    Attributes:
        client: reads captions.
        rows: one for each segment of a file with captions.
        captions: S3 URI -> the file's captions, if it has any.
    """

    client: MarengoClient
    rows: list[TextRow[None]] = field(default_factory=list)
    captions: dict[str, Transcript | None] = field(default_factory=dict)
    _index: TextIndex[None] | None = None

    def __post_init__(self) -> None:
        check_bm25()

    def add(self, found: SegmentEmbeddings, media: Media, name: str) -> None:
        """Read one file's captions."""
        captions = self.captions[found.source] = read_captions(self.client, media, name, "searched")
        if captions is not None:
            for segment in found:
                said = captions.words(segment.start_sec, segment.end_sec)
                self.rows.append(TextRow(segment_text(segment, Words(said)), None, found.model_id))
            self._index = None

    def search(self, text: str, target: SearchTarget, limit: int) -> list[StoreHit[None]]:
        """The clips that have words of a text, best first."""
        if self._index is None:
            self._index = TextIndex.of(self.rows)
        return self._index.search(text, target, limit)


def read_captions(client: MarengoClient, media: Media, name: str, what: str) -> Transcript | None:
    """The captions next to a file; None, with a message, if they can't be read."""
    try:
        return client.captions_of(media)
    except MarengoError as error:
        say(visible(f"{name} is {what} without its captions: {error}"), err=True)
        return None
