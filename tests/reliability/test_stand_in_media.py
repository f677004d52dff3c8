"""Media that name other files, or that decode for hours or to gigabytes: only the bytes given are opened."""

import io
import resource
import struct
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from PIL import Image

from marengo_local import decoding
from marengo_local.content import ContentModel, UndecodableMedia

from ..films import film

pytestmark = [pytest.mark.slow, pytest.mark.promise("The stand-in opens only the bytes it is given, and not for long")]

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"
profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp2t"><Representation
id="1" bandwidth="1"><BaseURL>{}</BaseURL><SegmentList><Initialization sourceURL="{}"/><SegmentURL media="{}"/>
</SegmentList></Representation></AdaptationSet></Period></MPD>"""
LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "HLS": HLS,
    "DASH": DASH,
    "SMIL": '<smil><body><video src="{}"/></body></smil>',
    "ASX": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "M3U": "#EXTM3U\n{}\n",
    "PLS": "[playlist]\nFile1={}\n",
    "RTSP": "RTSPtext\nrtsp://{}\n",
    "AVISynth": 'DirectShowSource("{}")',
    "VobSub": "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
    "timestamp: 00:00:01:000, filepos: 000000000\n# {}\n",
    "IMF": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">{}'
    "</CompositionPlaylist>",
    "SVG": '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><image href="{}"/></svg>',
}
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 0.0.0.0\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"


@pytest.fixture
def secret(tmp_path, monkeypatch):
    (tmp_path / "secret.ts").write_bytes(film(seconds=6.0, format="mpegts", audio=None))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "secret.ts"


@pytest.fixture
def server(secret):
    """Serves the secret, and notes who asks."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(secret.read_bytes())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        server.asked = asked
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def model():
    return ContentModel(512)


@pytest.fixture
def failure_of(local):
    """What a job says of a file that it can't embed."""
    keys = {name: local.client_options[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=local.endpoint_url, **keys)
    local.synthetic_sec = None

    def failure_of(data, kind="video"):
        source = {"s3Location": {"uri": local.put(data, "match.mp4"), "bucketOwner": local.account_id}}
        arn = client.start_async_invoke(
            modelId="twelvelabs.marengo-embed-3-0-v1:0",
            modelInput={"inputType": kind, kind: {"mediaSource": source}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": local.output_s3_uri}},
        )["invocationArn"]
        while (job := client.get_async_invoke(invocationArn=arn))["status"] == "InProgress":
            time.sleep(0.05)
        return job.get("failureMessage")

    return failure_of


def places(secret, server):
    http = f"http://127.0.0.1:{server.server_port}/secret.ts"
    return (
        secret,
        f"file:{secret}",
        secret.name,
        http,
        f"crypto+{http}",
        f"concat:{secret}",
        f"subfile,,start,0:{secret}",
    )


@pytest.mark.parametrize("kind", LISTS)
def test_no_list_is_followed(model, secret, server, kind):
    for place in places(secret, server):
        data = LISTS[kind].replace("{}", str(place)).encode()
        for call in (
            lambda: model.duration_sec(io.BytesIO(data)),  # noqa: B023
            lambda: model.media("video", io.BytesIO(data), options=["visual"]),  # noqa: B023
            lambda: model.image(data),  # noqa: B023
            lambda: model.image_outline(data),  # noqa: B023
        ):
            with pytest.raises(UndecodableMedia):
                call()
    assert server.asked == []


def test_no_series_of_images_is_read(model, secret, tmp_path):
    for name in ("a%d.jpg", "a0.jpg", "a1.jpg"):
        Image.new("RGB", (128, 128)).save(tmp_path / name, "JPEG")
    for name in ("a%d.jpg", "a0.jpg"):
        with pytest.raises(UndecodableMedia):
            model.duration_sec(Path(name))


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_session_description_opens_no_port_and_does_not_wait(failure_of, model, kind):
    began = time.monotonic()
    with pytest.raises(UndecodableMedia):
        model.duration_sec(io.BytesIO(SDP))
    assert time.monotonic() - began < 5  # it waited for a minute
    assert "could not be decoded" in failure_of(SDP, kind)


def test_what_is_not_decoded_in_time_is_ended(failure_of, monkeypatch):
    monkeypatch.setattr(decoding, "_LEAST_SEC", 0.1)
    monkeypatch.setattr(decoding, "_BYTES_PER_SEC", 1e9)
    assert "The video could not be decoded: it takes longer than 0 s" in failure_of(film(seconds=5.0))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit a process's memory")
@pytest.mark.parametrize("samples", [10_000_000, 170_000_000])
def test_an_index_of_gigabytes_in_a_file_of_hundreds_of_bytes(failure_of, samples):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure_of(mp4_of(samples), "audio")  # a few bytes of it can be decoded
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 * 1024**2


def mp4_of(samples):
    """An MP4 whose tables, of a few bytes each, list many samples."""

    def box(kind, *parts):
        return struct.pack(">I4s", sum(map(len, parts)) + 8, kind) + b"".join(parts)

    def table(kind, *numbers):
        return box(kind, struct.pack(f">{len(numbers) + 1}I", 0, *numbers))

    entry = box(b"mp4a", struct.pack(">6xH8xHHiI", 1, 1, 16, 0, 16_000 << 16))
    described = box(b"stsd", struct.pack(">II", 0, 1), entry)
    listed = (table(b"stts", 1, samples, 2), table(b"stsc", 1, 1, samples, 1), table(b"stsz", 1, samples))
    tables = box(b"stbl", described, *listed, table(b"stco", 1, 40))
    media = (table(b"mdhd", 0, 0, 16_000, 160_000, 0), box(b"hdlr", struct.pack(">8x4s13x", b"soun")))
    track = box(b"trak", table(b"tkhd", *[1] * 20), box(b"mdia", *media, box(b"minf", tables)))
    return box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", table(b"mvhd", 0, 0, 1000, 10_000, *[0] * 20), track)


def test_pictures_that_are_far_larger_than_their_file(model):
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b""))
    )
    file = io.BytesIO()
    Image.effect_noise((256, 256), 50).save(file, "JPEG", progressive=True)
    start = file.getvalue().rindex(b"\xff\xda")
    scans = file.getvalue()[:start] + 10_000 * file.getvalue()[start:-2] + b"\xff\xd9"
    for data in (png, scans):
        with pytest.raises(UndecodableMedia):
            model.image(data)


def test_a_title_that_is_not_utf8_does_not_matter(model):
    titled = film(seconds=5.0, format="matroska").replace(b"encoder", b"enc\xffder".ljust(7))
    assert model.duration_sec(io.BytesIO(titled)) == pytest.approx(5.0, abs=0.1)
