"""What is seen in a video, in words: the names of what the content model recognizes, colors, light, motion, sound."""

from functools import cache
from typing import Any, BinaryIO, Final

import numpy as np

from marengo_local.content.cuts import Segmentation, cuts
from marengo_local.content.media import UndecodableMedia, outline
from marengo_local.content.model import ContentModel, Footage, Row, footage_of
from marengo_local.content.space import COLOURS, HEARD, NAMED, SEEN, Array
from marengo_local.content.vision import Keyframe
from marengo_local.content.weights import lines

MOST_NAMES: Final = 3
# A class that the network gives less is a guess.
LEAST_PROBABILITY: Final = 0.08
LEAST_COLOUR: Final = 0.35
LEAST_SHARE: Final = 0.3


def describe(
    model: ContentModel, source: BinaryIO, start_sec: float, end_sec: float | None
) -> tuple[list[dict[str, Any]], list[Row]]:
    """The scenes of a range of a video, and a visual vector for each; raises UndecodableMedia.

    A scene has start_sec, end_sec, `names`, most likely first, and its `looks`: colors, light and motion. `sounds` are
    empty for a video without sound.
    """
    streams = outline(source)
    if not streams.has_video:
        raise UndecodableMedia("no video stream found")
    last_sec = min(streams.duration_sec, np.inf if end_sec is None else end_sec)
    options = ["visual", *(["audio"] if streams.has_audio else [])]
    footage = footage_of(source, start_sec, last_sec, options, "video", None)
    edges = Segmentation().segments("video", start_sec, last_sec, cuts(footage.video.jumps))
    scenes = [_scene(footage, first, last, streams.has_audio) for first, last in edges]
    rows = [Row(model.visual(footage, first, last), "visual", "clip", first, last) for first, last in edges]
    return scenes, rows


def _scene(footage: Footage, start_sec: float, end_sec: float, has_audio: bool) -> dict[str, Any]:
    seen = footage.video.features(start_sec, end_sec).attributes
    heard = footage.audio.attributes(start_sec, end_sec) if has_audio else None
    return {
        "start_sec": round(start_sec, 3),
        "end_sec": round(end_sec, 3),
        "names": _names(footage.video.within(start_sec, end_sec)),
        "looks": [name for name in SEEN if seen[NAMED[name]] >= (LEAST_COLOUR if name in COLOURS else LEAST_SHARE)],
        "sounds": [] if heard is None else [name for name in HEARD if heard[NAMED[name]] >= LEAST_SHARE],
    }


def _names(keyframes: list[Keyframe]) -> list[str]:
    probabilities: Array = np.mean([k.probabilities.astype(np.float32) for k in keyframes], 0)
    likely = np.argsort(-probabilities)[:MOST_NAMES]
    return list(dict.fromkeys(_classes()[place] for place in likely if probabilities[place] >= LEAST_PROBABILITY))


@cache
def _classes() -> list[str]:
    return lines("img_l")
