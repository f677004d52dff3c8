"""What the doctor examines, and what it has found so far."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from botocore.config import Config

from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Model
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.words.pegasus_contract import PegasusModel
from marengo_cli.doctor.findings import Answer, ask
from marengo_cli.doctor.policy import least_policy

__all__ = ["CONFIG", "Context", "bucket_of"]

CONFIG = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 1})
"""Short timeouts and no retries: the doctor reports what happened, and pays for nothing twice."""
_SECRET_LETTERS = 16
"""AWS's shortest: an access key's ID, from IAM's API reference."""


@dataclass(eq=False, kw_only=True)
class Context:
    """The settings under examination.

    Attributes:
        aws: the same clients that the package would use.
        model: which Marengo.
        invoke_model_id: the ID that InvokeModel gets, if the user named one.
        sources: S3 URIs of objects and prefixes, possibly none.
        output: the output prefix, ending in a slash.
        staging_s3_uri: the prefix that media of other regions are copied to, ending in a slash.
        kms_key_id: ARN of the key that outputs are encrypted with.
        invoke: whether one text may be paid for.
        pegasus: which Pegasus, if it is used.
        transcribe: whether Amazon Transcribe is used, too.
        today: this machine's date.
        account: the caller's; None if STS has not reported it.
        subscribed: whether the account has accepted the model's terms; None if AWS has not reported it.
        media: source -> the first media file there.
        secrets: what must not be shown -> what is shown instead.
    """

    aws: Aws
    model: Model
    invoke_model_id: str | None = None
    sources: Sequence[str] = ()
    output: str | None = None
    staging_s3_uri: str | None = None
    kms_key_id: str | None = None
    invoke: bool = False
    pegasus: PegasusModel | None = None
    transcribe: bool = False
    today: Callable[[], date] = lambda: datetime.now(UTC).date()
    account: str | None = None
    subscribed: bool | None = None
    media: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def objects(self) -> S3Objects:
        """S3, as the package uses it."""
        return S3Objects(self.aws, RetryLimiter(1))

    @cached_property
    def caller(self) -> Answer:
        """What STS reports about these credentials."""
        return ask(lambda: self.aws.open_client("sts", CONFIG).get_caller_identity())

    @cached_property
    def listed(self) -> Answer:
        """What Bedrock answers to a listing of one job."""
        return ask(lambda: self.aws.bedrock.list_async_invokes(maxResults=1))

    @property
    def control_plane(self) -> Any:
        """A client of Bedrock's control plane: where the runtime is, unless the environment says otherwise."""
        url = None if "AWS_ENDPOINT_URL_BEDROCK" in os.environ else self.aws.settings.endpoint_url
        return self.aws.open_client("bedrock", CONFIG, url)

    @property
    def invoke_id(self) -> str:
        """The ID that InvokeModel gets.

        Raises:
            ConfigurationError: Marengo isn't in the region.
        """
        return self.invoke_model_id or self.model.invoke_id(self.aws.region)

    @property
    def written(self) -> list[str]:
        """The prefixes that are written to."""
        return [uri for uri in (self.output, self.staging_s3_uri) if uri]

    @property
    def buckets(self) -> list[str]:
        """All buckets, each once."""
        return list(dict.fromkeys(map(bucket_of, [*self.sources, *self.written])))

    def policy(self) -> dict[str, Any]:
        """The least IAM policy for these settings; for any account if the caller's is not known.

        Raises:
            ConfigurationError: No region, or one without Marengo.
        """
        return least_policy(
            model=self.model,
            region=self.aws.region,
            invoke_id=self.invoke_id,
            account=self.account,
            read=self.sources,
            written=self.written,
            kms_key_id=self.kms_key_id,
            pegasus=self.pegasus,
            transcribe=self.transcribe,
        )

    def hide(self, secret: str | None, shown: str) -> None:
        """Show something else instead of a secret; short ones are made up, for a stand-in, and may be words."""
        if secret and len(secret) >= _SECRET_LETTERS:
            self.secrets[secret] = shown

    def hidden(self, text: str) -> str:
        """A text without secrets."""
        for secret, shown in self.secrets.items():
            text = text.replace(secret, shown)
        return text


def bucket_of(uri: str) -> str:
    """``s3://bucket/key`` -> ``bucket``."""
    return split_s3_uri(uri)[0]
