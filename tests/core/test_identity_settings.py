"""How versions of an object are distinguished (identity=), and assumed roles."""

import datetime

import pytest

from bedrock_marengo import ConfigurationError, InputError, ServiceError
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, AwsSettings
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.jobs.fingerprint import fingerprint, work_prefix
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.object_version import SourceIdentity, object_version
from bedrock_marengo.s3.objects import S3Objects
from marengo_local import Fault


@pytest.fixture
def objects(local):
    options = {name: value for name, value in local.client_options.items() if name != "output_s3_uri"}
    return S3Objects(Aws(AwsSettings(**options)), RetryLimiter(4))


REQUEST = MediaRequest(model=MODELS["3.0"], kind="video")


def copied_in_place(local, uri):
    """The same bytes in other upload parts, for a different ETag. Sets the checksum, as moto's depends on parts."""
    key, body = uri.split("/", 3)[3], b"a video"
    before = local.s3.head_object(Bucket=local.bucket, Key=key)["ETag"]
    upload = local.s3.create_multipart_upload(Bucket=local.bucket, Key=key)["UploadId"]
    part = local.s3.upload_part(Bucket=local.bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    local.s3.complete_multipart_upload(Bucket=local.bucket, Key=key, UploadId=upload, MultipartUpload=parts)
    assert local.s3.head_object(Bucket=local.bucket, Key=key)["ETag"] != before


def test_the_default_is_the_etag_and_costs_no_call(objects, local, video):
    source = locate(objects, Media.from_s3(video))
    assert source.version is None and source.canonical()["etag"] == source.etag
    local.calls.reset()
    assert locate(objects, Media("video", uri=video, size=7, etag="e")) == SourceIdentity(video, 7, "e")
    assert len(local.calls) == 0


def test_a_checksum_costs_one_head_object(objects, local, video):
    source = locate(objects, Media.from_s3(video), "checksum")
    assert source.version.startswith("CRC") and source.canonical()["etag"] == source.version != source.etag
    assert local.calls["s3:HeadObject"] == 1
    local.put(b"b video", "match.mp4")
    assert locate(objects, Media.from_s3(video), "checksum").version != source.version


def test_the_strongest_checksum_is_used(objects, local):
    local.s3.put_object(Bucket=local.bucket, Key="a.mp4", Body=b"x", ChecksumAlgorithm="SHA256")
    source = locate(objects, Media.from_s3(f"s3://{local.bucket}/a.mp4"), "checksum")
    assert source.version == "SHA256:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="


def test_checksum_unavailable(objects, local, video, monkeypatch):
    source = SourceIdentity(video, 7, "e")
    with pytest.raises(InputError, match=r"identity= returned None for 's3://"):
        object_version(objects, source, lambda _: None)
    local.faults = [Fault("s3:HeadObject", error="AccessDenied")]
    with pytest.raises(ServiceError, match="HeadObject"):
        object_version(objects, source, "checksum")
    with pytest.raises(ConfigurationError, match="expected 'etag', 'checksum' or a callable"):
        _client(local, identity="md5")


def test_an_object_without_a_checksum(objects, local, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    old = S3Objects(Aws(objects._aws.settings), RetryLimiter(4))
    old._aws.s3.put_object(Bucket=local.bucket, Key="old.mp4", Body=b"x")
    with pytest.raises(InputError, match=r"has no checksum on S3.*Copy it in place once"):
        locate(objects, Media.from_s3(f"s3://{local.bucket}/old.mp4"), "checksum")


def test_a_callable_keeps_the_fingerprint_after_a_copy_in_place(objects, local, video):
    def content(source):
        return source.uri.rsplit("/", 1)[-1]

    media = Media.from_s3(video)
    before = [locate(objects, media), locate(objects, media, content)]
    copied_in_place(local, video)
    after = [locate(objects, media), locate(objects, media, content)]
    digests = [[fingerprint(REQUEST, source) for source in both] for both in (before, after)]
    assert digests[0][0] != digests[1][0] and digests[0][1] == digests[1][1]


def test_a_plan_uses_the_clients_identity(connect, local, video):
    def content(source):
        return "the same"

    source = SourceIdentity(video, 7, "whatever", "the same")
    folder = work_prefix(f"s3://{local.bucket}/marengo/", video, fingerprint(REQUEST, source))
    local.put(b"{}", f"{folder.split('/', 3)[3]}abcdefghijkl/output.json")
    assert connect(identity=content).plan(video, probe=False).reused == 1
    assert connect().plan(video, probe=False).reused == 0


@pytest.mark.parametrize("many", [True, False])
def test_a_copy_in_place_is_not_paid_again(connect, local, video, many):
    def content(source):
        return "the same"

    client = connect(identity=content)
    first = client.embed_media(video)
    copied_in_place(local, video)
    found = next(client.embed_many(f"s3://{local.bucket}/")).segments if many else client.embed_media(video)
    assert found.job == first.job and local.calls["StartAsyncInvoke"] == 1
    assert connect().embed_media(video).job != first.job


# Roles.


def test_a_role_with_refreshed_credentials(local, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", local.sts_endpoint_url)
    with _client(local, role_arn="arn:aws:iam::123456789012:role/marengo") as client:
        assert client.embed_text("a").shape == (512,)
        credentials = client._runtime.aws._session().get_credentials()
        first = credentials.get_frozen_credentials().access_key
        assert first.startswith("ASIA") and first != local.access_key_id
        # As if an hour had passed.
        credentials._expiry_time = datetime.datetime.now(datetime.UTC)
        credentials._refresh_using.__self__._cache.clear()
        assert credentials.get_frozen_credentials().access_key != first


def test_a_role_without_credentials(local, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    keys = {"aws_access_key_id": None, "aws_secret_access_key": None}
    with (
        _client(local, role_arn="arn:aws:iam::123456789012:role/marengo", **keys) as client,
        pytest.raises(ConfigurationError, match="no credentials to assume the role with"),
    ):
        client.embed_text("a")


def _client(local, **settings):
    from bedrock_marengo import MarengoClient

    return MarengoClient(**{**local.client_options, **settings})
