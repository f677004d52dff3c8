"""The stand-in's S3 refuses bytes that have another checksum, and shows checksums as S3 does."""

import base64
import hashlib
import zlib

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

BODY = b"a video" * 1_000_000  # 7 MB: two parts of 5 MiB and less


def checksums(body):
    found = {"SHA256": hashlib.sha256(body).digest(), "CRC32": zlib.crc32(body).to_bytes(4, "big")}
    return {f"Checksum{name}": base64.b64encode(value).decode() for name, value in found.items()}


@pytest.fixture
def place(bedrock):
    return {"Bucket": bedrock.local.bucket, "Key": "a b#1.mp4"}


def head(bedrock, place):
    found = bedrock.s3.head_object(**place, ChecksumMode="ENABLED")
    return {name: value for name, value in found.items() if name.startswith("Checksum")}


@pytest.mark.parametrize("name", ["ChecksumSHA256", "ChecksumCRC32"])
class TestAnObject:
    def test_shows_the_checksum_that_it_was_sent_with(self, bedrock, place, name):
        bedrock.s3.put_object(**place, Body=b"a video", **{name: checksums(b"a video")[name]})
        assert head(bedrock, place)[name] == checksums(b"a video")[name]

    def test_of_other_bytes_is_refused_and_the_one_before_stays(self, bedrock, place, name):
        bedrock.s3.put_object(**place, Body=b"before")
        with pytest.raises(ClientError, match="BadDigest"):
            bedrock.s3.put_object(**place, Body=b"a video", **{name: checksums(b"other")[name]})
        assert bedrock.s3.get_object(**place)["Body"].read() == b"before"


class TestInParts:
    @pytest.fixture
    def send(self, bedrock, place, tmp_path):
        def send(**extra):
            (tmp_path / "a.mp4").write_bytes(BODY)
            parts = TransferConfig(multipart_threshold=1, multipart_chunksize=5 << 20)
            bedrock.s3.upload_file(str(tmp_path / "a.mp4"), *place.values(), ExtraArgs=extra, Config=parts)
            return head(bedrock, place)

        return send

    def test_a_checksum_of_the_whole(self, send):
        crc32 = checksums(BODY)["ChecksumCRC32"]
        assert send(ChecksumCRC32=crc32) == {"ChecksumCRC32": crc32, "ChecksumType": "FULL_OBJECT"}

    def test_a_checksum_of_the_parts_ends_in_their_number(self, send):
        found = send(ChecksumAlgorithm="CRC32")
        assert found["ChecksumType"] == "COMPOSITE" and found["ChecksumCRC32"].endswith("=-2")

    @pytest.mark.parametrize(
        ("extra", "why"),
        [({"ChecksumCRC32": "AAAAAA=="}, "BadDigest"), ({"ChecksumSHA256": "AAAA"}, "InvalidRequest.*FULL_OBJECT")],
    )
    def test_what_is_refused_leaves_nothing(self, bedrock, place, send, extra, why):
        with pytest.raises(Exception, match=why):
            send(**extra)
        assert "Uploads" not in bedrock.s3.list_multipart_uploads(Bucket=place["Bucket"])
        with pytest.raises(ClientError, match="404"):
            head(bedrock, place)
