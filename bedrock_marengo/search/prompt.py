"""Moments for a language model: text with sources, time codes and words, and frames, within a budget of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import accumulate
from typing import TYPE_CHECKING
from warnings import warn

from bedrock_marengo.errors import InputError, MarengoWarning, ServiceError
from bedrock_marengo.search.citations import span
from bedrock_marengo.search.results import SearchResult, check_allowed_prefixes, is_allowed, names_of
from bedrock_marengo.validation import check_width, is_int, short_repr

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["MAX_CHARS", "MAX_FRAMES", "moment_parts", "moment_text"]

MAX_CHARS = 8_000
"""Ours: about 2,000 tokens."""
MAX_FRAMES = 8
"""Ours: what models that see take at little cost."""

_OPENED_AT_ONCE = 8
_SAID = "\nsaid: "
_CUT = " ..."


def moment_text(found: Sequence[SearchResult], *, max_chars: int = MAX_CHARS) -> str:
    """Moments as text: of each its number, file and time code, and on a second line what is said.

    Long words are cut so that all moments share what is left; moments that don't fit at all are left out, from the
    worst, and a last line counts them.

    Args:
        found: the moments, best first.
        max_chars: characters at most.

    Raises:
        InputError: ``max_chars`` has no room for one moment.
    """
    texts, rest = _texts(found, max_chars)
    return "\n".join(texts + rest)


def moment_parts(
    client: MarengoClient,
    found: Sequence[SearchResult],
    *,
    max_chars: int = MAX_CHARS,
    max_frames: int = MAX_FRAMES,
    frames_per_moment: int = 1,
    width: int = 512,
    allowed_prefixes: Sequence[str] | None = None,
) -> list[str | bytes]:
    """The same with pictures: each moment's text, followed by JPEGs of frames that lie evenly in it.

    The best moments come first where ``max_frames`` does not do for all. Audio has no frame. A medium that can't be
    read or decoded has none either, with a warning: an answer without a picture is better than none.

    Args:
        client: whose credentials read the media.
        found: the moments, best first.
        max_chars: characters of text at most, in all.
        max_frames: frames at most, in all.
        frames_per_moment: frames at most of one moment; an image has one.
        width: pixels of a frame at most.
        allowed_prefixes: S3 prefixes and objects; only these are read. Set it if others can write to your store.

    Raises:
        ConfigurationError: PyAV is not installed.
        InputError: A budget, a width or a prefix that makes no sense.
    """
    for name, value in (("max_frames", max_frames), ("frames_per_moment", frames_per_moment)):
        if not is_int(value, 0):
            raise InputError(f"{name}={short_repr(value)}: give a whole number from 0.")
    check_width(width)
    check_allowed_prefixes(allowed_prefixes)
    texts, rest = _texts(found, max_chars)
    most = [
        _most(hit, frames_per_moment) if is_allowed(hit.source, allowed_prefixes) else 0 for hit in found[: len(texts)]
    ]
    frames = _frames(client, found, _dealt(most, max_frames), width)
    parts: list[str | bytes] = []
    for i, text in enumerate(texts):
        parts += [text, *frames[i]]
    return parts + rest


def _texts(found: Sequence[SearchResult], max_chars: int) -> tuple[list[str], list[str]]:
    """A text for each moment that fits, and one more that counts the others, if any."""
    if not is_int(max_chars, 0):
        raise InputError(f"max_chars={short_repr(max_chars)}: give a whole number.")
    names = names_of(hit.source for hit in found)
    heads = [f"[{number}] {_one_line(_label(hit, names))}" for number, hit in enumerate(found, start=1)]
    kept = _fitting(heads, max_chars)
    if found and not kept:
        raise InputError(f"max_chars={max_chars}: there is no room for one moment, such as {short_repr(heads[0])}.")
    texts, rest = heads[:kept], _left_out(len(heads) - kept)
    words = [_one_line(hit.words) for hit in found[:kept]]
    left = max_chars - len("\n".join(texts + rest)) - sum(len(_SAID) for said in words if said)
    for i, share in enumerate(_shares([len(said) for said in words], left)):
        if said := _cut(words[i], share):
            texts[i] += _SAID + said
    return texts, rest


def _label(hit: SearchResult, names: Mapping[str, str]) -> str:
    return ", ".join(filter(None, (names[hit.source], span(hit.start_sec, hit.end_sec))))


def _one_line(text: str) -> str:
    # A transcript or a file's name must not look like another moment.
    return " ".join(text.split())


def _fitting(heads: Sequence[str], max_chars: int) -> int:
    """How many heads fit in lines of their own, with a last line for the others."""
    lengths = list(accumulate((len(head) + 1 for head in heads), initial=-1))
    for kept in range(len(heads), 0, -1):
        if lengths[kept] + sum(1 + len(line) for line in _left_out(len(heads) - kept)) <= max_chars:
            return kept
    return 0


def _left_out(count: int) -> list[str]:
    return [f"({count} more were left out)"] if count else []


def _shares(lengths: Sequence[int], budget: int) -> list[int]:
    """How much of each text is kept: short ones whole, long ones alike."""
    shares, left = [0] * len(lengths), max(0, budget)
    for place, i in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[i] = min(lengths[i], left // (len(lengths) - place))
        left -= shares[i]
    return shares


def _cut(text: str, most: int) -> str:
    """At most so many characters, at the end of a word; not all languages have spaces."""
    if len(text) <= most:
        return text
    kept = text[: max(0, most - len(_CUT))]
    whole = kept.rpartition(" ")[0]
    kept = whole if 2 * len(whole) > len(kept) else kept
    return kept + _CUT if kept else ""


def _most(hit: SearchResult, frames_per_moment: int) -> int:
    return {"audio": 0, "image": min(1, frames_per_moment)}.get(hit.media_type, frames_per_moment)


def _dealt(most: Sequence[int], budget: int) -> list[int]:
    """How many each gets when ``budget`` are dealt in rounds, from the first on."""
    dealt = [0] * len(most)
    while budget > 0 and dealt != list(most):
        for i, limit in enumerate(most):
            if dealt[i] < limit and budget > 0:
                dealt[i] += 1
                budget -= 1
    return dealt


def _frames(
    client: MarengoClient, found: Sequence[SearchResult], counts: Sequence[int], width: int
) -> list[list[bytes]]:
    """So many frames of each moment; each source is opened once."""
    wanted: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, count in enumerate(counts):
        hit = found[i]
        for place in range(count):
            time = hit.start_sec + (hit.end_sec - hit.start_sec) * (place + 0.5) / count
            wanted[hit.source].append((i, time))

    def sample(asked: list[tuple[int, float]]) -> list[bytes]:
        return _sampled(client, found[asked[0][0]], [time for _, time in asked], width)

    frames: list[list[bytes]] = [[] for _ in counts]
    # Each thread works in the caller's context, so that cancelling the caller cancels its reads.
    contexts = [copy_context() for _ in wanted]
    with ThreadPoolExecutor(_OPENED_AT_ONCE, "marengo-frames") as pool:
        sampled = pool.map(lambda context, asked: context.run(sample, asked), contexts, wanted.values())
        for asked, jpegs in zip(wanted.values(), sampled, strict=True):
            for (i, _), jpeg in zip(asked, jpegs, strict=False):
                frames[i].append(jpeg)
    return frames


def _sampled(client: MarengoClient, hit: SearchResult, times: list[float], width: int) -> list[bytes]:
    try:
        return client.frames(hit.media, times, width=width)
    except (InputError, ServiceError) as error:
        warn(f"No picture of {hit.source}: {error}", MarengoWarning, stacklevel=1)
        return []
