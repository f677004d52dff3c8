"""Video, sound and subtitles from small files made here."""

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from marengo_local import reel
from marengo_local.content import ContentModel, UndecodableMedia, vision
from marengo_local.content.listening import listen

OPTIONS = ["visual", "audio", "transcription"]
REEL = Path(reel.__file__).parent
CAPTIONS = [(1.0, 3.0, "the rocket is ready for launch"), (8.0, 10.0, "two coffees and a cake")]

# FFmpeg's mov_text encoder will not open without one, though the packets here are made by hand.
ASS_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\nFormat: Text\n"
)


def film(path, length_sec=12.0, *, sound=True, captions=(), fps=10):
    """Moving stripes; a tone from halfway on; mov_text captions (start, end, words)."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        words = container.add_stream("mov_text") if captions else None
        if words:
            words.time_base, words.codec_context.subtitle_header = Fraction(1, 1000), ASS_HEADER
        for place in range(round(length_sec * fps)):
            stripes = (np.arange(160) // 20 * 30 + place * 3) % 256
            pixels = np.broadcast_to(stripes[None, :, None], (120, 160, 3)).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(video.encode(None))
        if audio:
            times = np.arange(round(length_sec * 16_000)) / 16_000
            tone = np.where(times < length_sec / 2, 0, 0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
            for first in range(0, len(tone), 1024):
                frame = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16_000, first
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
        for start_sec, end_sec, text in captions:
            packet = av.Packet(len(text.encode()).to_bytes(2, "big") + text.encode())
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = round(start_sec * 1000)
            packet.duration = round((end_sec - start_sec) * 1000)
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def model():
    return ContentModel(512)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / "plain.mp4")


@pytest.fixture(scope="module")
def subtitled(tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / "subtitled.mp4", captions=CAPTIONS)


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / "silent.mp4", 6.0, sound=False)


def test_rows_are_complete_and_in_order(model, plain):
    rows = model.media("video", str(plain), options=OPTIONS, scopes=["clip", "asset"], fused=True, fixed_sec=5)
    edges = [(0, 5), (5, 10), (10, 12)]
    expected = [(o, "clip", *edge) for edge in edges for o in [*OPTIONS, "fused"]]
    expected += [(o, "asset", 0, 12) for o in [*OPTIONS, "fused"]]
    assert [(r.option, r.scope, r.start_sec, pytest.approx(r.end_sec, abs=0.1)) for r in rows] == expected
    assert all(row.vector.shape == (512,) and row.vector.dtype == np.float32 for row in rows)
    assert np.linalg.norm([row.vector for row in rows], axis=1) == pytest.approx(1, abs=1e-5)


def test_fused_alone(model, plain):
    rows = model.media("video", str(plain), options=OPTIONS, separate=False, fused=True, fixed_sec=6)
    assert [row.option for row in rows] == ["fused", "fused"]


def test_a_range_is_kept_on_the_media_clock(model, plain):
    rows = model.media("video", str(plain), options=["visual"], scopes=["asset", "clip"], start_sec=3, end_sec=9)
    assert [(row.scope, row.start_sec, row.end_sec) for row in rows] == [("clip", 3, 9), ("asset", 3, 9)]


def test_an_empty_range_is_refused(model, plain):
    with pytest.raises(ValueError, match=r"The range .* s is empty"):
        model.media("video", str(plain), options=["visual"], start_sec=50)


def test_files_and_paths_give_the_same_rows(model, plain):
    from_path = model.media("video", plain, options=OPTIONS)
    with plain.open("rb") as file:
        from_file = model.media("video", file, options=OPTIONS)
    assert [row.vector.tobytes() for row in from_path] == [row.vector.tobytes() for row in from_file]


def test_a_silent_video_has_no_audio_rows(model, silent):
    rows = model.media("video", silent, options=OPTIONS, fused=True)
    assert [row.option for row in rows] == ["visual", "fused"]
    assert rows[0].vector @ rows[1].vector == pytest.approx(1, abs=1e-5)


def test_marengo_2_7_has_two_visual_vectors(silent, plain):
    model = ContentModel(1024)
    options = ["visual-text", "visual-image", "audio"]
    assert [row.option for row in model.media("video", silent, options=options)] == options[:2]
    rows = model.media("video", plain, options=options, fixed_sec=10)
    assert [row.option for row in rows] == options * 2
    assert {row.vector.shape for row in rows} == {(1024,)}


def test_sound_is_measured_where_it_is(model, plain):
    rows = model.media("audio", plain, options=["audio"], fixed_sec=6)
    quiet, loud = (row.vector for row in rows)
    silence, tone = model.text("silence"), model.text("a loud tone")
    assert silence @ quiet > 0.1 > silence @ loud
    assert tone @ loud > 0.1 > tone @ quiet


def test_audio_is_divided_evenly(model, plain):
    rows = model.media("audio", plain, options=["audio", "transcription"], scopes=["clip", "asset"])
    expected = itertools.product(["clip", "asset"], ["audio", "transcription"])
    assert [(row.scope, row.option) for row in rows] == list(expected)


@pytest.mark.parametrize("text", ["a dog", "silence", "no words", "", "speech", "somebody is talking"])
def test_no_words_are_found_by_no_text(model, plain, text):
    (row,) = model.media("audio", plain, options=["transcription"], fixed_sec=20)
    assert abs(model.text(text) @ row.vector) < 1e-6


def test_subtitles_are_the_transcription(model, subtitled):
    rows = model.media("video", subtitled, options=["transcription"], fixed_sec=6)
    first, second = (row.vector for row in rows)
    rocket, coffee = model.text("a rocket launch"), model.text("coffee and cake")
    assert rocket @ first > rocket @ second + 0.1
    assert coffee @ second > coffee @ first + 0.1


def test_subtitles_are_what_is_heard(subtitled, silent):
    with subtitled.open("rb") as file:
        heard = listen(file)
    assert (heard.format, heard.sample_rate_hz, heard.words) == ("mp4", 16_000, CAPTIONS)
    with silent.open("rb") as file:
        assert listen(file).sample_rate_hz is None


def test_subtitles_of_matroska(model, tmp_path):
    srt = tmp_path / "words.srt"
    srt.write_text("1\n00:00:01,000 --> 00:00:03,000\nthe rocket is ready for launch\n\n")
    plain = film(tmp_path / "plain.mp4", 6.0)
    with av.open(str(tmp_path / "film.mkv"), "w") as new:
        sources = [av.open(str(file)) for file in (plain, srt)]
        targets = [{s.index: new.add_stream_from_template(s) for s in source.streams} for source in sources]
        for source, streams in zip(sources, targets, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    new.mux(packet)
            source.close()
    (row,) = model.media("video", tmp_path / "film.mkv", options=["transcription"])
    assert model.text("a rocket launch") @ row.vector > 0.2


def test_a_frame_finds_its_clip(model, tmp_path):
    path = tmp_path / "reel.mp4"
    rows = [
        (file.name, row.vector)
        for file in sorted(REEL.glob("*.mp4"))
        for row in model.media("video", file, options=["visual"], scopes=["asset"])
    ]
    for name, _ in rows:
        with av.open(str(REEL / name)) as container:
            frame = next(itertools.islice(container.decode(video=0), 30, None))
            frame.to_image().save(path.with_suffix(".png"))
        image = model.image(path.with_suffix(".png").read_bytes())
        assert max(rows, key=lambda row: image @ row[1])[0] == name


@pytest.fixture(scope="module")
def photos(model):
    return {name: model.image(path.read_bytes()) for name, path in reel.media().items() if path.suffix == ".jpg"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a pet", "cat.jpg"),
        ("furry animals", "cat.jpg"),
        ("a hot drink for breakfast", "coffee.jpg"),
        ("cups in a cafe", "coffee.jpg"),
        ("launch into space", "rocket.jpg"),
        ("somebody taking pictures", "photographer.jpg"),
        ("a starry night", "galaxies.jpg"),
    ],
)
def test_a_photo_is_found_by_its_kind_and_by_what_is_done_with_it(model, photos, text, name):
    query = model.text(text)
    assert max(photos, key=lambda photo: query @ photos[photo]) == name


@pytest.mark.parametrize(("place", "is_seen"), [(0.18, True), (0.02, False)])
def test_most_of_a_wide_picture_is_seen(place, is_seen):
    pixels = np.full((252, 448, 3), 90, np.uint8)
    plain, striped = (
        vision.analyze(av.VideoFrame.from_ndarray(p, format="rgb24")) for p in (pixels, _with_stripe(pixels, place))
    )
    assert np.array_equal(plain.features, striped.features) is not is_seen


def _with_stripe(pixels, place):
    striped = pixels.copy()
    striped[:, round(place * 448) :][:, :8] = (250, 40, 40)
    return striped


def test_images_are_deterministic_and_not_videos(model, plain):
    data = (REEL / "cat.jpg").read_bytes()
    assert model.image(data).tobytes() == ContentModel(512).image(data).tobytes()
    with pytest.raises(UndecodableMedia, match="not an image"):
        model.image(plain.read_bytes())
    with pytest.raises(UndecodableMedia):
        model.media("video", io.BytesIO(data), options=["visual"])


@pytest.mark.parametrize("data", [b"", b"no media at all", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40], ids=len)
def test_bytes_that_are_no_media(model, data):
    for call in (
        lambda: model.image(data),
        lambda: model.text_image("a cat", data),
        lambda: model.duration_sec(io.BytesIO(data)),
        lambda: model.media("audio", io.BytesIO(data), options=["audio"]),
    ):
        with pytest.raises(UndecodableMedia):
            call()


def test_a_cut_off_file(model, plain):
    with pytest.raises(UndecodableMedia):
        model.media("video", io.BytesIO(plain.read_bytes()[:3000]), options=["visual"])


def test_sound_asked_of_a_silent_video(model, silent):
    with pytest.raises(UndecodableMedia, match="audio"):
        model.media("audio", silent, options=["audio"])


def test_an_absent_file_is_not_undecodable(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.duration_sec(tmp_path / "absent.mp4")


def test_text_image_lies_between(model):
    data = (REEL / "cat.jpg").read_bytes()
    image, text, both = model.image(data), model.text("at night"), model.text_image("at night", data)
    assert min(both @ image, both @ text) > max(image @ text, 0.5)


def test_multi_input_takes_its_order_from_placeholders(model):
    cat, coffee = ((REEL / name).read_bytes() for name in ("cat.jpg", "coffee.jpg"))
    as_given = model.multi_input("<@a> beside <@b>", [("a", cat), ("b", coffee)])
    swapped = model.multi_input("<@a> beside <@b>", [("b", coffee), ("a", cat)])
    turned = model.multi_input("<@b> beside <@a>", [("a", cat), ("b", coffee)])
    assert as_given.tobytes() == swapped.tobytes()
    assert as_given.tobytes() != turned.tobytes()
    assert model.multi_input(None, [(None, cat)]) == pytest.approx(model.image(cat), abs=1e-6)
    assert model.multi_input("a cat", []) == pytest.approx(model.text("a cat"), abs=1e-6)


def test_duration(model, plain):
    assert model.duration_sec(plain) == pytest.approx(12, abs=0.1)
