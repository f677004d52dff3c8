"""SRT, WebVTT, SBV, ASS, SSA, TTML, DFXP -> the words of a time range."""

from __future__ import annotations

import codecs
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.errors import InputError, MarengoWarning
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.sidecars import captions_next_to, read_captions
from bedrock_marengo.validation import short_repr
from bedrock_marengo.words.cues import Cues
from bedrock_marengo.words.spoken import spoken_words
from bedrock_marengo.words.substation import read_substation
from bedrock_marengo.words.timed_lines import read_timed_lines
from bedrock_marengo.words.ttml import read_ttml

__all__ = ["Transcript", "captions_of"]

FORMATS: Sequence[tuple[re.Pattern[str], Callable[[str], Cues]]] = (
    (re.compile(r"\s*<(?:\?xml|!--|!DOCTYPE|(?:\w+:)?tt[\s>])"), read_ttml),
    (re.compile(r"(?:\s*;[^\n]*\n)*\s*\[(?:script info|v4\+? styles|events)\]", re.IGNORECASE), read_substation),
    (re.compile(""), read_timed_lines),
)
"""How a file of each format begins. A name is not asked: captions may be given as text."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark is a part of it.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_XML_ENCODING = re.compile(
    rb"""<\?xml[^>]{1,200}encoding=["'](us-ascii|iso-8859-\d{1,2}|windows-125\d|shift_jis|euc-jp|euc-kr|gb\w+|big5)["']""",
    re.IGNORECASE,
)
_NO_CHARACTER = re.compile(r"&#(?:0*[1-9]\d{7,}|[xX]0*[1-9a-fA-F][0-9a-fA-F]{6,})")


class Transcript:
    """Words with times, each of which one segment gets. The words of a cue of captions are spread evenly over it.

    Examples:
        >>> Transcript.parse("1\\n00:00:00,000 --> 00:00:04,000\\nHe shoots, he scores!").words(0, 2)
        'He shoots,'
    """

    def __init__(self, words: list[tuple[float, str]], captions: str = "", *, between: str = " ") -> None:
        self.captions = captions
        """The text that was parsed, unchanged; WebVTT if a service transcribed them."""
        self._between = between
        self._words = [word for _, word in words]
        self._order = sorted(range(len(words)), key=lambda i: words[i][0])
        self._times = [words[i][0] for i in self._order]

    @classmethod
    def parse(cls, captions: str, name: str = "The captions") -> Transcript:
        """Read SRT, WebVTT, SBV, ASS, SSA, TTML or DFXP; the text shows which. Warns of cues that can't be used.

        Args:
            captions: the text of the captions.
            name: what messages call them.

        Raises:
            InputError: Not a string, not captions, or none of their cues can be used.
        """
        if not isinstance(captions, str):
            raise InputError(
                f"Captions must be a string (SRT or WebVTT) or a pathlib.Path, not {short_repr(captions)}."
            )
        _check_characters(captions)
        text = captions.replace("\ufeff", "")
        for line_break in ("\r\r\n", "\r\n", "\r"):
            text = text.replace(line_break, "\n")
        cues = next(read for begins, read in FORMATS if begins.match(text))(text)
        if not cues.usable and not cues.unusable:
            raise InputError(
                f"The captions {short_repr(captions)} contain no cues: SRT and WebVTT have lines like "
                "00:00:01.000 --> 00:00:04.000."
            )
        if cues.unusable:
            count, total = len(cues.unusable), len(cues.unusable) + len(cues.usable)
            message = (
                f"{count:,} of {total:,} cues have times that can't be used, such as {short_repr(cues.unusable[0])}: "
                "expected a start and an end after it, such as 00:00:01.000 --> 00:00:04.000."
            )
            if not cues.usable:
                raise InputError(message)
            warnings.warn(f"{name}: {message} Their words are left out.", MarengoWarning, stacklevel=3)
        return cls(list(spoken_words(cues.usable)), captions)

    @classmethod
    def of(cls, captions: Transcript | Path | str, name: str = "The captions") -> Transcript:
        """A transcript, a file with one, or the text of one. A string is never a path.

        Raises:
            InputError: The file can't be read, or none of its cues can be used.
        """
        if isinstance(captions, Transcript):
            return captions
        if isinstance(captions, Path):
            return _parse_file(str(captions), read_captions(captions))
        return cls.parse(captions, name)

    def words(self, start_sec: float, end_sec: float) -> str:
        """The words whose middle is from ``start_sec`` up to, not including, ``end_sec``."""
        low, high = bisect_left(self._times, start_sec), bisect_left(self._times, end_sec)
        # Cues may overlap: each is said without the other's words in between.
        return self._between.join(self._words[i] for i in sorted(self._order[low:high])).strip()


def captions_of(objects: S3Objects, media: Media) -> Transcript | None:
    """The captions stored next to a file; None if there are none.

    Raises:
        InputError: The captions can't be read.
        ServiceError: AWS refused.
    """
    found = captions_next_to(objects, media)
    return _parse_file(*found) if found else None


def _parse_file(name: str, data: bytes) -> Transcript:
    try:
        return Transcript.parse(_decoded(data), name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _decoded(data: bytes) -> str:
    """A file's text, by its byte order mark, the encoding that its XML declares, or as UTF-8."""
    mark, encoding = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), (b"", "utf-8"))
    declared = _XML_ENCODING.match(data)
    if declared:
        encoding = declared[1].decode().lower()
    try:
        return data[len(mark) :].decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        where = f" (byte {error.start:,})" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(
            f"The captions are not valid {encoding.upper()}{where}. Without a byte order mark they are read as UTF-8: "
            "save them as UTF-8."
        ) from None


def _check_characters(text: str) -> None:
    if "\0" in text:
        raise InputError(
            "The captions contain NUL characters, as UTF-16 does without a byte order mark: save them as UTF-8."
        )
    if found := _NO_CHARACTER.search(text):
        raise InputError(f"The captions contain {found[0][:16]!r}..., which is not a Unicode character: correct it.")
