"""Frames and clips: the right picture for a time, of any file, and nothing else opened."""

import io
import random
import struct
import subprocess
import sys
import threading
import wave
import zlib
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, MarengoError, Media, ServiceError
from bedrock_marengo.media.containers import BLOCK_BYTES
from bedrock_marengo.media.durations import duration_of
from marengo_local import Fault

from ..films import HZ, beeps_in, film, frames_in, number_in, pixels_in, sound_in

film = cache(film)

FORMS = {
    "mp4": {},
    "mp4 without b-frames": {"b_frames": 0},
    "mp4 without sound": {"audio": None},
    "mov": {"format": "mov"},
    "mpeg-ts that begins at 10 s": {"format": "mpegts", "start_sec": 10.0},
    "mpeg-ts with few key frames": {"format": "mpegts", "gop": 100, "start_sec": 3.0},
    "matroska": {"format": "matroska", "audio": "libopus"},
    "webm": {"format": "webm", "video": "libvpx", "audio": "libopus"},
    "avi": {"format": "avi", "video": "mpeg4", "audio": "mp2"},
    "flv": {"format": "flv"},
    "old flv, its sound before its picture": {"format": "flv", "video": "flv"},
    "old flv that begins at 1 s": {"format": "flv", "video": "flv", "start_sec": 1.0},
    "old flv without sound": {"format": "flv", "video": "flv", "audio": None},
    "60 fps": {"fps": 60, "seconds": 4.0},
    "a rate that varies": {"times": (0, 0.04, 0.5, 1.6, 1.7, 3.5), "b_frames": 0},
}
CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def video(**settings):
    return Media.from_bytes(film(**settings), "video")


@cache
def begins_in(data):
    """When each of a film's frames begins, counted from its start."""
    with av.open(io.BytesIO(data)) as container:
        start_sec = (container.start_time or 0) / 1_000_000
        return [frame.time - start_sec for frame in container.decode(video=0)]


def shown_at(data, time):
    """The number of the frame that a player shows."""
    return max((number for number, begins in enumerate(begins_in(data)) if begins <= time + 0.0005), default=0)


def in_corners(width, height):
    """A picture whose corners are red, green, blue, white."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = CORNERS["red"], CORNERS["green"]
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = CORNERS["blue"], CORNERS["white"]
    return pixels


def corners_of(pixels):
    """The colours of a picture's corners, row by row."""
    high, wide, _ = pixels.shape
    places = [
        (high // 4, wide // 4),
        (high // 4, 3 * wide // 4),
        (3 * high // 4, wide // 4),
        (3 * high // 4, 3 * wide // 4),
    ]
    return " ".join(
        min(CORNERS, key=lambda name: np.abs(pixels[place] - np.array(CORNERS[name])).sum()) for place in places
    )


# EXIF's orientations: what is shown, and the display matrix that says the same.
ORIENTATIONS = {
    1: ("red green blue white", (1, 0, 0, 1)),
    2: ("green red white blue", (-1, 0, 0, 1)),
    3: ("white blue green red", (-1, 0, 0, -1)),
    4: ("blue white red green", (1, 0, 0, -1)),
    5: ("red blue green white", (0, 1, 1, 0)),
    6: ("blue red white green", (0, 1, -1, 0)),
    7: ("white green blue red", (0, -1, -1, 0)),
    8: ("green white red blue", (0, -1, 1, 0)),
}


def turned(data, matrix):
    """An mp4 whose picture is to be turned when shown, as phones write them."""
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 44
    return data[:at] + struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30) + data[at + 36 :]


def photograph(client, form, order, orientation):
    """A JPEG or PNG with an EXIF orientation in either byte order, after another tag and a comment."""
    tag = struct.pack(f"{order}HHI", 0x0112, 3, 1) + struct.pack(f"{order}HH", orientation, 0)
    other = struct.pack(f"{order}HHII", 0x0100, 4, 1, 160)
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2) + other + tag + bytes(4)
    pixels = in_corners(160, 96)
    if form == "jpeg":
        [jpeg] = client.frames(video(seconds=1.0, audio=None, pictures=lambda number: pixels), [0])
        exif = b"Exif\0\0" + tiff
        head = b"\xff\xd8\xff\xfe\0\x05abc\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
        return head + jpeg[2:]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 160, 96, 8, 2, 0, 0, 0)) + chunk(b"eXIf", tiff)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def server():
    """Listens on loopback, and notes what it is asked for."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.asked = asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class TestFrames:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_frame_is_what_a_player_shows_at_a_time(self, client, form):
        data = film(**FORMS[form])
        times = [0, 0.02, 1.0, 1.999, 2.0, 2.6, 3.5, 3.97]
        found = client.frames(Media.from_bytes(data, "video"), times)
        assert [number_in(pixels_in(jpeg)) for jpeg in found] == [shown_at(data, time) for time in times]

    @pytest.mark.parametrize("form", FORMS)
    def test_past_the_end_it_is_the_last_frame(self, client, form):
        data = film(**FORMS[form])
        [jpeg] = client.frames(Media.from_bytes(data, "video"), [1000])
        assert number_in(pixels_in(jpeg)) == len(begins_in(data)) - 1

    def test_in_the_order_asked_and_as_often(self, client):
        found = client.frames(video(), [3, 1, 2.0, 1, np.float32(3)])
        assert [number_in(pixels_in(jpeg)) for jpeg in found] == [75, 25, 50, 25, 75]

    def test_none_is_asked_for(self, client):
        assert client.frames(video(), []) == []

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_a_phones_film_is_upright(self, client, orientation):
        corners, matrix = ORIENTATIONS[orientation]
        plain = film(seconds=1.0, audio=None, pictures=lambda number: in_corners(160, 96))
        media = Media.from_bytes(turned(plain, matrix), "video")
        size = (96, 160, 3) if orientation < 5 else (160, 96, 3)
        for pixels in (pixels_in(client.frames(media, [0.5])[0]), frames_in(client.clip(media, 0.2, 0.8))[0][1]):
            assert pixels.shape == size
            assert corners_of(pixels) == corners
        [small] = client.frames(media, [0.5], width=48)
        assert pixels_in(small).shape[1] == 48

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("form", ["jpeg", "png"])
    def test_a_photograph_is_upright(self, client, local, form, order, orientation):
        data = photograph(client, form, order, orientation)
        for source in (Media.from_bytes(data), local.put(data, f"photo.{form}")):
            pixels = pixels_in(client.frames(source, [0])[0])
            assert pixels.shape == ((96, 160, 3) if orientation < 5 else (160, 96, 3))
            assert corners_of(pixels) == ORIENTATIONS[orientation][0]
            assert pixels_in(client.frames(source, [0], width=48)[0]).shape[1] == 48

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_a_photograph_whose_orientation_is_damaged_is_shown_as_it_is(self, client, orientation):
        whole = photograph(client, "jpeg", "<", orientation)
        for data in (whole, whole.replace(b"II*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff")):
            assert corners_of(pixels_in(client.frames(Media.from_bytes(data), [0])[0])) == ORIENTATIONS[1][0]

    def test_pixels_that_are_not_square_are_made_so(self, client):
        media = Media.from_bytes(film(seconds=1.0, aspect=Fraction(4, 3)), "video")
        assert pixels_in(client.frames(media, [0])[0]).shape == (96, 212, 3)
        assert frames_in(client.clip(media, 0, 1))[0][1].shape == (96, 212, 3)

    def test_colours_stay_what_they_are(self, client):
        media = Media.from_bytes(film(seconds=1.0, audio=None, pictures=lambda number: in_corners(160, 96)), "video")
        for pixels in (pixels_in(client.frames(media, [0.5])[0]), frames_in(client.clip(media, 0.2, 0.8))[0][1]):
            assert np.abs(pixels[24, 40] - np.array(CORNERS["red"])).max() < 8
            assert np.abs(pixels[72, 120] - np.array(CORNERS["white"])).max() < 8

    @pytest.mark.parametrize(("width", "size"), [(16, (10, 16)), (35, (20, 34)), (100, (60, 100)), (512, (96, 160))])
    def test_as_wide_as_asked_at_most(self, client, width, size):
        assert pixels_in(client.frames(video(), [0], width=width)[0]).shape[:2] == size
        assert frames_in(client.clip(video(), 0, 0.5, width=width))[0][1].shape[:2] == size

    def test_an_image_is_the_same_at_any_time(self, client, png):
        media = Media.from_bytes(png(shade=120, side=129))
        first, second, third = client.frames(media, [0, 7.5, 3])
        assert first == second == third
        assert np.abs(pixels_in(first).astype(int) - 120).max() < 3

    def test_an_image_in_a_file_is_no_series_of_images(self, client, png, tmp_path):
        (tmp_path / "still%02d.png").write_bytes(png(shade=200))
        (tmp_path / "still01.png").write_bytes(png(shade=0))
        [jpeg] = client.frames(tmp_path / "still%02d.png", [0])
        assert pixels_in(jpeg).mean() > 190

    def test_an_image_that_would_fill_the_memory_is_refused(self, client):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
        with pytest.raises(InputError, match="bytes of image"):
            client.frames(Media.from_bytes(bomb), [0])

    async def test_for_asyncio(self, client):
        [jpeg] = await client.aframes(video(), [2.0])
        assert number_in(pixels_in(jpeg)) == 50
        assert number_in(frames_in(await client.aclip(video(), 2.0, 2.5))[0][1]) == 50


class TestClips:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_clip_begins_at_its_moment_and_lasts_as_long(self, client, form):
        data = film(**FORMS[form])
        clip = client.clip(Media.from_bytes(data, "video"), 1.5, 3.0)
        frames = frames_in(clip)
        assert frames[0][0] == 0.0
        assert number_in(frames[0][1]) == shown_at(data, 1.5)
        assert number_in(frames[-1][1]) in (shown_at(data, 2.97), shown_at(data, 2.99))
        with av.open(io.BytesIO(clip)) as container:
            assert container.duration / 1_000_000 == pytest.approx(1.5, abs=0.05)

    @pytest.mark.parametrize("form", [form for form in FORMS if "sound" not in form])
    def test_its_sound_comes_with_its_picture(self, client, form):
        data = film(**FORMS[form])
        clip = client.clip(Media.from_bytes(data, "video"), 1.5, 3.0)
        heard = beeps_in(sound_in(clip))[0]
        assert heard == pytest.approx(beeps_in(sound_in(data))[2] - 1.5, abs=0.05)
        if "varies" not in form:
            shown = [number_in(pixels) for begins, pixels in frames_in(clip) if begins <= heard + 0.001][-1]
            fps = FORMS[form].get("fps", 25)
            assert shown == pytest.approx(2 * fps, abs=0.05 * fps)

    def test_a_picture_that_stands_still_is_shown_all_along(self, client):
        slides = video(times=(0, 2.0, 6.0), seconds=8.0, fps=5, b_frames=0)
        clip = client.clip(slides, 3.0, 5.0)
        assert [number_in(pixels) for _, pixels in frames_in(clip)] == [1]
        with av.open(io.BytesIO(clip)) as container:
            assert container.streams.video[0].duration * container.streams.video[0].time_base == 2

    def test_60_pictures_a_second_are_too_many_for_a_thumbnail(self, client):
        assert 28 <= len(frames_in(client.clip(video(fps=60), 1, 2))) <= 31

    def test_sound_alone(self, client):
        clip = client.clip(Media.from_bytes(film(video=None), "audio"), 0.5, 2.5)
        with av.open(io.BytesIO(clip)) as container:
            # VS Code has no AAC.
            assert [stream.codec_context.name for stream in container.streams] == ["mp3float"]
        assert beeps_in(sound_in(clip)) == pytest.approx([0.5, 1.5], abs=0.05)

    @pytest.mark.parametrize(("channels", "kept"), [(1, 1), (2, 2), (6, 2)])
    def test_mono_stays_mono_in_half_the_bytes(self, client, channels, kept):
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setparams((channels, 2, HZ, 0, "NONE", ""))
            sound.writeframes(np.random.default_rng(0).integers(-9000, 9000, 4 * HZ * channels).astype("<i2").tobytes())
        clip = client.clip(Media.from_bytes(file.getvalue(), "audio"), 0, 4)
        with av.open(io.BytesIO(clip)) as container:
            assert container.streams.audio[0].codec_context.layout.nb_channels == kept
        assert len(clip) == pytest.approx(4 * 6_000 * kept, rel=0.15)

    @pytest.mark.parametrize("form", ["mp3", "mp4"])
    def test_a_cover_is_no_picture(self, client, form):
        media = Media.from_bytes(with_cover(form), "audio")
        with av.open(io.BytesIO(client.clip(media, 0, 2))) as container:
            assert [stream.type for stream in container.streams] == ["audio"]
        with pytest.raises(InputError, match="has no video track"):
            client.frames(media, [0])

    def test_up_to_the_end_if_that_comes_first(self, client):
        clip = client.clip(video(), 3.0, 1000)
        with av.open(io.BytesIO(clip)) as container:
            assert container.duration / 1_000_000 == pytest.approx(1.0, abs=0.05)

    def test_sound_that_ends_early_does_not_have_the_rest_read(self, client, local):
        noise = np.random.default_rng(0).integers(0, 255, (100, 180, 320, 3), np.uint8)
        data = film(
            seconds=0.5,
            times=tuple(n / 12.5 for n in range(100)),
            width=320,
            height=180,
            crf=8,
            pictures=noise.__getitem__,
        )
        uri = local.put(data, "long.mp4")
        assert len(frames_in(client.clip(uri, 0.8, 1.6))) == 10
        assert local.calls["s3:GetObject"] * BLOCK_BYTES < 0.6 * len(data)

    @pytest.mark.parametrize(("start_sec", "end_sec"), [(9, 12), (4.5, 4.6)])
    @pytest.mark.parametrize("form", ["mp4", "mpeg-ts that begins at 10 s", "mp4 without sound"])
    def test_nothing_lies_past_the_end(self, client, form, start_sec, end_sec):
        with pytest.raises(InputError, match="has nothing from"):
            client.clip(video(**FORMS[form]), start_sec, end_sec)

    @pytest.mark.parametrize(
        ("start_sec", "end_sec", "said"),
        [
            (2, 2, "from 2 to 2 s is empty"),
            (2, 1, "from 2 to 1 s is empty"),
            (-1, 2, "-1 is not a time"),
            (0, float("inf"), "inf is not a time"),
            (float("nan"), 1, "nan is not a time"),
            ("0", 1, "'0' is not a time"),
        ],
    )
    def test_times_that_make_no_clip_are_refused(self, client, local, start_sec, end_sec, said):
        with pytest.raises(InputError, match=said):
            client.clip(f"s3://{local.bucket}/gone.mp4", start_sec, end_sec)

    def test_an_image_has_no_clip(self, client, png):
        with pytest.raises(InputError, match="is an image, which has no clips"):
            client.clip(Media.from_bytes(png()), 0, 1)


class TestRefused:
    @pytest.mark.parametrize("width", [0, 15, 4097, 320.0, "320", True, None])
    def test_widths(self, client, width):
        with pytest.raises(InputError, match="16 to 4096 pixels"):
            client.frames(video(), [0], width=width)
        with pytest.raises(InputError, match="16 to 4096 pixels"):
            client.clip(video(), 0, 1, width=width)

    @pytest.mark.parametrize("times", [3.0, "3", None, ["3"], [None], [-0.1], [1e300], [True]])
    def test_times(self, client, times):
        with pytest.raises(InputError, match=r"takes a list of times|is not a time"):
            client.frames(video(), times)

    def test_sound_has_no_frames(self, client):
        with pytest.raises(InputError, match="has no video track to take a frame from"):
            client.frames(Media.from_bytes(film(video=None), "audio"), [0])

    def test_what_is_no_film(self, client):
        for data in (b"hello", b"\0" * 5000, b"<html></html>" * 100, film()[:600]):
            with pytest.raises(InputError, match=r"bytes of video can't be decoded"):
                client.frames(Media.from_bytes(data, "video"), [0])

    def test_a_file_that_may_not_be_read(self, client, tmp_path):
        media = Media.from_path(tmp_path / "match.mp4") if (tmp_path / "match.mp4").write_bytes(film()) else None
        (tmp_path / "match.mp4").unlink()
        with pytest.raises(InputError, match=r"match\.mp4"):
            client.frames(media, [0])

    def test_without_pyav_the_extra_is_named(self):
        result = subprocess.run([sys.executable, "-c", WITHOUT_PYAV], capture_output=True, text=True, check=True)
        needed = "Reading s3://bucket/match.mp4 needs PyAV: pip install 'bedrock-marengo[media]'."
        assert result.stdout.splitlines() == [needed] * 4


class TestDamagedFiles:
    def test_a_film_that_breaks_off_is_shown_as_far_as_it_goes(self, client):
        data = film(format="mpegts")
        media = Media.from_bytes(data[: len(data) // 2], "video")
        first, last = client.frames(media, [0.5, 3.5])
        assert number_in(pixels_in(first)) == shown_at(data, 0.5)
        assert 40 < number_in(pixels_in(last)) < 60

    def test_a_frame_that_is_damaged_is_passed_over(self, client):
        data = bytearray(film(gop=10, b_frames=0, audio=None, crf=1))
        with av.open(io.BytesIO(bytes(data))) as container:
            places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        at, size = places[42]
        data[at : at + size] = bytes(size)
        found = client.frames(Media.from_bytes(bytes(data), "video"), [1.0, 1.68, 2.4])
        assert [number_in(pixels_in(jpeg)) for jpeg in found] == [25, 41, 60]

    @pytest.mark.parametrize("form", [*FORMS, "sound", "wav", "jpeg"])
    def test_a_damaged_file_gives_pictures_or_an_error_of_ours(self, client, form):
        whole = {
            "sound": lambda: film(video=None),
            "wav": lambda: film(video=None, audio="pcm_s16le", format="wav"),
            "jpeg": lambda: client.frames(video(), [0])[0],
        }.get(form, lambda: film(**FORMS[form]))()
        luck = random.Random(form)
        for _ in range(4):
            damaged = bytearray(whole)
            for _ in range(luck.choice([1, 5, 50])):
                damaged[luck.randrange(min(len(whole), 2000))] = luck.randrange(256)
                damaged[luck.randrange(len(whole))] = luck.randrange(256)
            media = Media.from_bytes(bytes(damaged[: luck.choice([None, len(whole) // 2])]), "video")
            for call in (client.frames, client.clip):
                try:
                    call(media, *(([0.5, 3.0],) if call == client.frames else (0.5, 1.0)))
                except MarengoError as error:
                    assert "bytes of video" in str(error)


class TestOnS3:
    def test_only_what_is_needed_is_read(self, client, local):
        noise = np.random.default_rng(0).integers(0, 255, (100, 270, 480, 3), np.uint8)
        uri = local.put(film(width=480, height=270, gop=5, crf=8, pictures=noise.__getitem__), "big.mp4")
        size = local.s3.head_object(Bucket=local.bucket, Key="big.mp4")["ContentLength"]
        assert size > 20 * BLOCK_BYTES
        local.calls.reset()
        assert len(client.frames(uri, [2.0])) == 1
        assert local.calls["s3:GetObject"] * BLOCK_BYTES < size / 4
        assert local.calls["s3:HeadObject"] == local.calls["s3:ListObjectsV2"] == 0
        local.calls.reset()
        client.clip(uri, 2.0, 2.4)
        assert local.calls["s3:GetObject"] * BLOCK_BYTES < size

    @pytest.mark.parametrize("form", ["mp4", "mpeg-ts that begins at 10 s", "webm"])
    def test_it_is_the_same_as_from_a_file(self, client, local, form):
        data = film(**FORMS[form])
        uri = local.put(data, "match.mp4")
        assert client.frames(uri, [0, 2.5]) == client.frames(Media.from_bytes(data, "video"), [0, 2.5])
        remote, here = (frames_in(client.clip(source, 1, 2)) for source in (uri, Media.from_bytes(data, "video")))
        assert [(begins, number_in(pixels)) for begins, pixels in remote] == [(b, number_in(p)) for b, p in here]

    def test_a_key_with_anything_in_it(self, client, local):
        uri = local.put(film(), "a b#?%25é/match 1.mp4")
        assert number_in(pixels_in(client.frames(uri, [2])[0])) == 50

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (None, "NoSuchKey"),
            (Fault("s3:GetObject", error="AccessDenied"), r"AccessDenied.*s3:GetObject"),
        ],
    )
    @pytest.mark.parametrize("call", [lambda c, uri: c.frames(uri, [0]), lambda c, uri: c.clip(uri, 0, 1)])
    def test_what_s3_would_not_give(self, client, local, fault, said, call):
        uri = local.put(film(), "match.mp4")
        if fault is None:
            local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
        else:
            local.faults = [fault]
        with pytest.raises(ServiceError, match=rf"(?s)GetObject for s3://.*match\.mp4.*{said}"):
            call(client, uri)

    def test_access_that_is_lost_in_the_middle(self, client, local):
        noise = np.random.default_rng(0).integers(0, 255, (25, 270, 480, 3), np.uint8)
        uri = local.put(film(seconds=1, width=480, height=270, crf=8, pictures=noise.__getitem__), "match.mp4")
        local.faults = [Fault("s3:GetObject", error="AccessDenied", when=lambda call: call.number > 3)]
        with pytest.raises(ServiceError, match="AccessDenied"):
            client.clip(uri, 0, 1)

    def test_a_reply_that_breaks_off_is_asked_for_again(self, client, local):
        uri = local.put(film(), "match.mp4")
        local.faults = [Fault("s3:GetObject", drop="mid-body", times=1)]
        assert number_in(pixels_in(client.frames(uri, [2])[0])) == 50

    def test_an_empty_object(self, client, local):
        uri = local.put(b"", "empty.mp4")
        with pytest.raises(MarengoError, match=r"empty\.mp4"):
            client.frames(uri, [0])

    def test_no_region_is_no_fault_of_the_medium(self, monkeypatch):
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        with pytest.raises(ConfigurationError, match="region"):
            MarengoClient().frames("s3://bucket/match.mp4", [0])


class TestNothingElseIsOpened:
    """A file may call itself match.mp4 and be a list of other files, of this machine or of its network."""

    @pytest.fixture
    def lists(self, server, tmp_path):
        secret = tmp_path / "secret.ts"
        secret.write_bytes(film(format="mpegts", audio=None))
        http = f"http://127.0.0.1:{server.server_port}/secret.ts"
        made = {}
        for place in (secret, f"file:{secret}", secret.name, http, f"crypto+{http}", f"concat:{secret}", "data:,x"):
            made[f"hls {place}"] = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{place}\n#EXT-X-ENDLIST\n"
            made[f"concat {place}"] = f"ffconcat version 1.0\nfile '{place}'\n"
            made[f"dash {place}"] = DASH.format(place=place)
        made["sdp"] = SDP.format(port=server.server_port)
        return made

    def test_without_our_care_they_would_be(self, lists, tmp_path):
        (tmp_path / "match.mp4").write_text(lists["concat secret.ts"])
        with av.open(str(tmp_path / "match.mp4")) as container:
            assert number_in(next(container.decode(video=0)).to_ndarray(format="rgb24")) == 0

    @pytest.mark.parametrize("where", ["path", "bytes", "s3"])
    def test_no_list_is_followed(self, client, local, server, lists, tmp_path, where):
        for name, text in lists.items():
            media = {
                "path": lambda: Media.from_path(written(tmp_path / "match.mp4", text)),  # noqa: B023
                "bytes": lambda: Media.from_bytes(text.encode(), "video"),  # noqa: B023
                "s3": lambda: Media.from_s3(local.put(text.encode(), "match.mp4")),  # noqa: B023
            }[where]()
            with pytest.raises(InputError, match="can't be decoded"):
                client.frames(media, [0])
            with pytest.raises(InputError, match="can't be decoded"):
                client.clip(media, 0, 1)
            assert duration_of(client._runtime.objects, media) is None, name
        assert server.asked == []

    def test_nor_for_a_plan(self, client, local, server, lists):
        for number, text in enumerate(lists.values()):
            local.put(text.encode(), f"videos/{number}.mp4")
        plan = client.plan(f"s3://{local.bucket}/videos/")
        assert sum(plan.started.values()) == len(lists)
        assert server.asked == []


WITHOUT_PYAV = """
import importlib.util

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "av" else find_spec(name, *rest)

from bedrock_marengo import ConfigurationError, MarengoClient, Segment
from bedrock_marengo.search.prompt import moment_parts
from bedrock_marengo.search.results import results_from
from marengo_view import show

segment = Segment("s3://bucket/match.mp4", 0.0, 6.0, "visual", "clip", "3fa9c1d27b041e55")
client = MarengoClient(region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
for call in (
    lambda: client.frames(segment.source, [0]),
    lambda: client.clip(segment.source, 0, 1),
    lambda: moment_parts(client, results_from([segment])),
    lambda: show([segment], client),
):
    try:
        call()
    except ConfigurationError as error:
        print(error)
"""
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="1000" codecs="avc1.42c01e"><BaseURL>{place}</BaseURL><SegmentBase indexRange="0-1"/>
</Representation></AdaptationSet></Period></MPD>
"""
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=match
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP 96
a=rtpmap:96 H264/90000
"""


def written(path, text):
    path.write_text(text)
    return path


def with_cover(form):
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("libmp3lame" if form == "mp3" else "aac", rate=HZ, layout="mono")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(in_corners(64, 64), format="rgb24")))
        container.mux(cover.encode(None))
        for first in range(0, 3 * HZ, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = HZ, first, Fraction(1, HZ)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return file.getvalue()
