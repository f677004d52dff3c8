"""Moments for a language model: text with sources, time codes and words, and frames, each within a budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from itertools import accumulate
from typing import TYPE_CHECKING
from warnings import warn

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.contract.words import Words, span
from bedrock_marengo.errors import InputError, MarengoWarning, ServiceError
from bedrock_marengo.search.results import OtherText, SearchResult, check_allowed_prefixes, is_allowed, names_of
from bedrock_marengo.search.videos import (
    MAX_VIDEO_BYTES,
    MAX_VIDEOS,
    VideoPart,
    Videos,
    check_videos,
    videos_of,
)
from bedrock_marengo.validation import check_width, is_int, short_repr

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["MAX_CHARS", "MAX_FRAMES", "moment_parts", "moment_text"]

MAX_CHARS = 8_000
"""Ours: about 2,000 tokens."""
MAX_FRAMES = 8
"""Ours: few enough to cost little with any vision model."""

_OPENED_AT_ONCE = 8
_CUT = " ..."


def moment_text(found: Sequence[SearchResult | OtherText], *, max_chars: int = MAX_CHARS) -> str:
    """Moments as text: the number, file and time code of each, then its words; what is said and seen on a line each.

    Long words are cut so that all moments share the space that is left. Moments that don't fit at all are left out,
    the worst first, and a last line counts them.

    Args:
        found: the moments, best first, and other texts among them.
        max_chars: the most characters.

    Raises:
        InputError: ``max_chars`` is too small for one moment.
    """
    texts, rest = _texts(found, max_chars)
    return "\n".join(texts + rest)


def moment_parts(
    client: MarengoClient,
    found: Sequence[SearchResult | OtherText],
    *,
    max_chars: int = MAX_CHARS,
    max_frames: int = MAX_FRAMES,
    frames_per_moment: int = 1,
    width: int = 512,
    allowed_prefixes: Sequence[str] | None = None,
    video: Videos = False,
    max_videos: int = MAX_VIDEOS,
    max_video_bytes: int = MAX_VIDEO_BYTES,
) -> list[str | bytes | VideoPart]:
    """The same with pictures: each moment's text, followed by JPEGs of evenly spaced frames, or by its video.

    If ``max_frames`` is not enough for all, the best moments get theirs first. Audio has no frames. A file that can't
    be read or decoded has none either, with a warning: an answer without a picture is better than none.

    Args:
        client: reads the files, with its credentials.
        found: the moments, best first, and other texts among them, which have no frames.
        max_chars: the most characters of text, in total.
        max_frames: the most frames, in total.
        frames_per_moment: the most frames of one moment; an image has one.
        width: the largest width of a frame, in pixels.
        allowed_prefixes: the only S3 prefixes and objects to read. Set it if others can write to your store.
        video: True: the best moments come as clips, of at most ``MAX_CLIP_SEC``; "s3": as whole files on S3.
        max_videos: the most videos.
        max_video_bytes: the most bytes of all clips. A moment whose clip doesn't fit has frames.

    Raises:
        ConfigurationError: PyAV is not installed.
        InputError: A budget, the width or a prefix has a wrong value.
    """
    check_videos(video, max_videos, max_video_bytes)
    for name, value in (("max_frames", max_frames), ("frames_per_moment", frames_per_moment)):
        if not is_int(value, 0):
            raise InputError("expected a whole number, 0 or more.", setting=name, value=value)
    check_width(width)
    check_allowed_prefixes(allowed_prefixes)
    texts, rest = _texts(found, max_chars)
    limits = {"max_videos": max_videos, "max_video_bytes": max_video_bytes}
    videos = videos_of(client, found[: len(texts)], video, width=width, allowed_prefixes=allowed_prefixes, **limits)
    most = [
        _most(hit, frames_per_moment)
        if isinstance(hit, SearchResult) and i not in videos and is_allowed(hit.source, allowed_prefixes)
        else 0
        for i, hit in enumerate(found[: len(texts)])
    ]
    frames = _frames(client, found, _deal(most, max_frames), width)
    parts: list[str | bytes | VideoPart] = []
    for i, text in enumerate(texts):
        parts += [text, *([videos[i]] if i in videos else frames[i])]
    return parts + rest


def _texts(found: Sequence[SearchResult | OtherText], max_chars: int) -> tuple[list[str], list[str]]:
    """A text for each moment that fits, and a last one that counts the others, if there are any."""
    if not is_int(max_chars, 0):
        raise InputError("expected a whole number, 0 or more.", setting="max_chars", value=max_chars)
    names = names_of(hit.source for hit in found if isinstance(hit, SearchResult))
    heads = [f"[{number}] {_one_line(_label(hit, names))}".rstrip() for number, hit in enumerate(found, start=1)]
    kept = _fitting(heads, max_chars)
    if found and not kept:
        least = len("\n".join([heads[0], *_left_out(len(heads) - 1)]))
        raise InputError(
            f"too small for one moment, such as {short_repr(heads[0])}: expected {least} or more.",
            setting="max_chars",
            value=max_chars,
        )
    texts, rest = heads[:kept], _left_out(len(heads) - kept)
    lines = [(i, f"\n{label}: ", _one_line(line)) for i in range(kept) for label, line in _lines(found[i])]
    left = max_chars - len("\n".join(texts + rest)) - sum(len(label) for _, label, _ in lines)
    for (i, label, line), share in zip(lines, _shares([len(line) for _, _, line in lines], left), strict=True):
        if kept_line := _cut(line, share):
            texts[i] += label + kept_line
    return texts, rest


def _label(hit: SearchResult | OtherText, names: Mapping[str, str]) -> str:
    if isinstance(hit, OtherText):
        return hit.name
    return ", ".join(filter(None, (names[hit.source], span(hit.start_sec, hit.end_sec))))


def _lines(hit: SearchResult | OtherText) -> list[tuple[str, str]]:
    """What a moment's text has after its first line: labels, and what belongs to them."""
    if isinstance(hit, OtherText):
        return [("text", hit.text)]
    both = Words.find(hit.words)
    lines = [("said", both.said), ("seen", both.seen)] if both else [("words", hit.words)]
    return [(label, line) for label, line in lines if line.strip()]


def _one_line(text: str) -> str:
    # A transcript or a file's name must not look like another moment.
    return " ".join(text.split())


def _fitting(heads: Sequence[str], max_chars: int) -> int:
    """How many heads fit, each on a line, with a last line that counts the others."""
    lengths = list(accumulate((len(head) + 1 for head in heads), initial=-1))
    for kept in range(len(heads), 0, -1):
        if lengths[kept] + sum(1 + len(line) for line in _left_out(len(heads) - kept)) <= max_chars:
            return kept
    return 0


def _left_out(count: int) -> list[str]:
    return [f"({count} more were left out)"] if count else []


def _shares(lengths: Sequence[int], budget: int) -> list[int]:
    """How many characters of each text are kept: all of short ones, the same number of long ones."""
    shares, left = [0] * len(lengths), max(0, budget)
    for place, i in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[i] = min(lengths[i], left // (len(lengths) - place))
        left -= shares[i]
    return shares


def _cut(text: str, most: int) -> str:
    """A text cut to a length, at the end of a word if there are spaces: not all languages have them."""
    if len(text) <= most:
        return text
    kept = text[: max(0, most - len(_CUT))]
    whole = kept.rpartition(" ")[0]
    kept = whole if 2 * len(whole) > len(kept) else kept
    return kept + _CUT if kept else ""


def _most(hit: SearchResult, frames_per_moment: int) -> int:
    rules = KINDS[hit.media_type]
    if not rules.frames:
        return 0
    return frames_per_moment if rules.timed else min(1, frames_per_moment)


def _deal(most: Sequence[int], budget: int) -> list[int]:
    """How many each gets if ``budget`` is dealt out in rounds, starting with the first."""
    dealt = [0] * len(most)
    while budget > 0 and dealt != list(most):
        for i, limit in enumerate(most):
            if dealt[i] < limit and budget > 0:
                dealt[i] += 1
                budget -= 1
    return dealt


def _frames(
    client: MarengoClient, found: Sequence[SearchResult | OtherText], counts: Sequence[int], width: int
) -> list[list[bytes]]:
    """The frames of each moment, by their counts; each source is opened once."""
    wanted: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    firsts: dict[str, SearchResult] = {}
    for i, (hit, count) in enumerate(zip(found, counts, strict=False)):
        if isinstance(hit, SearchResult) and count:
            firsts.setdefault(hit.source, hit)
            length = (hit.end_sec - hit.start_sec) / count
            wanted[hit.source] += [(i, hit.start_sec + length * (place + 0.5)) for place in range(count)]

    def sample(source: str) -> list[bytes]:
        return _sampled(client, firsts[source], [time for _, time in wanted[source]], width)

    frames: list[list[bytes]] = [[] for _ in counts]
    # Each thread works in the caller's context, so that cancelling the caller cancels its reads.
    contexts = [copy_context() for _ in wanted]
    with CancellableExecutor(_OPENED_AT_ONCE, "marengo-frames", CancelToken()) as pool:
        sampled = pool.map(lambda context, source: context.run(sample, source), contexts, wanted)
        for asked, jpegs in zip(wanted.values(), sampled, strict=True):
            for (i, _), jpeg in zip(asked, jpegs, strict=False):
                frames[i].append(jpeg)
    return frames


def _sampled(client: MarengoClient, hit: SearchResult, times: list[float], width: int) -> list[bytes]:
    try:
        return client.frames(hit.media, times, width=width)
    except (InputError, ServiceError) as error:
        warn(f"There are no frames of {hit.source}: {error}", MarengoWarning, stacklevel=1)
        return []
