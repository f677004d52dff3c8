"""The stand-in's ports are open to every program and web page of the machine: it answers only its own callers."""

import base64
import http.client
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import marengo_local

pytestmark = pytest.mark.promise("The stand-in answers only its own callers")

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
TEXT = json.dumps({"inputType": "text", "text": {"inputText": "a dog"}})
INVOKE = f"/model/{M3}/invoke"
ORIGIN = "https://evil.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
UPLOAD = '--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nkept.mp4\r\n--x\r\nContent-Disposition: form-data; '
UPLOAD += 'name="file"\r\n\r\nother\r\n--x--\r\n'
PREFLIGHT = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization,x-amz-date"}

# What a page or a program without credentials sends: method, path, headers, body.
ANONYMOUS_S3 = [
    ("GET", "/", {}, ""),
    ("GET", "/{bucket}?list-type=2", {}, ""),
    ("GET", "/{bucket}/kept.mp4", {}, ""),
    ("HEAD", "/{bucket}/kept.mp4", {}, ""),
    ("PUT", "/{bucket}/kept.mp4", {}, "other"),
    ("PUT", "/{bucket}/copy.mp4", {"x-amz-copy-source": "{bucket}/kept.mp4"}, ""),
    ("DELETE", "/{bucket}/kept.mp4", {}, ""),
    ("POST", "/{bucket}?delete", FORM, "<Delete><Object><Key>kept.mp4</Key></Object></Delete>"),
    ("POST", "/{bucket}", MULTIPART, UPLOAD),
    ("POST", "/", FORM, "Action=AssumeRoleWithWebIdentity&RoleArn=arn&RoleSessionName=a&WebIdentityToken=a"),
    ("POST", "/", {**FORM, "X-Amz-Target": "AWSCognitoIdentityProviderService.ListUserPools"}, "{}"),
    ("GET", "/moto-api/", {}, ""),
    ("GET", "/moto-api/data.json", {}, ""),
    ("POST", "/moto-api/reset", FORM, ""),
    ("POST", "//moto-api/reset", FORM, ""),
    ("POST", "/%6doto-api/reset", FORM, ""),
    ("GET", "/latest/meta-data/iam/security-credentials/", {}, ""),
    ("GET", "/favicon.ico", {}, ""),
    ("OPTIONS", "/{bucket}/kept.mp4", PREFLIGHT, ""),
    ("GET", "/{bucket}/kept.mp4?X-Amz-Signature=0&X-Amz-Credential=any", {}, ""),
    ("GET", "/{bucket}/kept.mp4?AWSAccessKeyId=any&Signature=0&Expires=9999999999", {}, ""),
    ("GET", "/{bucket}/kept.mp4", {"Authorization": "AWS any:0"}, ""),
    ("DELETE", "/{bucket}/kept.mp4", {"Authorization": "AWS4-HMAC-SHA256 Credential=any"}, ""),
]
ANONYMOUS_BEDROCK = [
    ("POST", INVOKE, {"Content-Type": "text/plain"}, TEXT),
    ("POST", INVOKE, {"Authorization": "Bearer any"}, TEXT),
    ("POST", INVOKE, {"Authorization": "Bearer "}, TEXT),
    ("POST", INVOKE, {"Authorization": "Basic any"}, TEXT),
    ("GET", "/async-invoke", {}, ""),
    ("POST", "/async-invoke", FORM, "{}"),
    ("OPTIONS", INVOKE, PREFLIGHT, ""),
    ("GET", "/", {}, ""),
]


@pytest.fixture
def local(local):
    local.put(b"kept", "kept.mp4")
    return local


@pytest.fixture
def keys(local):
    options = local.client_options
    return Credentials(options["aws_access_key_id"], options["aws_secret_access_key"])


def send(url, method, path, headers=(), body="", host=None):
    """What a server answers: its status, headers and body."""
    address = urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    body = body if isinstance(body, bytes) else body.encode()
    for name, value in {"Host": host or address, "Content-Length": str(len(body)), **dict(headers)}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    answer = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    connection.close()
    return answer


def signed(keys, service, url, method, path, headers=(), body="", host=None):
    """What a server answers to a signed request."""
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    address = f"http://{host or urlsplit(url).netloc}"
    request = AWSRequest(method, address + path, data=body.encode(), headers=dict(headers))
    signer(keys, service, "us-east-1").add_auth(request)
    return send(url, method, path, dict(request.headers), body, host)


def client(local, service, **keys):
    keys = {"aws_access_key_id": local.access_key_id, "aws_secret_access_key": local.secret_access_key, **keys}
    url = local.endpoint_url if service.startswith("bedrock") else local.s3_endpoint_url
    config = Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None)
    return boto3.client(service, region_name=local.region_name, endpoint_url=url, config=config, **keys)


def objects(local):
    listed = local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]
    return [(item["Key"], local.s3.get_object(Bucket=local.bucket, Key=item["Key"])["Body"].read()) for item in listed]


@pytest.mark.parametrize(("method", "path", "headers", "body"), ANONYMOUS_S3 + ANONYMOUS_BEDROCK)
def test_a_page_of_another_origin_gets_and_changes_nothing(local, method, path, headers, body):
    url = local.endpoint_url if (method, path, headers, body) in ANONYMOUS_BEDROCK else local.s3_endpoint_url
    path = path.replace("{bucket}", local.bucket)
    headers = {name: value.replace("{bucket}", local.bucket) for name, value in headers.items()}
    status, replied, said = send(url, method, path, {"Origin": ORIGIN, **headers}, body)
    assert status in (400, 403)
    assert not [name for name in replied if name.startswith("access-control-")]
    assert b"kept" not in said.replace(b"kept.mp4", b"")
    assert objects(local) == [("kept.mp4", b"kept")]
    assert len(local.calls) == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", ""])
def test_a_name_that_leads_to_loopback_is_refused_even_if_signed(local, keys, host):
    """DNS rebinding: a page's own name leads to 127.0.0.1, so that to the browser both are one origin."""
    status, _, said = signed(keys, "s3", local.s3_endpoint_url, "GET", f"/{local.bucket}", host=host or " ")
    assert status == 403 and b"not a loopback address" in said
    bedrock = signed(keys, "bedrock", local.endpoint_url, "POST", INVOKE, body=TEXT, host=host or " ")
    assert bedrock[0] == 403 and b"not a loopback address" in bedrock[2]
    token = {"Authorization": f"Bearer {local.api_key}"}
    assert send(local.endpoint_url, "POST", INVOKE, token, TEXT, host or " ")[0] == 403


@pytest.mark.parametrize("host", ["localhost", "[::1]:{port}", "127.0.0.1"])
def test_loopback_by_any_name_is_accepted(local, keys, host):
    host = host.format(port=urlsplit(local.s3_endpoint_url).port)
    assert signed(keys, "s3", local.s3_endpoint_url, "GET", f"/{local.bucket}", host=host)[0] == 200
    assert signed(keys, "bedrock", local.endpoint_url, "GET", "/async-invoke", host=host)[0] == 200


@pytest.mark.parametrize("path", ["/moto-api/reset", "//moto-api/reset", "/%6doto-api/reset"])
def test_no_one_resets_over_http(local, keys, path):
    assert signed(keys, "s3", local.s3_endpoint_url, "POST", path)[0] == 403
    assert objects(local) == [("kept.mp4", b"kept")]


WRONG = {
    "key": {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"},
    "secret": {"aws_secret_access_key": "testing"},
    "token": {"aws_session_token": "any"},
}
CODES = {
    ("bedrock-runtime", "key"): "UnrecognizedClientException",
    ("bedrock-runtime", "secret"): "InvalidSignatureException",
    ("bedrock-runtime", "token"): "UnrecognizedClientException",
    ("s3", "key"): "InvalidAccessKeyId",
    ("s3", "secret"): "SignatureDoesNotMatch",
    ("s3", "token"): "InvalidToken",
    ("sts", "key"): "InvalidClientTokenId",
    ("sts", "secret"): "SignatureDoesNotMatch",
    ("sts", "token"): "InvalidClientTokenId",
}
CALLS = {
    "bedrock-runtime": lambda client, local: client.list_async_invokes(),
    "s3": lambda client, local: client.list_objects_v2(Bucket=local.bucket),
    "sts": lambda client, local: client.get_caller_identity(),
}


@pytest.mark.parametrize(("service", "wrong"), CODES)
def test_wrong_credentials_get_the_errors_of_aws(local, service, wrong):
    assert CALLS[service](client(local, service), local)
    with pytest.raises(ClientError) as caught:
        CALLS[service](client(local, service, **WRONG[wrong]), local)
    assert caught.value.response["Error"]["Code"] == CODES[service, wrong]


def test_what_is_signed_cannot_be_changed(local, keys):
    def sign(service, method, url, **more):
        request = AWSRequest(method, url, **more)
        (S3SigV4Auth if service == "s3" else SigV4Auth)(keys, service, "us-east-1").add_auth(request)
        return dict(request.headers)

    s3, bedrock, bucket = local.s3_endpoint_url, local.endpoint_url, local.bucket
    listing = sign("s3", "GET", f"{s3}/{bucket}?list-type=2&prefix=kept")
    assert send(s3, "GET", f"/{bucket}?list-type=2&prefix=kept", listing)[0] == 200
    for method, path in (("GET", f"/{bucket}?list-type=2&prefix="), ("DELETE", f"/{bucket}?list-type=2&prefix=kept")):
        assert send(s3, method, path, listing)[0] == 403
    invoke = sign("bedrock", "POST", bedrock + INVOKE, data=TEXT)
    assert send(bedrock, "POST", INVOKE, invoke, TEXT)[0] == 200
    assert send(bedrock, "POST", INVOKE, invoke, TEXT.replace("dog", "cat"))[0] == 403
    identity = "Action=GetCallerIdentity&Version=2011-06-15"
    sts = sign("sts", "POST", f"{s3}/", data=identity, headers=FORM)
    assert send(s3, "POST", "/", sts, identity)[0] == 200
    assert send(s3, "POST", "/", sts, "Action=GetSessionToken&Version=2011-06-15")[0] == 403


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_presigned_url_works_for_what_it_was_signed_for_until_it_expires(local, version):
    keys = {name: local.client_options[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    config = Config(signature_version=version, s3={"addressing_style": "path"})
    s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=local.s3_endpoint_url, config=config, **keys)
    uri = {"Bucket": local.bucket, "Key": "kept.mp4"}

    def get(url, method="GET", **more):
        parts = urlsplit(url)
        return send(url, method, f"{parts.path}?{parts.query}", **more)

    url = s3.generate_presigned_url("get_object", Params=uri)
    assert get(url)[2] == b"kept"
    status, headers, body = get(url, headers={"Range": "bytes=1-2", "Origin": ORIGIN})  # as a <video> reads it
    assert (status, body, headers.get("access-control-allow-origin")) == (206, b"ep", None)
    shown = s3.generate_presigned_url(
        "get_object", Params=uri | {"ResponseContentType": "video/x y", "VersionId": "null"}
    )
    assert get(shown)[1]["content-type"] == "video/x y"
    put = s3.generate_presigned_url("put_object", Params={**uri, "Key": "a b+ü.mp4"})
    assert get(put, "PUT", body="new")[0] == 200
    assert get(put, "PUT", headers={"x-amz-copy-source": f"{local.bucket}/kept.mp4"})[0] == 403
    for method, changed in (
        ("DELETE", url),
        ("GET", url.replace("kept.mp4", "a%20b%2B%C3%BC.mp4")),
        ("GET", url + "0"),
    ):
        assert get(changed, method)[0] == 403
    expiring = s3.generate_presigned_url("get_object", Params=uri, ExpiresIn=1)
    local.clock_skew_sec = 5.0
    status, _, said = get(expiring)
    assert status == 403 and b"Request has expired" in said
    assert objects(local) == [("a b+ü.mp4", b"new"), ("kept.mp4", b"kept")]


@pytest.mark.parametrize("age", [timedelta(minutes=20), timedelta(minutes=-20)])
def test_a_signature_is_good_for_minutes(local, keys, monkeypatch, age):
    real = datetime.now(UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: (real - age).replace(tzinfo=None))
    s3 = signed(keys, "s3", local.s3_endpoint_url, "GET", f"/{local.bucket}")
    assert s3[0] == 403 and b"RequestTimeTooSkewed" in s3[2]
    bedrock = signed(keys, "bedrock", local.endpoint_url, "GET", "/async-invoke")
    assert bedrock[0] == 403 and bedrock[1]["x-amzn-errortype"] == "InvalidSignatureException"


def test_a_buckets_cors_and_policy_open_nothing(local, keys):
    rule = {"AllowedMethods": ["GET", "DELETE"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"]}
    local.s3.put_bucket_cors(Bucket=local.bucket, CORSConfiguration={"CORSRules": [rule]})
    local.s3.put_object_acl(Bucket=local.bucket, Key="kept.mp4", ACL="public-read")
    path = f"/{local.bucket}/kept.mp4"
    replies = [
        send(local.s3_endpoint_url, "GET", path, {"Origin": ORIGIN}),
        send(local.s3_endpoint_url, "OPTIONS", path, {"Origin": ORIGIN, **PREFLIGHT}),
        signed(keys, "s3", local.s3_endpoint_url, "GET", path, {"Origin": ORIGIN}),
    ]
    assert [reply[0] for reply in replies] == [403, 403, 200]
    assert not [name for _, headers, _ in replies for name in headers if name.startswith("access-control-")]


def test_api_keys(local, keys):
    def invoke(token):
        return send(local.endpoint_url, "POST", INVOKE, {"Authorization": f"Bearer {token}"}, TEXT)

    def short_term(keys):
        request = AWSRequest("POST", "https://bedrock.amazonaws.com/", params={"Action": "CallWithBearerToken"})
        request.headers["host"] = "bedrock.amazonaws.com"
        SigV4QueryAuth(keys, "bedrock", "us-east-1", expires=3600).add_auth(request)
        url = request.url.removeprefix("https://") + "&Version=1"
        return "bedrock-api-key-" + base64.b64encode(url.encode()).decode()

    assert invoke(local.api_key)[0] == invoke(short_term(keys))[0] == 200
    others = [short_term(Credentials(local.access_key_id, "other")), short_term(Credentials("AKIAOTHER", "other"))]
    for wrong in (local.api_key[:-1], local.api_key.lower(), "é", "bedrock-api-key-", *others):
        status, headers, said = invoke(wrong)
        assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
        assert b"API Key is valid" in said


def test_the_credentials_of_a_role_work_with_their_token(local):
    sts = client(local, "sts")
    role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="session")["Credentials"]
    keys = {"aws_access_key_id": role["AccessKeyId"], "aws_secret_access_key": role["SecretAccessKey"]}
    for service, call in CALLS.items():
        assert call(client(local, service, **keys, aws_session_token=role["SessionToken"]), local)
        with pytest.raises(ClientError):
            call(client(local, service, **keys), local)


def test_the_credentials_of_a_closed_stand_in_are_refused_by_the_s3_that_runs_on(local):
    with marengo_local.serve(synthetic_sec=6.0) as other:
        assert other.secret_access_key not in (local.secret_access_key, "")
        assert CALLS["s3"](client(other, "s3"), other)["KeyCount"] == 0
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        CALLS["s3"](client(other, "s3"), other)


def test_nothing_is_read_of_a_strangers_body(local):
    """The answer comes though the body never does."""
    address = urlsplit(local.endpoint_url).netloc
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.putrequest("POST", INVOKE)
    connection.putheader("Content-Length", "90000000")
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
