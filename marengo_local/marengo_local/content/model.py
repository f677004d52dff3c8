"""The content model: texts, images, video and sound to vectors of one space."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np

from marengo_local.content import text as words
from marengo_local.content.cuts import Segmentation, cuts
from marengo_local.content.media import Caption, Outline, Picture, Sound, Source, UndecodableMedia, outline, play, still
from marengo_local.content.sight import GLIMPSE_SEC, Look, Watcher, appearance, glimpse, look
from marengo_local.content.sound import Listener
from marengo_local.content.space import LAYOUTS, Array, pack, unit

FUSED_WEIGHTS: Final = {"visual": 0.8, "audio": 0.1, "transcription": 0.05}
# Text agrees with words about twice as well as with pictures: halved, speech does not drown sight.
SPEECH_SHARE: Final = 0.5
PLACEHOLDER: Final = re.compile(r"<@([^<>]+)>")
# Each further part counts a little less, so that the order of a query's images matters.
ORDER_DECAY: Final = 0.9

# What each option is made of, and the streams it needs.
VISUAL: Final = frozenset({"visual", "visual-text", "visual-image"})
HEARD: Final = frozenset({"audio", "transcription"})


@dataclass(frozen=True, slots=True)
class Row:
    """One vector of a medium, (dimension,) float32 and unit length, and the time it stands for."""

    vector: np.ndarray
    option: str
    scope: str
    start_sec: float
    end_sec: float


class ContentModel:
    """One space of 512 (Marengo 3.0) or 1024 (2.7) dimensions. The weights are read at first use, once for both.

    It knows ImageNet's things in English, colours, light, motion and loudness; no actions, people, cartoons or
    words on screen, and it hears no words: a medium's own subtitle track is its speech.
    """

    def __init__(self, dimension: int) -> None:
        if dimension not in LAYOUTS:
            raise ValueError(f"dimension must be one of {sorted(LAYOUTS)}, not {dimension}")
        self.dimension = dimension
        self._layout = LAYOUTS[dimension]

    def text(self, text: str) -> Array:
        """Any string at all to a unit vector, always the same one."""
        return pack(
            self._layout,
            semantic=words.semantic(text),
            attributes=words.attributes(text),
            words=words.hashed_words(text, self._layout.words),
        )

    def image(self, data: bytes) -> Array:
        """A JPEG or PNG to a unit vector; raises UndecodableMedia."""
        return self._seen(look([glimpse(still(data))]), "visual")

    def text_image(self, text: str, data: bytes) -> Array:
        """A text and an image, each with half of the say; raises UndecodableMedia."""
        return unit(self.text(text) + self.image(data))

    def multi_input(self, text: str | None, images: Sequence[tuple[str | None, bytes]]) -> Array:
        """(name, image) pairs and a text that may place them as <@name>; raises UndecodableMedia.

        Images come in the order of their placeholders, then in the order given.
        """
        named = PLACEHOLDER.findall(text or "")
        ordered = sorted(images, key=lambda pair: named.index(pair[0]) if pair[0] in named else len(named))
        parts = [self.image(data) for _, data in ordered]
        plain = PLACEHOLDER.sub(" ", text or "").strip()
        if plain or not parts:
            parts.append(self.text(plain))
        return unit(sum((ORDER_DECAY**place * part for place, part in enumerate(parts)), np.zeros_like(parts[0])))

    def duration_sec(self, source: Source) -> float:
        """The length of a video or a sound file; raises UndecodableMedia."""
        return outline(source).duration_sec

    def media(
        self,
        kind: str,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        options: Sequence[str],
        scopes: Sequence[str] = ("clip",),
        separate: bool = True,
        fused: bool = False,
        start_sec: float = 0.0,
        end_sec: float | None = None,
        fixed_sec: float | None = None,
        min_clip_sec: float = 4.0,
    ) -> list[Row]:
        """Rows of a "video" or an "audio" file: clips by time, options in the order asked, then the whole asset's.

        `fused` adds an option of that name, and `separate=False` leaves only it. Options without a stream to
        read (a silent video's audio) have no rows. Raises UndecodableMedia where `kind` itself has no stream,
        ValueError for an empty range.
        """
        holds = outline(source)
        if not (holds.has_video if kind == "video" else holds.has_audio):
            raise UndecodableMedia(f"no {kind} stream found")
        last_sec = min(math.inf if end_sec is None else end_sec, holds.duration_sec)
        if not 0 <= start_sec < last_sec:
            raise ValueError(f"nothing lies between {start_sec} and {last_sec} s")
        there = [option for option in options if _streams_for(option, kind, holds)]
        footage = _watched(source, start_sec, last_sec, there, kind, fixed_sec)
        division = Segmentation(fixed_sec, min_clip_sec)
        segments = division.segments(kind, start_sec, last_sec, cuts(footage.watcher.jumps))
        clips = [
            Row(vector, option, "clip", first, last)
            for first, last in segments
            for option, vector in self._vectors(footage, there, first, last, fused).items()
        ]
        assets = _assets(clips, start_sec, last_sec)
        asked = [*(clips if "clip" in scopes else ()), *(assets if "asset" in scopes else ())]
        return [row for row in asked if separate or row.option == "fused"]

    def _vectors(
        self, footage: "_Footage", options: Sequence[str], start_sec: float, end_sec: float, fused: bool
    ) -> Mapping[str, Array]:
        """The vectors of one segment by option."""
        vectors = {option: self._vector(footage, option, start_sec, end_sec) for option in options}
        if fused and vectors:
            vectors["fused"] = unit(_weighted(vectors))
        return vectors

    def _vector(self, footage: "_Footage", option: str, start_sec: float, end_sec: float) -> Array:
        if option in VISUAL:
            return self._seen(footage.watcher.look(start_sec, end_sec), option)
        if option == "audio":
            heard = footage.listener.attributes(start_sec, end_sec)
            return pack(self._layout, attributes=heard, track="sound")
        return self._spoken(footage.said(start_sec, end_sec))

    def _seen(self, look: Look, option: str) -> Array:
        """2.7 has two visual vectors: one to be found by texts, one by images, too."""
        return pack(
            self._layout,
            semantic=look.semantic,
            attributes=look.attributes,
            appearance=None if option == "visual-text" else appearance(look.features, self._layout.appearance),
            share=look.sureness,
        )

    def _spoken(self, said: str) -> Array:
        if not said.strip():
            return pack(self._layout, track="speech")
        return pack(
            self._layout,
            semantic=words.semantic(said),
            words=words.hashed_words(said, self._layout.words),
            share=SPEECH_SHARE,
            track="speech",
        )


@dataclass(slots=True)
class _Footage:
    """What one pass over a medium leaves."""

    watcher: Watcher
    listener: Listener = field(default_factory=Listener)
    captions: list[Caption] = field(default_factory=list)

    def take(self, events: Iterable[Picture | Sound | Caption]) -> None:
        for event in events:
            match event:
                case Picture():
                    self.watcher.see(event)
                case Sound():
                    self.listener.hear(event)
                case Caption():
                    self.captions.append(event)

    def said(self, start_sec: float, end_sec: float) -> str:
        return " ".join(c.words for c in self.captions if c.start_sec < end_sec and c.end_sec > start_sec)


def _watched(
    source: Source, start_sec: float, end_sec: float, options: Sequence[str], kind: str, fixed_sec: float | None
) -> _Footage:
    footage = _Footage(Watcher(min(GLIMPSE_SEC, fixed_sec or GLIMPSE_SEC)))
    # Cuts need the pictures even where no visual option is asked for.
    video = kind == "video" and (fixed_sec is None or any(option in VISUAL for option in options))
    footage.take(
        play(
            source,
            start_sec,
            end_sec,
            video=video,
            audio="audio" in options,
            captions="transcription" in options,
        )
    )
    if video and not footage.watcher.glimpses:
        raise UndecodableMedia("the video stream has no picture in that range")
    return footage


def _streams_for(option: str, kind: str, holds: Outline) -> bool:
    if option in VISUAL:
        return kind == "video"
    if option in HEARD:
        return holds.has_audio
    raise ValueError(f"unknown option: {option!r}")


def _weighted(vectors: Mapping[str, Array]) -> Array:
    shares = [FUSED_WEIGHTS.get(option, 0.0) for option in vectors]
    mixed: Array = np.average(list(vectors.values()), axis=0, weights=shares).astype(np.float32)
    return mixed


def _assets(clips: Sequence[Row], start_sec: float, end_sec: float) -> list[Row]:
    """One row for each option over the whole range: the mean of its clips."""
    by_option: dict[str, list[Array]] = {}
    for row in clips:
        by_option.setdefault(row.option, []).append(row.vector)
    return [
        Row(unit(np.mean(vectors, 0)), option, "asset", start_sec, end_sec) for option, vectors in by_option.items()
    ]
