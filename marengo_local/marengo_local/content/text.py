"""Blocks of a text: its meaning, the attributes it names, and its words."""

import re
import unicodedata
import zlib
from functools import cache
from typing import Final

import numpy as np

from marengo_local.content.space import ATTRIBUTES, NAMED, SEMANTIC, Array
from marengo_local.content.weights import lines, weights

SYNONYMS: Final = {
    name: attribute
    for attribute, names in {
        "red": "crimson scarlet",
        "yellow": "golden gold",
        "green": "teal",
        "blue": "navy azure",
        "purple": "violet",
        "pink": "magenta",
        "brown": "beige",
        "grey": "gray",
        "dark": "night dim stars galaxy galaxies",
        "bright": "daylight sunny",
        "monochrome": "grayscale greyscale",
        "colourful": "colorful vivid",
        "still": "static motionless",
        "moving": "fast action bouncing motion",
        "silence": "silent",
        "noise": "noisy",
        "tone": "beep",
    }.items()
    for name in names.split()
}
_STOP_WORDS = (
    "a an the of in on at to and or is are be by with for it its this that as from we you i he she they our "
    "your my has have had was were will not no so up out"
)
STOP_WORDS: Final = frozenset(_STOP_WORDS.split())
# A film, and not a cow.
MONOCHROME: Final = re.compile(
    r"(?<=in )black and white|black[ -]and[ -]white(?= (?:clip|film|footage|image|movie|photo|picture|recording|video))"
)
SLOTS_PER_WORD: Final = 4
# As in BERT, longer words are ignored.
MAX_WORD_LENGTH: Final = 100


def semantic(text: str) -> Array:
    """The mean of the text's word pieces, (128,); zeros if none is in the vocabulary."""
    words = re.findall(r"[a-z0-9]+", _ascii(text))
    content_words = [word for word in words if word not in STOP_WORDS] or words
    pieces = [piece for word in content_words if len(word) <= MAX_WORD_LENGTH for piece in _pieces(word)]
    if not pieces:
        return np.zeros(SEMANTIC, np.float32)
    known, counts = np.unique(pieces, return_counts=True)
    # A longer vector counts for more: "guitar" says more about a scene than "playing".
    vectors = weights()["t_q"][known].astype(np.float32) * weights()["t_s"][known, None].astype(np.float32)
    mean: Array = (counts / len(pieces)).astype(np.float32) @ vectors
    return mean


def attributes(text: str) -> Array:
    """The attributes that the text mentions, (48,); zeros if none."""
    found = np.zeros(ATTRIBUTES, np.float32)
    for word in re.findall(r"[a-z]+", MONOCHROME.sub("monochrome", _ascii(text))):
        name = SYNONYMS.get(word, word)
        if name in NAMED:
            found[NAMED[name]] += 1
    return found


def hashed_words(text: str, width: int) -> Array:
    """Words of any script, each hashed to a few signed positions of (width,). A text without words is hashed whole."""
    words = {_stem(word) for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS}
    places = _hashed(sorted(words), width)
    return places if places.any() else _hashed([f"whole text: {text}"], width)


def _hashed(words: list[str], width: int) -> Array:
    places = np.zeros(width, np.float32)
    for word in words:
        # A str may contain a lone surrogate, which UTF-8 can't encode.
        raw = word.encode("utf-8", "surrogatepass")
        for slot in range(SLOTS_PER_WORD):
            # CRCs with related seeds have related low bits; the multiplication mixes them.
            mixed = (zlib.crc32(raw, slot * 0x9E3779B9 & 0xFFFFFFFF) * 0x2545F4914F6CDD1D) >> 13
            places[mixed % width] += 1.0 if mixed >> 40 & 1 else -1.0
    return places


def _stem(word: str) -> str:
    return re.sub(r"(ing|ed|es|s)$", "", word) if len(word) > 4 else word


def _ascii(text: str) -> str:
    """Lowercase without accents, since the word pieces are ASCII."""
    return unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()


def _pieces(word: str) -> list[int]:
    """BERT's word pieces by greedy longest match; a remainder that matches nothing is dropped."""
    vocabulary, longest = _vocabulary()
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(min(len(word), start + longest), start, -1):
            piece = vocabulary.get(prefix + word[start:end])
            if piece is not None:
                found.append(piece)
                start = end
                break
        else:
            break
    return found


@cache
def _vocabulary() -> tuple[dict[str, int], int]:
    pieces = lines("t_w")
    return {piece: place for place, piece in enumerate(pieces)}, max(map(len, pieces))
