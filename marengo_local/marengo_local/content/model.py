"""The content model: embeds text, images, video and audio in one vector space."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np

from marengo_local.content import text as words
from marengo_local.content.cuts import Segmentation, cuts
from marengo_local.content.media import (
    Caption,
    Outline,
    Picture,
    Sound,
    Source,
    UndecodableMedia,
    outline,
    play,
    still,
    still_outline,
)
from marengo_local.content.sound import AudioAnalyzer
from marengo_local.content.space import LAYOUTS, Array, pack, unit
from marengo_local.content.vision import (
    KEYFRAME_SEC,
    VideoAnalyzer,
    VisualFeatures,
    analyze,
    appearance,
    combine,
)

FUSED_WEIGHTS: Final = {"visual": 0.8, "audio": 0.1, "transcription": 0.05}
# Text matches words about twice as well as images. Halving it keeps speech from outweighing visual content.
SPEECH_SHARE: Final = 0.5
PLACEHOLDER: Final = re.compile(r"<@([^<>]+)>")
# Each further part weighs a little less, so that the order of a query's images matters.
ORDER_DECAY: Final = 0.9

# Options by the stream they need.
VISUAL: Final = frozenset({"visual", "visual-text", "visual-image"})
AUDIBLE: Final = frozenset({"audio", "transcription"})


@dataclass(frozen=True, slots=True)
class Row:
    """One vector of a file, (dimension,) float32 of unit length, and its time range."""

    vector: np.ndarray
    option: str
    scope: str
    start_sec: float
    end_sec: float


class ContentModel:
    """A vector space with 512 (Marengo 3.0) or 1024 (2.7) dimensions. The weights are read once, at first use.

    The model recognizes ImageNet's classes by their English names, colors, light, motion and loudness. It does not
    recognize actions, people, cartoons or text on screen. It does not transcribe speech; a file's embedded subtitle
    track is used instead.
    """

    def __init__(self, dimension: int) -> None:
        if dimension not in LAYOUTS:
            raise ValueError(f"dimension={dimension} is not supported. Use one of {sorted(LAYOUTS)}.")
        self.dimension = dimension
        self._layout = LAYOUTS[dimension]

    def text(self, text: str) -> Array:
        """Embed any string, deterministically, as a unit vector."""
        return pack(
            self._layout,
            semantic=words.semantic(text),
            attributes=words.attributes(text),
            words=words.hashed_words(text, self._layout.words),
        )

    def image(self, data: bytes) -> Array:
        """Embed a JPEG or PNG as a unit vector; raises UndecodableMedia."""
        return self._visual(combine([analyze(still(data))]), "visual")

    def text_image(self, text: str, data: bytes) -> Array:
        """Embed a text and an image with equal weight; raises UndecodableMedia."""
        return unit(self.text(text) + self.image(data))

    def multi_input(self, text: str | None, images: Sequence[tuple[str | None, bytes]]) -> Array:
        """Embed (name, image) pairs with a text that may refer to them as <@name>; raises UndecodableMedia.

        Images are ordered by their placeholders, then as given.
        """
        named = PLACEHOLDER.findall(text or "")
        ordered = sorted(images, key=lambda pair: named.index(pair[0]) if pair[0] in named else len(named))
        parts = [self.image(data) for _, data in ordered]
        plain = PLACEHOLDER.sub(" ", text or "").strip()
        if plain or not parts:
            parts.append(self.text(plain))
        return unit(sum((ORDER_DECAY**place * part for place, part in enumerate(parts)), np.zeros_like(parts[0])))

    def image_outline(self, data: bytes) -> tuple[str, int, int]:
        """FFmpeg's name of an image's codec, its width and height; raises UndecodableMedia."""
        return still_outline(data)

    def duration_sec(self, source: Source) -> float:
        """The duration of a video or audio file; raises UndecodableMedia."""
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
        """Embed a "video" or "audio" file: rows for clips by time, with options in the given order, then for the asset.

        `fused` adds rows for an option of that name, and `separate=False` returns only those. Options without a stream
        (the audio of a silent video) have no rows. Raises UndecodableMedia if the file has no stream for `kind`, and
        ValueError for an empty range.
        """
        streams = outline(source)
        if not (streams.has_video if kind == "video" else streams.has_audio):
            raise UndecodableMedia(f"no {kind} stream found")
        last_sec = min(math.inf if end_sec is None else end_sec, streams.duration_sec)
        if not 0 <= start_sec < last_sec:
            raise ValueError(f"The range {start_sec} to {last_sec} s is empty.")
        available = [option for option in options if _has_stream(option, kind, streams)]
        footage = footage_of(source, start_sec, last_sec, available, kind, fixed_sec)
        segmentation = Segmentation(fixed_sec, min_clip_sec)
        segments = segmentation.segments(kind, start_sec, last_sec, cuts(footage.video.jumps))
        clips = [
            Row(vector, option, "clip", first, last)
            for first, last in segments
            for option, vector in self._vectors(footage, available, first, last, fused).items()
        ]
        assets = _assets(clips, start_sec, last_sec)
        rows = [*(clips if "clip" in scopes else ()), *(assets if "asset" in scopes else ())]
        return [row for row in rows if separate or row.option == "fused"]

    def visual(self, footage: "Footage", start_sec: float, end_sec: float) -> Array:
        """The visual vector of a part of a video."""
        return self._vector(footage, "visual", start_sec, end_sec)

    def _vectors(
        self, footage: "Footage", options: Sequence[str], start_sec: float, end_sec: float, fused: bool
    ) -> Mapping[str, Array]:
        """The vectors of one segment, by option."""
        vectors = {option: self._vector(footage, option, start_sec, end_sec) for option in options}
        if fused and vectors:
            vectors["fused"] = unit(_weighted(vectors))
        return vectors

    def _vector(self, footage: "Footage", option: str, start_sec: float, end_sec: float) -> Array:
        if option in VISUAL:
            return self._visual(footage.video.features(start_sec, end_sec), option)
        if option == "audio":
            attributes = footage.audio.attributes(start_sec, end_sec)
            return pack(self._layout, attributes=attributes, track="sound")
        return self._speech(footage.transcript(start_sec, end_sec))

    def _visual(self, features: VisualFeatures, option: str) -> Array:
        """Marengo 2.7 has two visual vectors: visual-text for text queries, visual-image for images and text."""
        return pack(
            self._layout,
            semantic=features.semantic,
            attributes=features.attributes,
            appearance=None if option == "visual-text" else appearance(features.network, self._layout.appearance),
            share=features.confidence,
        )

    def _speech(self, transcript: str) -> Array:
        if not transcript.strip():
            return pack(self._layout, track="speech")
        return pack(
            self._layout,
            semantic=words.semantic(transcript),
            words=words.hashed_words(transcript, self._layout.words),
            share=SPEECH_SHARE,
            track="speech",
        )


@dataclass(slots=True)
class Footage:
    """The result of one pass over a file."""

    video: VideoAnalyzer
    audio: AudioAnalyzer = field(default_factory=AudioAnalyzer)
    captions: list[Caption] = field(default_factory=list)

    def consume(self, events: Iterable[Picture | Sound | Caption]) -> None:
        """Add everything that was decoded."""
        for event in events:
            match event:
                case Picture():
                    self.video.add(event)
                case Sound():
                    self.audio.add(event)
                case Caption():
                    self.captions.append(event)

    def transcript(self, start_sec: float, end_sec: float) -> str:
        """The captions of a range as one text."""
        return " ".join(c.words for c in self.captions if c.start_sec < end_sec and c.end_sec > start_sec)


def footage_of(
    source: Source, start_sec: float, end_sec: float, options: Sequence[str], kind: str, fixed_sec: float | None
) -> Footage:
    """Decode what the options need of a range, in one pass; raises UndecodableMedia if a video has no frame there."""
    footage = Footage(VideoAnalyzer(min(KEYFRAME_SEC, fixed_sec or KEYFRAME_SEC)))
    # Shot detection needs the frames even if no visual option is requested.
    video = kind == "video" and (fixed_sec is None or any(option in VISUAL for option in options))
    footage.consume(
        play(
            source,
            start_sec,
            end_sec,
            video=video,
            audio="audio" in options,
            captions="transcription" in options,
        )
    )
    if video and not footage.video.keyframes:
        raise UndecodableMedia("the video stream has no frame in that range")
    return footage


def _has_stream(option: str, kind: str, streams: Outline) -> bool:
    if option in VISUAL:
        return kind == "video"
    if option in AUDIBLE:
        return streams.has_audio
    raise ValueError(f"option {option!r} is not supported. Use one of {sorted(VISUAL | AUDIBLE)}.")


def _weighted(vectors: Mapping[str, Array]) -> Array:
    shares = [FUSED_WEIGHTS.get(option, 0.0) for option in vectors]
    mixed: Array = np.average(list(vectors.values()), axis=0, weights=shares).astype(np.float32)
    return mixed


def _assets(clips: Sequence[Row], start_sec: float, end_sec: float) -> list[Row]:
    """One row per option for the whole range: the mean of its clips."""
    by_option: dict[str, list[Array]] = {}
    for row in clips:
        by_option.setdefault(row.option, []).append(row.vector)
    return [
        Row(unit(np.mean(vectors, 0)), option, "asset", start_sec, end_sec) for option, vectors in by_option.items()
    ]
