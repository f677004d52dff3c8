"""Credentials that can't be fetched: the error says which command gets them, and names the profile it is for."""

import asyncio
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from botocore.credentials import SSOProvider
from botocore.tokens import SSOTokenProvider

from bedrock_marengo import ConfigurationError, MarengoClient, ServiceError
from marengo_local import Fault

SSO = """
[profile corp]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Dev
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
"""
OLD_SSO = """
[profile corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = Dev
"""
ROLE = "role_arn = arn:aws:iam::123456789012:role/dev\n"
PROCESS = f"[profile corp]\ncredential_process = {sys.executable} -c"
KEYS = "[profile keys]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
SIGN_IN = "aws sso login --profile corp"
EXPIRED, VALID = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


@pytest.fixture
def machine(local, tmp_path, monkeypatch):
    """Writes the AWS config of a home folder, with a token from a sign-in that expires then."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config, cache = tmp_path / "config", tmp_path / "cache"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    cache.mkdir()
    for provider in (SSOTokenProvider, SSOProvider):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(cache))

    def write(text, expires=None):
        config.write_text(text.replace("{key}", local.access_key_id).replace("{secret}", local.secret_access_key))
        for name in ("corp", "https://corp.awsapps.com/start") if expires else ():
            token = {"accessToken": "x", "expiresAt": expires, "startUrl": name, "region": "us-east-1"}
            (cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(token))

    return write


@pytest.fixture
def portal(monkeypatch):
    """The SSO portal, which refuses GetRoleCredentials."""

    class Refusal(BaseHTTPRequestHandler):
        status, code = 401, "UnauthorizedException"

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("x-amzn-ErrorType", self.code)
            self.end_headers()
            self.wfile.write(b'{"message": "Session token not found or invalid"}')

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", f"http://127.0.0.1:{server.server_port}")
    yield Refusal
    server.shutdown()
    server.server_close()


CASES = {
    "no token": (SSO, None, f"SSOTokenLoadError: .*{SIGN_IN}"),
    "no token, without a session": (OLD_SSO, None, f"SSOTokenLoadError: .*{SIGN_IN}"),
    "expired": (SSO, EXPIRED, f"TokenRetrievalError: .*{SIGN_IN}"),
    "expired, without a session": (OLD_SSO, EXPIRED, f"UnauthorizedSSOTokenError: .*{SIGN_IN}"),
    "revoked": (SSO, VALID, f"UnauthorizedSSOTokenError: .*{SIGN_IN}"),
    "revoked, without a session": (OLD_SSO, VALID, f"UnauthorizedSSOTokenError: .*{SIGN_IN}"),
    "expired, of the source profile": (
        SSO.replace("corp]", "base]").replace("= corp", "= base") + f"[profile corp]\n{ROLE}source_profile = base\n",
        None,
        "aws sso login --profile base",
    ),
    "process missing": ("[profile corp]\ncredential_process = /no/such\n", None, "credential_process of profile corp"),
    "process fails": (f"{PROCESS} 'exit(3)'\n", None, "credential_process of profile corp"),
    "process prints no JSON": (f"{PROCESS} 'print(1, 2)'\n", None, "credential_process of profile corp"),
    "process prints other JSON": (f"{PROCESS} 'print([])'\n", None, "credential_process of profile corp"),
    "source_profile missing": (
        f"[profile corp]\n{ROLE}source_profile = gone\n",
        None,
        "aws configure list --profile corp",
    ),
    "source_profile without keys": (
        f"[profile corp]\n{ROLE}source_profile = base\n[profile base]\nregion = us-east-1\n",
        None,
        "aws configure list --profile corp",
    ),
    "profiles in a circle": (
        f"[profile corp]\n{ROLE}source_profile = base\n[profile base]\n{ROLE}source_profile = corp\n",
        None,
        "aws configure list --profile corp",
    ),
    "role refused": (f"[profile corp]\n{ROLE}source_profile = keys\n{KEYS}", None, "Allow sts:AssumeRole"),
    "role with MFA": (
        f"[profile corp]\n{ROLE}source_profile = keys\nmfa_serial = arn:aws:iam::1:mfa/me\n{KEYS}",
        None,
        "MFA code",
    ),
    "web identity without its token": (
        f"[profile corp]\n{ROLE}web_identity_token_file = /no/such\n",
        None,
        "web_identity_token_file",
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
@pytest.mark.parametrize(("config", "expires", "advice"), CASES.values(), ids=CASES)
def test_each_call_says_what_to_do(config, expires, advice, machine, portal, local):
    machine(config, expires)
    local.faults = [Fault("sts:AssumeRole", error="AccessDenied", message="not authorized to perform: sts:AssumeRole")]
    video, began = local.put(b"a video", "a.mp4"), time.monotonic()
    with MarengoClient(output_s3_uri=local.output_s3_uri, region_name="us-east-1", profile_name="corp") as client:
        calls = [
            lambda: client.embed_text("a dog"),
            lambda: asyncio.run(client.aembed_text("a dog")),
            lambda: client.embed_media(video),
            lambda: list(client.list_media(f"s3://{local.bucket}/")),
            lambda: client.embed_text_image("a dog", video.replace("mp4", "jpg")),
            lambda: client.playable_url(f"{video}#t=0,6&track=visual&job=0123456789abcdef"),
        ]
        for call in calls:
            with pytest.raises(ServiceError, match=advice):
                call()
        [done] = client.embed_many([video])
        assert re.search(advice, str(done.error))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("given", ["session", "environment", "role"])
def test_however_the_profile_is_given(given, machine, monkeypatch):
    machine(SSO, EXPIRED)
    settings = {"profile_name": "corp"}
    if given == "session":
        settings = {"session": boto3.Session(profile_name="corp")}
    elif given == "environment":
        monkeypatch.setenv("AWS_PROFILE", "corp")
        settings = {}
    else:
        settings["role_arn"] = "arn:aws:iam::123456789012:role/dev"
    with pytest.raises(ServiceError, match=SIGN_IN):
        MarengoClient(region_name="us-east-1", **settings).embed_text("a dog")


def test_a_role_that_is_not_assigned(machine, portal):
    machine(SSO, VALID)
    portal.status, portal.code = 403, "ForbiddenException"
    with pytest.raises(ServiceError, match="sso_role_name of profile corp: IAM Identity Center must assign this role"):
        MarengoClient(region_name="us-east-1", profile_name="corp").embed_text("a dog")


def test_a_role_whose_source_credentials_have_expired(machine, local):
    machine(f"[profile corp]\n{ROLE}source_profile = keys\n{KEYS}")
    local.faults = [Fault("sts:AssumeRole", error="ExpiredToken")]
    with pytest.raises(ServiceError, match="The credentials have expired"):
        MarengoClient(region_name="us-east-1", profile_name="corp").embed_text("a dog")


@pytest.mark.parametrize(("given", "said"), [("corp", "profile_name='corp': "), (None, "AWS_PROFILE names it")])
def test_a_profile_that_is_missing(given, said, machine, monkeypatch):
    machine("[profile other]\n")
    if given is None:
        monkeypatch.setenv("AWS_PROFILE", "corp")
    with pytest.raises(
        ConfigurationError, match=r"profile \(corp\) could not be found.*Profiles here: other\."
    ) as caught:
        MarengoClient(profile_name=given).embed_text("a dog")
    assert said in str(caught.value)


def test_a_config_file_that_is_broken(machine):
    machine("[profile corp")
    with pytest.raises(ConfigurationError, match=r"Unable to parse config file: .*Correct the AWS config file"):
        MarengoClient(region_name="us-east-1", profile_name="corp").embed_text("a dog")


def test_an_api_key_of_bedrock_needs_no_credentials(machine, local, monkeypatch):
    machine(SSO, EXPIRED)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "key")
    # Which botocore sends only over TLS.
    with pytest.raises(ServiceError, match="Bearer authorization requires an HTTPS endpoint"):
        MarengoClient(region_name="us-east-1", profile_name="corp").embed_text("a dog")
