"""Local files that change while they are uploaded, and other bytes under their digest: these are never used."""

import hashlib
import os

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from bedrock_marengo import InputError, MarengoWarning, Media, NotEmbeddedError, ServiceError
from bedrock_marengo.s3.objects import UPLOAD_PART_BYTES
from langchain_marengo import MarengoEmbeddings, MarengoLoader
from llama_index_marengo import MarengoEmbedding, MarengoReader
from marengo_local import Fault, checksums

pytestmark = pytest.mark.promise("No vector is stored under the wrong segment")
IN_PARTS = pytest.param(UPLOAD_PART_BYTES + 100, id="in parts", marks=pytest.mark.slow)
SIZES = pytest.mark.parametrize("size", [pytest.param(100, id="whole"), IN_PARTS])


def right(size):
    return b"r" * size


def other(size):
    return b"o" * size


@pytest.fixture
def path(tmp_path):
    (tmp_path / "media").mkdir()
    return tmp_path / "media" / "match.mp4"


@pytest.fixture
def place(local):
    """The key of an upload."""
    return lambda body, name="match.mp4": f"marengo/uploads/{hashlib.sha256(body).hexdigest()}/{name}"


@pytest.fixture
def stored(local, keys):
    """The SHA-256 in each upload's key, and that of its bytes."""

    def stored():
        bodies = {key: local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read() for key in keys(".mp4")}
        return [(key.split("/")[2], hashlib.sha256(body).hexdigest()) for key, body in bodies.items()]

    return stored


@pytest.fixture
def when_listed(local):
    """Runs something between the digest of a file and its upload: as the first listing of its uploads arrives."""

    def when_listed(action):
        def arrives(call):
            if "/uploads/" in call.body.get("prefix", ""):
                action()
                local.faults.remove(fault)
            return False

        fault = Fault("s3:ListObjectsV2", when=arrives)
        local.faults = [*local.faults, fault]

    return when_listed


@pytest.fixture
def unchecked(monkeypatch):
    """The stand-in's S3 ignores checksums."""

    def ignored(environ):
        for name in [name for name in environ if name.startswith(("HTTP_X_AMZ_CHECKSUM", "HTTP_X_AMZ_SDK_CHECKSUM"))]:
            del environ[name]

    monkeypatch.setattr(checksums, "_refusal", ignored)


def overwrite(path, body):
    """Other bytes, with the size and the time of before."""
    before = path.stat()
    path.write_bytes(body)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@SIZES
@pytest.mark.fault(
    "A local file is overwritten while it is uploaded", expect="S3 refuses the bytes; InputError, or the next run"
)
class TestOverwritten:
    def test_and_the_process_is_killed(
        self, local, child, connect, path, place, truth, same, stored, when_listed, wait_for, size
    ):
        last = "s3:PutObject" if size < UPLOAD_PART_BYTES else "s3:CompleteMultipartUpload"
        path.write_bytes(right(size))
        when_listed(lambda: path.write_bytes(other(size)))
        local.faults = [*local.faults, Fault(last, drop="after")]
        process = child("from pathlib import Path\nclient.embed_media(Path(argv[0]))", path)
        wait_for(lambda: local.calls[last])
        process.kill()
        process.communicate()
        local.faults = []
        path.write_bytes(right(size))
        found = connect().embed_media(path)
        assert all(digest == key for key, digest in stored()) and same(found, truth(found[0].source))

    @pytest.mark.parametrize("keeps_its_time", [False, True])
    def test_where_nothing_may_be_deleted(self, local, connect, path, stored, when_listed, size, keeps_its_time):
        path.write_bytes(right(size))
        write = overwrite if keeps_its_time else type(path).write_bytes
        when_listed(lambda: write(path, other(size)))
        local.faults = [*local.faults, Fault("s3:DeleteObject", error="AccessDenied")]
        with pytest.raises(InputError, match=r"match\.mp4 changed during the upload"):
            connect().embed_media(path)
        assert stored() == [] and len(local.jobs) == 0
        assert "Uploads" not in local.s3.list_multipart_uploads(Bucket=local.bucket)

    def test_on_a_store_that_checks_nothing(self, local, connect, path, stored, when_listed, unchecked, size):
        path.write_bytes(right(size))
        when_listed(lambda: overwrite(path, other(size)))
        with pytest.raises(InputError, match="changed during the upload"), pytest.warns(MarengoWarning):
            connect().embed_media(path)
        assert stored() == [] and len(local.jobs) == 0

    def test_with_less(self, local, connect, path, stored, when_listed, size):
        path.write_bytes(right(size))
        when_listed(lambda: path.write_bytes(b"r"))
        with pytest.raises(InputError, match="changed during the upload"):
            connect().embed_media(path)
        assert stored() == [] and len(local.jobs) == 0


# How an object that is not of this version came under a digest.


def older(s3, path, target):
    """As boto3 uploads by itself: a CRC-32, of parts a checksum of checksums."""
    s3().upload_file(str(path), *target)


def without_a_checksum(s3, path, target):
    s3(request_checksum_calculation="when_required").upload_file(str(path), *target)


def in_other_parts(s3, path, target):
    """Without a checksum, and its ETag is not the MD5: as with KMS."""
    parts = TransferConfig(multipart_threshold=1, multipart_chunksize=5 << 20)
    s3(request_checksum_calculation="when_required").upload_file(str(path), *target, Config=parts)


def with_another_checksum(s3, path, target):
    s3().upload_file(str(path), *target, ExtraArgs={"ChecksumAlgorithm": "SHA1"})


@pytest.fixture
def put_under(local, place, tmp_path):
    """Put bytes under the digest of other ones."""

    def s3(**config):
        names = ("region_name", "aws_access_key_id", "aws_secret_access_key")
        options = {name: local.client_options[name] for name in names}
        return boto3.client("s3", endpoint_url=local.s3_endpoint_url, config=Config(**config), **options)

    def put_under(digest_of, body, how, name="match.mp4"):
        (tmp_path / "put").write_bytes(body)
        how(s3, tmp_path / "put", (local.bucket, place(digest_of, name)))
        local.calls.reset()

    return put_under


WAYS = pytest.mark.parametrize("how", [older, without_a_checksum, in_other_parts, with_another_checksum])


@SIZES
@WAYS
@pytest.mark.fault(
    "Other bytes under the digest of a local file",
    expect="a warning; they are never used, and overwritten if they can be",
)
class TestOtherBytes:
    def test_are_uploaded_over(self, local, client, path, put_under, stored, truth, same, how, size):
        path.write_bytes(right(size))
        put_under(right(size), other(size), how)
        with pytest.warns(MarengoWarning, match="does not hold the bytes that its key names"):
            found = client.embed_media(path)
        ((key, digest),) = stored()
        assert key == digest and same(found, truth(found[0].source))

    def test_of_another_name_stay_and_are_not_used(
        self, local, client, path, put_under, stored, truth, same, how, size
    ):
        path.write_bytes(right(size))
        put_under(right(size), other(size), how, "a.mp4")
        with pytest.warns(MarengoWarning):
            found = client.embed_media(path)
        assert found[0].source.endswith("/match.mp4") and same(found, truth(found[0].source))
        # With the same bytes under two keys, later runs use the right one, and pay nothing.
        assert len(stored()) == 2 and len(client.embed_media(path)) == 12 and len(local.jobs) == 1

    def test_are_no_finished_job_of_the_file(self, local, connect, path, put_under, how, size):
        path.write_bytes(right(size))
        put_under(right(size), other(size), how)
        uri = f"s3://{local.bucket}/marengo/uploads/{hashlib.sha256(right(size)).hexdigest()}/match.mp4"
        connect().embed_media(uri)
        with pytest.warns(MarengoWarning):
            (done,) = connect().embed_many(path.parent, only_done=True)
            plan = connect().plan(path.parent, durations=lambda media: 10.0)
        assert isinstance(done.error, NotEmbeddedError) and (plan.reused, plan.uploaded) == (0, 1)

    @pytest.mark.parametrize("read", ["LangChain", "LlamaIndex"])
    def test_do_not_reach_a_framework(self, local, path, put_under, stored, how, size, read):
        path.write_bytes(right(size))
        put_under(right(size), other(size), how)
        with pytest.warns(MarengoWarning):
            if read == "LangChain":
                embeddings = MarengoEmbeddings(**local.client_options)
                MarengoLoader(path.parent, embeddings=embeddings, show_progress=False).load()
            else:
                MarengoReader(path.parent, embed_model=MarengoEmbedding(**local.client_options)).load_data()
        assert all(key == digest for key, digest in stored())


@SIZES
@pytest.mark.fault("The right bytes under the digest of a local file", expect="used as they are; one HeadObject")
class TestRightBytes:
    @WAYS
    def test_are_used_without_an_upload_or_another_job(self, local, client, path, put_under, how, size):
        path.write_bytes(right(size))
        put_under(right(size), right(size), how, "another name.mp4")
        assert client.embed_media(path)[0].source.endswith("/another name.mp4")
        writes = ("s3:CreateMultipartUpload", "s3:UploadPart")
        assert [local.calls[op] for op in writes] == [0, 0] and local.calls["s3:HeadObject"] == 1

    def test_cost_one_head_object(self, local, connect, path, size):
        path.write_bytes(right(size))
        connect().embed_media(path)
        for run in (
            lambda: connect().plan(path.parent, durations=lambda media: 10.0),
            lambda: list(connect().embed_many(path.parent, only_done=True)),
            lambda: connect().embed_media(path),
        ):
            local.calls.reset()
            run()
            listed = [call for call in local.calls.of("s3:ListObjectsV2") if "/uploads/" in call.body["prefix"]]
            read = [call for call in local.calls.of("s3:GetObject") if "/uploads/" in call.body["key"]]
            assert (len(listed), local.calls["s3:HeadObject"], len(read)) == (1, 1, 0)

    def test_of_bytes_are_found_for_a_file_and_the_other_way_round(self, local, client, path, size):
        path.write_bytes(right(size))
        client.embed_media(Media.from_bytes(right(size), kind="video"))
        assert client.embed_media(path)[0].source.endswith("/video") and len(local.jobs) == 1

    def test_that_are_deleted_while_they_are_checked_are_uploaded(self, local, client, path, place, size):
        path.write_bytes(right(size))
        client.embed_media(path)

        def deletes(call):
            if call.number == first:
                local.s3.delete_object(Bucket=local.bucket, Key=place(right(size)))
            return False

        first = local.calls["s3:HeadObject"] + 1
        local.faults = [Fault("s3:HeadObject", when=deletes)]
        assert len(client.embed_media(path)) == 12 and len(local.jobs) == 1

    def test_whose_check_is_denied_are_an_error(self, local, client, path, size):
        path.write_bytes(right(size))
        client.embed_media(path)
        local.faults = [Fault("s3:HeadObject", error="AccessDenied")]
        with pytest.raises(ServiceError, match=r"HeadObject .*403"):
            client.embed_media(path)


@SIZES
@pytest.mark.parametrize("code", ["NotImplemented", "InvalidRequest", "InvalidArgument"])
@pytest.mark.fault(
    "A store refuses checksums", expect="a warning once; uploads are checked by their ETag, or read again"
)
class TestAStoreWithoutChecksums:
    def test_gets_the_file_without(self, local, connect, path, stored, truth, same, code, size):
        path.write_bytes(right(size))
        first = "s3:PutObject" if size < UPLOAD_PART_BYTES else "s3:CreateMultipartUpload"
        uploads = lambda call: "/uploads/" in call.body["key"]  # noqa: E731
        local.faults = [
            Fault(first, when=uploads, times=1, error=code, status=501),
            Fault("s3:HeadObject", when=lambda call: call.number % 2 == 1, error=code, status=501),
        ]
        with pytest.warns(MarengoWarning, match="does not support checksums") as warned:
            found = connect(config=Config(request_checksum_calculation="when_required")).embed_media(path)
        assert len([w for w in warned if "checksums" in str(w.message)]) == 1
        ((key, digest),) = stored()
        assert key == digest and same(found, truth(found[0].source))


@pytest.mark.slow
@SIZES
@pytest.mark.fault("Two processes upload the same file", expect="one object with the right bytes, one job")
def test_two_processes_upload_the_same_file(local, child, path, stored, size):
    path.write_bytes(right(size))
    code = "from pathlib import Path\nsys.stdin.readline()\nprint(client.embed_media(Path(argv[0]))[0].source)"
    both = [child(code, path) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in both]
    assert len({out for out, _ in outputs}) == 1 and outputs[0][0].startswith("s3://"), outputs
    ((key, digest),) = stored()
    assert key == digest and len(local.jobs) == 1


@pytest.mark.fault("A part of an upload is refused", expect="ServiceError; no parts are left")
def test_an_upload_that_fails_leaves_no_parts(local, client, path):
    path.write_bytes(right(UPLOAD_PART_BYTES + 100))
    local.faults = [Fault("s3:UploadPart", error="AccessDenied")]
    with pytest.raises(ServiceError, match="AccessDenied"):
        client.embed_media(path)
    assert "Uploads" not in local.s3.list_multipart_uploads(Bucket=local.bucket)
