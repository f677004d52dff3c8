"""What of a file can be heard, and in which format it is.

The words are those of its subtitle track. Of the package's own reel, they are its captions, which no one speaks in it.
"""

import math
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from marengo_local import reel
from marengo_local.content.media import MEDIA_FORMATS, Caption, first_streams, opened, outline, play

# FFmpeg's names of a container -> Amazon Transcribe's; what is missing keeps its name.
FORMATS: Final = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "mkv"}
READABLE: Final = f"{MEDIA_FORMATS},amr"
REEL_TOLERANCE_SEC: Final = 0.5
WEBM: Final = b"\x42\x82\x84webm"


@dataclass(frozen=True, slots=True)
class Heard:
    """A file's format, length and sound; `words` are (start_sec, end_sec, text)."""

    format: str
    duration_sec: float
    sample_rate_hz: int | None = None
    words: list[tuple[float, float, str]] = field(default_factory=list)


def listen(file: BinaryIO) -> Heard:
    """Read the header of a media file, and its subtitles; raises UndecodableMedia. Without sound, it has no rate."""
    with opened(file, READABLE) as container:
        name = FORMATS.get(container.format.name, container.format.name)
        brand, title = (container.metadata.get(tag, "") for tag in ("major_brand", "title"))
        _, sound, subtitles = first_streams(container)
        rate = sound.codec_context.sample_rate if sound is not None else None
    file.seek(0)
    if name == "mkv" and WEBM in file.read(4096):
        name = "webm"
    if name == "mp4" and brand == "qt  ":
        name = "mov"
    duration_sec = outline(file, READABLE).duration_sec
    scenes = reel.scenes()
    if title == reel.TITLE and abs(duration_sec - scenes[-1].end_sec) < REEL_TOLERANCE_SEC:
        return Heard(name, duration_sec, rate, [(scene.start_sec, scene.end_sec, scene.holds) for scene in scenes])
    heard = rate is not None and subtitles is not None
    captions: Any = play(file, 0.0, math.inf, video=False, audio=False, captions=True) if heard else ()
    words = [(c.start_sec, c.end_sec, c.words) for c in captions if isinstance(c, Caption)]
    return Heard(name, duration_sec, rate, words)
