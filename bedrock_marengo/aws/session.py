"""Sessions, lazy clients, which ID for which call, bucket owners."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.metadata import version
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound, ResponseStreamingError

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import current_token
from bedrock_marengo.aws.credentials import explained, profiles, watch_credentials
from bedrock_marengo.errors import ConfigurationError, ServiceError, error_code
from bedrock_marengo.fork_safety import hold_forks
from bedrock_marengo.validation import is_int

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient
    from mypy_boto3_s3 import S3Client

__all__ = ["Aws", "AwsSettings"]

_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_OWNER = re.compile(r"\d{12}", re.ASCII)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[!-~]+", re.ASCII)
_ROLE_SESSION = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_MASK = re.compile(r"\*+")
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")
"""From the service models of IAM and STS; an endpoint is a scheme and a host, with an optional port and path."""


SLOW_SEC = 900
"""How long Pegasus may take to answer about a long video. Public code waits 240 to 900 s; botocore 60."""

_NAMES = (
    *("region_name", "profile_name", "endpoint_url", "s3_endpoint_url", "transcribe_endpoint_url", "role_arn"),
    "role_session_name",
)
_PATTERNS = (
    ("endpoint_url", _URL, "a URL such as 'https://bedrock-runtime.us-east-1.amazonaws.com', or leave it out"),
    ("s3_endpoint_url", _URL, "a URL such as 'https://s3.us-east-1.amazonaws.com', or leave it out"),
    ("transcribe_endpoint_url", _URL, "a URL such as 'https://transcribe.us-east-1.amazonaws.com', or leave it out"),
    ("role_arn", _ROLE, "a role's ARN: arn:aws:iam::123456789012:role/name"),
    ("role_session_name", _ROLE_SESSION, "2 to 64 letters, digits and _ + = , . @ -"),
)
_OBJECTS = (
    ("session", ("client", "get_credentials"), "a boto3.Session"),
    ("config", ("merge",), "a botocore.config.Config, such as Config(read_timeout=10)"),
    ("bedrock_client", ("invoke_model", "meta"), "a client of boto3.client('bedrock-runtime')"),
)


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """How to reach AWS. All are optional: the defaults are those of boto3 and its environment variables."""

    region_name: str | None = None
    profile_name: str | None = None
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    s3_endpoint_url: str | None = None
    transcribe_endpoint_url: str | None = None
    config: Config | None = field(default=None, repr=False)
    session: boto3.Session | None = field(default=None, repr=False)
    role_arn: str | None = None
    role_session_name: str = "bedrock-marengo"
    bedrock_client: BedrockRuntimeClient | None = field(default=None, repr=False)
    bucket_owner: str | Mapping[str, str] | None = None
    max_concurrency: int = 16

    def __post_init__(self) -> None:
        for name in (*_NAMES, *_SECRETS):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigurationError("expected a string.", setting=name, value=value)
        for name in _SECRETS:
            if _MASK.fullmatch(getattr(self, name) or ""):
                raise ConfigurationError(
                    f"{{{name}}} is only the mask that a dump shows instead of a secret. Set the real credentials, or "
                    "leave them out to use the default credential chain.",
                    setting=name,
                    remedy={name: ...},
                )
        for name, pattern, advice in _PATTERNS:
            value = getattr(self, name)
            if value is not None and not pattern.fullmatch(value):
                raise ConfigurationError(f"expected {advice}.", setting=name, value=value)
        for name, members, advice in _OBJECTS:
            value = getattr(self, name)
            if value is not None and not all(hasattr(value, member) for member in members):
                raise ConfigurationError(f"expected {advice}.", setting=name, value=value)
        if not is_int(self.max_concurrency):
            raise ConfigurationError(
                "expected 1 or more calls at once (whole number).",
                setting="max_concurrency",
                value=self.max_concurrency,
            )
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ConfigurationError("Set both aws_access_key_id and aws_secret_access_key, or neither.")
        owners = self.bucket_owner
        for owner in owners.values() if isinstance(owners, Mapping) else [owners] if owners is not None else []:
            if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
                raise ConfigurationError(
                    "expected an account ID, a string of 12 digits, or a mapping of bucket to account ID.",
                    setting="bucket_owner",
                    value=owner,
                )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self.without_secrets())

    def without_secrets(self) -> AwsSettings:
        """A copy that may leave the process: without credentials, the key ID included.

        Raises:
            ConfigurationError: It has a session or client, which can't be sent to another process.
        """
        for name in ("session", "bedrock_client"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"A {name} can't be pickled: set {{region_name}}, {{profile_name}} or {{role_arn}} instead, so "
                    "that the other process can make its own.",
                    setting=name,
                    remedy=dict.fromkeys(("region_name", "profile_name", "role_arn"), ...),
                )
        return replace(self, aws_access_key_id=None, aws_secret_access_key=None, aws_session_token=None)


class Aws:
    """AWS clients, made at their first use, and the account's ID, requested once. For one process.

    Args:
        settings: how to reach AWS.
        inherited: whether this process was forked from the one that was given the settings.
    """

    def __init__(self, settings: AwsSettings, *, inherited: bool = False) -> None:
        self.settings = settings
        self._account: str | None = None
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._profile = ""
        if inherited and settings.bedrock_client is not None:
            # Its connections are shared with the parent, whose responses they would receive: it opens new ones.
            settings.bedrock_client.close()

    @property
    def bedrock(self) -> BedrockRuntimeClient:
        """The bedrock-runtime client. It doesn't retry: ``RetryLimiter`` does."""
        client: BedrockRuntimeClient = self.settings.bedrock_client or self._client(
            "bedrock-runtime", endpoint_url=self.settings.endpoint_url, retries={"total_max_attempts": 1}
        )
        return client

    @property
    def slow_bedrock(self) -> BedrockRuntimeClient:
        """The bedrock-runtime client for calls that take minutes and may be billed twice if they are repeated.

        Raises:
            ConfigurationError: The client that was given gives up too soon, or retries.
        """
        given = self.settings.bedrock_client
        if given is not None:
            _check_slow(given.meta.config)
            return given
        base: Any = self._config()
        own: dict[str, Any] = {"read_timeout": max(SLOW_SEC, base.read_timeout or 0)}
        own["retries"] = {"total_max_attempts": 1}
        client: BedrockRuntimeClient = self._client(
            "bedrock-runtime", endpoint_url=self.settings.endpoint_url, fixed=_new_config(**own)
        )
        return client

    @property
    def s3(self) -> S3Client:
        """The S3 client, with botocore's standard retries."""
        own: dict[str, Any] = {"s3": {"addressing_style": "path"}} if self.settings.s3_endpoint_url else {}
        client: S3Client = self._client(
            "s3",
            endpoint_url=self.settings.s3_endpoint_url,
            # Presigned URLs of encrypted objects need it; botocore's default for them is older in some regions.
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": 6},
            **own,
        )
        return client

    @property
    def transcribe(self) -> Any:
        """The Transcribe client. It doesn't retry: ``RetryLimiter`` does."""
        url = self.settings.transcribe_endpoint_url
        return self._client("transcribe", endpoint_url=url, retries={"total_max_attempts": 1})

    @property
    def session(self) -> boto3.Session:
        """The session that the clients are made from.

        Raises:
            ConfigurationError: There is no such profile, or there are no credentials to assume the role with.
        """
        return self._session()

    @property
    def region(self) -> str:
        """The region that calls go to.

        Raises:
            ConfigurationError: None is set anywhere.
        """
        client = self.settings.bedrock_client
        region: str | None = client.meta.region_name if client else self.settings.region_name
        region = region or self._session().region_name or os.environ.get("AWS_REGION")
        if not region:
            raise ConfigurationError(
                "No region is set: set {region_name} or AWS_DEFAULT_REGION.",
                setting="region_name",
                remedy={"region_name": "us-east-1"},
            )
        return region

    def owner(self, bucket: str) -> str:
        """The account that owns a bucket: as set, else the caller's own, from STS.

        Raises:
            ConfigurationError: Not set, and STS did not report the account.
        """
        owners = self.settings.bucket_owner
        if isinstance(owners, str):
            return owners
        if owners and bucket in owners:
            return owners[bucket]
        with self._lock:
            if self._account is None:
                self._account = self._ask_account(bucket)
            return self._account

    def close(self) -> None:
        """Close the connections of the clients we made."""
        with self._lock:
            for client in self._clients.values():
                if hasattr(client, "close"):
                    client.close()
            self._clients.clear()

    def open_client(self, service: str, config: Config, endpoint_url: str | None = None) -> Any:
        """A client that the caller closes, with these credentials and this region."""
        if endpoint_url is not None and _is_loopback(endpoint_url):
            # No proxy reaches this machine's own loopback.
            config = _new_config(proxies={}).merge(config)
        if service == "bedrock-runtime" and self.settings.aws_access_key_id is not None:
            # The keys that were given count, not a Bedrock API key in the environment, which botocore prefers.
            config = _new_config(signature_version="v4").merge(config)
        session = self._session()
        with explained(self._profile):
            client: Any = session.client(
                service,  # type: ignore[call-overload]
                region_name=self.region,
                endpoint_url=endpoint_url,
                config=config,
            )
        watch_credentials(client, session.get_credentials, self._profile)
        instrumentation.watch_requests(client)
        return client

    def _client(self, service: str, endpoint_url: str | None, *, fixed: Config | None = None, **config: Any) -> Any:
        """A client, made once. What is in ``fixed`` is not for the user's ``config`` to change."""
        name = service if fixed is None else f"slow {service}"
        with self._lock:
            if name not in self._clients:
                whole = self._config(**config)
                client = self.open_client(service, whole.merge(fixed) if fixed else whole, endpoint_url)
                client.meta.events.register(f"before-parse.{service}", _reject_foreign_response)
                client.meta.events.register_first(f"needs-retry.{service}", _stop_retries_if_cancelled)
                self._clients[name] = client
            return self._clients[name]

    def _session(self) -> boto3.Session:
        with self._lock:
            if "session" not in self._clients:
                own = self.settings.session or self._own_session()
                role = self.settings.role_arn
                self._profile = getattr(own, "profile_name", "default")
                self._clients["session"] = self._in_role(own, role) if role else own
            session: boto3.Session = self._clients["session"]
            return session

    def _own_session(self) -> boto3.Session:
        with hold_forks():
            import boto3  # 0.1 s that an import of this package must not cost

        names, profile = ("profile_name", "region_name", *_SECRETS), self.settings.profile_name
        try:
            return boto3.Session(**{name: getattr(self.settings, name) for name in names})
        except ProfileNotFound as error:
            if profile is None and self.settings.aws_access_key_id is not None:
                # AWS_PROFILE names it, and the keys that were given need no profile.
                return self._session_without_profile()
            known = ", ".join(profiles()) or "none"
            raise ConfigurationError(
                f"{error}{'' if profile else ', and AWS_PROFILE names it'}. Create it with aws configure sso or aws "
                f"configure, or use another one. Profiles here: {known}.",
                setting="profile_name" if profile else None,
                value=profile,
            ) from error
        except BotoCoreError as error:
            raise ConfigurationError(f"{error}. Correct the AWS config file.") from error

    def _session_without_profile(self) -> boto3.Session:
        import boto3
        from botocore.session import Session

        names = ("region_name", *_SECRETS)
        inner = Session(session_vars={"profile": (None, None, None, None)})
        return boto3.Session(botocore_session=inner, **{name: getattr(self.settings, name) for name in names})

    def _in_role(self, own: boto3.Session, role_arn: str) -> boto3.Session:
        """A session with a role's credentials, which botocore refreshes before they expire."""
        import boto3
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
        from botocore.session import Session

        region = self.settings.region_name or own.region_name
        with explained(self._profile):
            source = own.get_credentials()
        if source is None:
            raise ConfigurationError(
                "there are no credentials to assume the role with.", setting="role_arn", value=role_arn
            )
        fetcher = AssumeRoleCredentialFetcher(
            functools.partial(own.client, region_name=region),
            source,
            role_arn,
            extra_args={"RoleSessionName": self.settings.role_session_name},
        )
        inner = Session()
        inner._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")  # type: ignore[attr-defined]
        return boto3.Session(botocore_session=inner, region_name=region)

    def _config(self, **ours: Any) -> Config:
        # In addition to the calls, 64 files of a run and 64 awaited ones have their own threads. A smaller pool would
        # close connections after each call, with a warning.
        pool = self.settings.max_concurrency + 2 * 64
        base = _new_config(max_pool_connections=pool, tcp_keepalive=True, user_agent=_user_agent(), **ours)
        return base.merge(self.settings.config) if self.settings.config else base

    def _ask_account(self, bucket: str) -> str:
        config = _new_config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2})
        with closing(self.open_client("sts", config)) as sts:
            try:
                return str(sts.get_caller_identity()["Account"])
            except (BotoCoreError, ClientError) as error:
                if hasattr(error, "advice"):
                    # It is about the credentials, without which no other call would work, either.
                    raise ServiceError.of(error, "GetCallerIdentity", f"bucket {bucket!r}") from error
                raise ConfigurationError(
                    f"Bedrock needs the account that owns bucket {bucket!r}, and STS did not return yours "
                    f"({error_code(error)}): set {{bucket_owner}}, or a mapping of bucket to account.",
                    setting="bucket_owner",
                    remedy={"bucket_owner": "123456789012"},
                ) from error


def _new_config(**options: Any) -> Config:
    from botocore.config import Config  # 0.2 s that an import of this package must not cost

    return Config(**options)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reject_foreign_response(response_dict: dict[str, Any], operation_model: Any, **_: Any) -> None:
    """Have botocore retry a response that is not the service's, such as a proxy's page with status 200.

    botocore would read it as a response without members: a listing would show that nothing exists.
    """
    is_genuine = _IS_GENUINE.get(operation_model.name)
    if is_genuine is not None and response_dict["status_code"] == 200 and not is_genuine(response_dict):
        response_dict["status_code"], response_dict["body"] = 502, b""


def _stop_retries_if_cancelled(response: Any, caught_exception: Exception | None, **_: Any) -> None:
    """Stop botocore's retries, which may take minutes, of a call that was cancelled."""
    token = current_token()
    if token is not None and (caught_exception is not None or response[0].status_code >= 500):
        token.check("A call that failed")


def _check_slow(config: Any) -> None:
    if (config.read_timeout or SLOW_SEC) < SLOW_SEC or (config.retries or {}).get("total_max_attempts") != 1:
        raise ConfigurationError(
            f"Pegasus takes minutes, and a call that is repeated may be billed twice: make this client with "
            f"Config(read_timeout={SLOW_SEC}, retries={{'total_max_attempts': 1}}), or leave it out.",
            setting="bedrock_client",
        )


_IS_GENUINE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "ListObjectsV2": lambda reply: b"ListBucketResult" in reply["body"],
    "PutObject": lambda reply: "etag" in reply["headers"],
    **dict.fromkeys(
        (
            *("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes"),
            *("StartTranscriptionJob", "GetTranscriptionJob", "ListTranscriptionJobs"),
        ),
        lambda reply: reply["body"].lstrip()[:1] == b"{",
    ),
}


@cache
def _user_agent() -> str:
    # botocore would build its own for each call: a sixth of the call's CPU time.
    versions = ((name, version(name)) for name in ("boto3", "botocore", "bedrock-marengo"))
    return " ".join(f"{name}/{number}" for name, number in versions)


AWS_FIELDS = frozenset(f.name for f in fields(AwsSettings))


def require_member(reply: Any, name: str) -> Any:
    """The response, if it is complete: from a truncated JSON body, botocore makes a response without its members."""
    if name not in reply:
        raise ResponseStreamingError(error=f"the response was cut off before {name}")
    return reply
