"""The segment that a text to embed stands for, whatever a template puts around its URI; and texts that cut a URI."""

from __future__ import annotations

import re
from typing import NamedTuple

from bedrock_marengo.contract.segments import TIME, URI, Segment, time_range
from bedrock_marengo.contract.words import heading

__all__ = ["TextSegment", "cuts_uri", "find_segment"]

_FRAMES = (
    # What LlamaIndex's metadata extractors set as the template of a node.
    (re.compile(r"\[Excerpt from document\]\n"), "\nExcerpt:\n-----\n"),
    # The template of its documentation.
    (re.compile(r"Metadata: "), "\n-----\nContent: "),
)
"""Templates of a framework's own: how they begin, and what is between the metadata and the text."""
# LlamaIndex's default template: lines of "key: value", then the text after a blank line.
_METADATA = re.compile(r"[^\s:][^\n:]*: ")

_LABEL_LENGTH = 100
_URI = re.compile(rf"(?<![A-Za-z0-9._~/%+-]){URI}(?![A-Za-z0-9_%&#=/~+]|[.-]+[A-Za-z0-9])", re.ASCII)
# Before the URI on its line: "Content: ", "<content>", '"content": "', '["', or no word at all.
_LABEL = re.compile(r"""(?:^\W*|[:=>|：][*_]*\s?["'`]*|[\[{(,]\s?["'`])$""")
# Or metadata at the start of the text: "topic=>sport".
_FIELDS = re.compile(r"[a-z_][a-z0-9_]*(?:=>|=|: )\S")
# After it: nothing, what closes a label, or metadata. A sentence goes on with a word, or ends in a period.
_CLOSED = re.compile(r"""[ \t\r]*(?:$|["'`<>|}\]\\=*#—–-]|[A-Za-z_][\w-]*(?:=>|=|: ))""", re.MULTILINE)

_HEAD = re.compile(
    rf"(?:^|\s)s3://[^\s#]+#t={TIME},{TIME}&track=[A-Za-z0-9._~-]*(?:&(?:j(?:o(?:b(?:=[0-9a-f]{{0,15}})?)?)?)?)?$",
    re.ASCII,
)
_TAIL = re.compile(
    rf"(?!\S*s3://)(?:\S*&)?job=[0-9a-f]{{16}}(?:&scope=asset)?(?:&clip={TIME},{TIME})?(?:\s|$)", re.ASCII
)


class TextSegment(NamedTuple):
    """A segment that a text stands for.

    Attributes:
        segment: the segment.
        is_certain: whether the text can't be anything else: its first line is the URI, or it is in a template of a
            framework's own. If not, it may be a text of the user's that cites a segment.
    """

    segment: Segment
    is_certain: bool


def find_segment(text: str) -> TextSegment | None:
    """The segment that a text to embed stands for; None if it is just text.

    The segment's URI is the first line of the text, or it is the only one that is by itself: in its line, or after a
    label in it ("Content: s3://..."), with nothing after it that goes on as a sentence. A text that has the URIs of
    several segments by themselves, such as a prompt, is text, except in a template of LlamaIndex's own.
    """
    if not isinstance(text, str) or "s3://" not in text:
        return None
    if (segment := Segment.find(text) or _in_frame(text)) is not None:
        return TextSegment(segment, True)
    alone = {match[0]: match for match in _URI.finditer(text) if _is_alone(text, match)}
    if len(alone) != 1:
        return None
    segment = Segment.find(next(iter(alone)))
    return TextSegment(segment, False) if segment is not None else None


def cuts_uri(text: str) -> bool:
    """Whether a text begins or ends within a segment's URI, as the pieces of a text splitter do."""
    if not isinstance(text, str) or "=" not in text:
        return False
    text = text.strip()
    return _TAIL.match(text) is not None or _HEAD.search(text.rpartition("\n")[2]) is not None


def _in_frame(text: str) -> Segment | None:
    """The segment in a template of a framework's own: metadata come first, and may quote other segments."""
    for begins, separator in _FRAMES:
        if begins.match(text) and (segment := Segment.find(text.rpartition(separator)[2])) is not None:
            return segment
    if _METADATA.match(text) is None:
        return None
    named = {segment.uri: segment for part in text.split("\n\n")[1:] if (segment := Segment.find(part)) is not None}
    return next(iter(named.values())) if len(named) == 1 else None


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether a URI's line goes on with its segment's heading, as where line breaks have become spaces."""
    segment, times = Segment.find(match[0]), time_range(match[0])
    if segment is None or times is None:
        return False
    title = " ".join(heading(segment.source, *times).split())
    after = text[match.end() : match.end() + 2 * len(title) + 2]
    return bool(title) and after[:1].isspace() and " ".join(after.split()).startswith(title)


def _is_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a URI is by itself: nothing in its line belongs to a sentence with it."""
    if _CLOSED.match(text, match.end()) is None and not _goes_on(text, match):
        return False
    line = text.rfind("\n", 0, match.start()) + 1
    if text.find("&job=", line, match.start()) != -1:
        return False
    before = text[max(line, match.start() - _LABEL_LENGTH) : match.start()].rstrip()
    return _LABEL.search(before) is not None or (line == 0 and _FIELDS.match(text) is not None)
