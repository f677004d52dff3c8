"""How fast the stand-in embeds one minute of 720p video with default segmentation on one core.

    python benchmarks/indexing.py

The video is generated from the reel's photos: shots of 3 to 9 s that pan, with grain and sound.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

# Set before numpy starts its threads.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
if CORE is not None:
    os.sched_setaffinity(0, {CORE})

import av  # noqa: E402
import numpy as np  # noqa: E402

from marengo_local import reel  # noqa: E402
from marengo_local.content import ContentModel  # noqa: E402

WIDTH, HEIGHT, FPS, LENGTH_SEC = 1280, 720, 25, 60
SHOTS_SEC = (5.0, 9.0, 3.0, 7.0, 6.0, 8.0, 4.0, 9.0, 9.0)
SOUND_HZ = 48_000


def photos():
    folder = Path(reel.__file__).parent
    for file in sorted(folder.glob("*.jpg")):
        with av.open(str(file)) as container:
            frame = next(container.decode(video=0))
            # Larger than the video, to leave room for panning.
            yield frame.reformat(width=1600, height=900, format="rgb24").to_ndarray()


def frames(random):
    pictures = list(photos())
    grain = random.integers(-8, 9, (HEIGHT + 64, WIDTH + 64, 1), dtype=np.int16)
    for shot, length_sec in enumerate(SHOTS_SEC):
        picture = pictures[shot % len(pictures)].astype(np.int16)
        count = round(length_sec * FPS)
        for place in range(count):
            left, top = int(300 * place / count), int(170 * place / count)
            x, y = random.integers(0, 64, 2)
            part = picture[top : top + HEIGHT, left : left + WIDTH] + grain[y : y + HEIGHT, x : x + WIDTH]
            yield np.clip(part, 0, 255).astype(np.uint8)


def write(path):
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "bf": "3"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = film.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for pixels in frames(random):
            film.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(video.encode(None))
        noise = (0.1 * random.standard_normal(LENGTH_SEC * SOUND_HZ)).astype(np.float32)
        for first in range(0, len(noise), 1024):
            sound = av.AudioFrame.from_ndarray(noise[None, first : first + 1024], format="fltp", layout="mono")
            sound.sample_rate, sound.pts = SOUND_HZ, first
            film.mux(audio.encode(sound))
        film.mux(audio.encode(None))


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write(path)
        megabits = path.stat().st_size * 8 / LENGTH_SEC / 1e6
        model = ContentModel(512)
        started = time.perf_counter()
        rows = model.media("video", path, options=["visual", "audio", "transcription"], scopes=["clip", "asset"])
        seconds = time.perf_counter() - started
    core = "one core" if CORE is not None else "all cores (pinning is not supported here)"
    print(f"{LENGTH_SEC} s of {WIDTH}x{HEIGHT} at {FPS} frames/s, {megabits:.1f} Mbit/s, {core}")
    print(f"{seconds:.2f} s, {LENGTH_SEC / seconds:.1f} times real time, {len(rows)} rows")


if __name__ == "__main__":
    sys.exit(main())
