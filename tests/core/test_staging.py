"""Files in other regions are copied to the model's region while a job needs them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bedrock_marengo import ConfigurationError, JobError, ServiceError
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, AwsSettings
from bedrock_marengo.s3 import objects as objects_module
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from marengo_local import Fault

FOLDER = "s3://out/marengo/0123456789abcdef/"
JOB = f"{FOLDER}fedcba9876543210/"


@pytest.fixture
def objects(local):
    options = {name: value for name, value in local.client_options.items() if name != "output_s3_uri"}
    return S3Objects(Aws(AwsSettings(**options)), RetryLimiter(4))


@pytest.fixture
def stage(objects, local):
    return CrossRegionCopies(objects, f"s3://{local.bucket}/stage")


@pytest.fixture
def elsewhere(local):
    """A video in a bucket in another region."""
    bucket = f"{local.bucket}-eu"
    local.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    put = local.s3.put_object(Bucket=bucket, Key="in/a b.mp4", Body=b"a video", ContentType="video/quicktime")
    return SourceIdentity(f"s3://{bucket}/in/a b.mp4", 7, put["ETag"].strip('"'))


def put(stage, source, job=JOB, attempt=1):
    uri = stage.uri_of(source.uri, job, attempt)
    stage.put(source, uri)
    return uri


def staged(local):
    listed = local.s3.list_objects_v2(Bucket=local.bucket, Prefix="stage/").get("Contents", [])
    return [item["Key"] for item in listed]


def test_a_copy_and_its_removal(stage, local, elsewhere, video):
    assert stage.needed(elsewhere.uri) and not stage.needed(video)
    uri = put(stage, elsewhere)
    assert uri.startswith(stage.prefix_of(FOLDER)) and uri.endswith(".mp4")
    (key,) = staged(local)
    assert local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read() == b"a video"
    stage.remove(uri)
    stage.remove(uri)
    assert staged(local) == []


def test_an_existing_copy_is_reused(stage, local, elsewhere):
    assert put(stage, elsewhere) == put(stage, elsewhere)
    assert local.calls["s3:CopyObject"] == 1


@pytest.mark.parametrize("copied_before", [False, True])
def test_an_object_with_other_bytes_in_the_place_of_the_copy_is_replaced(stage, local, elsewhere, copied_before):
    uri = stage.uri_of(elsewhere.uri, JOB, 1)
    if copied_before:
        put(stage, elsewhere)
    local.put(b"unrelat", uri.split("/", 3)[3])
    put(stage, elsewhere)
    (key,) = staged(local)
    found = local.s3.get_object(Bucket=local.bucket, Key=key)
    assert found["Body"].read() == b"a video" and found["ContentType"] == "video/quicktime"


def test_only_the_listed_version_is_copied(stage, local, elsewhere):
    bucket = elsewhere.uri.split("/")[2]
    local.s3.put_object(Bucket=bucket, Key="in/a b.mp4", Body=b"another video")
    with pytest.raises(ServiceError, match=r"CopyObject for .*a b.mp4 -> s3://.*412"):
        put(stage, elsewhere)
    assert staged(local) == []


def test_no_two_jobs_share_a_copy(stage, local, elsewhere):
    others = [(f"{FOLDER}{'f' * 16}/", 1), (JOB, 2), (JOB.replace("marengo", "elsewhere"), 1)]
    first, *rest = put(stage, elsewhere), *(put(stage, elsewhere, *other) for other in others)
    assert len(staged(local)) == len({first, *rest}) == 4
    stage.remove(first)
    assert len(staged(local)) == 3
    assert [uri.startswith(stage.prefix_of(FOLDER)) for uri in rest] == [True, True, False]


def test_large_files_are_copied_in_parts(stage, local, elsewhere, monkeypatch):
    monkeypatch.setattr(objects_module, "COPY_BYTES", 6 << 20)
    monkeypatch.setattr(objects_module, "PART_BYTES", 5 << 20)
    bucket, body = elsewhere.uri.split("/")[2], b"v" * (7 << 20)
    etag = local.s3.put_object(Bucket=bucket, Key="long.mp4", Body=body)["ETag"].strip('"')
    uri = put(stage, SourceIdentity(f"s3://{bucket}/long.mp4", len(body), etag))
    assert local.calls["s3:UploadPart"] == 2 and local.calls["s3:CopyObject"] == 0
    key = uri.split("/", 3)[3]
    assert local.s3.head_object(Bucket=local.bucket, Key=key)["ContentLength"] == len(body)


def test_invalid_staging(objects, stage, local, elsewhere, video):
    with pytest.raises(ConfigurationError, match="is not one of our copies"):
        stage.remove(video)
    with pytest.raises(ConfigurationError, match="is in eu-west-1, the model in us-east-1"):
        put(CrossRegionCopies(objects, f"s3://{elsewhere.uri.split('/')[2]}/stage/"), elsewhere)
    local.faults = [Fault("s3:CopyObject", error="AccessDenied")]
    with pytest.raises(ServiceError, match=r"AccessDenied.*Check IAM"):
        put(stage, elsewhere)
    assert staged(local) == []


def test_without_a_stage_the_error_names_the_setting(client, elsewhere):
    with pytest.raises(ConfigurationError, match="have files copied with staging_s3_uri='s3://a-bucket-in-us-east-1/"):
        client.embed_media(elsewhere.uri)


# In a run.


def test_a_run_over_files_in_another_region(connect, local, elsewhere):
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    (done,) = client.embed_many([elsewhere.uri])
    assert done.segments.source == elsewhere.uri and staged(local) == []
    assert client.usage.copied_bytes == 7
    sent = local.calls.of("StartAsyncInvoke")[0].body["modelInput"]["video"]["mediaSource"]["s3Location"]["uri"]
    assert sent.startswith(f"s3://{local.bucket}/stage/")
    # Reused without a copy, and without a stage once another client has embedded it.
    assert len(connect(staging_s3_uri=f"s3://{local.bucket}/stage/").embed_media(elsewhere.uri)) == 12
    assert local.calls["StartAsyncInvoke"] == local.calls["s3:CopyObject"] == 1


def test_another_client_that_collects_the_job_removes_the_copy(connect, local, elsewhere):
    job = connect(staging_s3_uri=f"s3://{local.bucket}/stage/").start(elsewhere.uri)
    assert len(staged(local)) == 1
    other = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    assert len(other.collect(other.job(job.arn))) == 12 and staged(local) == []


def test_a_wait_that_ends_early_keeps_the_copy_for_the_running_job(connect, local, elsewhere, held):
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    with pytest.raises(JobError, match="still running") as caught:
        client.embed_media(elsewhere.uri, timeout_sec=0.1)
    assert caught.value.running and len(staged(local)) == 1
    held.set()
    assert len(client.embed_media(elsewhere.uri)) == 12 and staged(local) == []


def test_a_job_that_fails_leaves_no_copy(connect, local, elsewhere):
    local.faults = [Fault("Job", error="Failed", message="The video could not be decoded.")]
    with pytest.raises(JobError):
        connect(staging_s3_uri=f"s3://{local.bucket}/stage/").embed_media(elsewhere.uri)
    assert staged(local) == []


def test_two_output_prefixes_and_their_jobs_leave_each_other_alone(connect, local, elsewhere, held):
    """The first to finish deleted what the other's job was reading."""
    stage = f"s3://{local.bucket}/stage/"
    prefixes = [f"s3://{local.bucket}/{name}/" for name in ("one", "two")]
    clients = [connect(staging_s3_uri=stage, output_s3_uri=prefix) for prefix in prefixes]
    jobs = [client.start(elsewhere.uri) for client in clients]
    assert len(staged(local)) == 2
    held.set()
    for left, (client, job) in enumerate(zip(clients, jobs, strict=True)):
        assert len(client.collect(job)) == 12
        assert len(staged(local)) == 1 - left


def test_each_attempt_has_a_copy_of_its_own(connect, local, elsewhere):
    local.faults = [Fault("Job", error="Failed", message="An internal error occurred. Please try again.", times=1)]
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    assert len(client.embed_media(elsewhere.uri)) == 12 and staged(local) == []
    inputs = [call.body["modelInput"]["video"]["mediaSource"] for call in local.calls.of("StartAsyncInvoke")]
    assert len({source["s3Location"]["uri"] for source in inputs}) == 2


def test_forgetting_one_output_prefix_leaves_the_copies_of_another(connect, local, elsewhere, held):
    stage = f"s3://{local.bucket}/stage/"
    one, two = (connect(staging_s3_uri=stage, output_s3_uri=f"s3://{local.bucket}/{name}/") for name in ("one", "two"))
    one.start(elsewhere.uri), two.start(elsewhere.uri)
    assert one.forget(elsewhere.uri).copies == 1
    assert len(staged(local)) == 1


def test_two_clients_that_embed_one_image_have_a_copy_each(connect, local, elsewhere, png):
    """The first to finish deleted what the other's call was reading."""
    bucket = elsewhere.uri.split("/")[2]
    local.s3.put_object(Bucket=bucket, Key="in/a.png", Body=png())
    clients = [connect(staging_s3_uri=f"s3://{local.bucket}/stage/") for _ in range(2)]
    local.latency_sec = 0.3
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda client: client.embed_media(f"s3://{bucket}/in/a.png"), clients))
    assert [len(segments) for segments in found] == [1, 1]
    assert local.calls["s3:CopyObject"] == 2 and staged(local) == []
