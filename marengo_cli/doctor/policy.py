"""The least IAM policy for what the package does with given buckets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Model
from bedrock_marengo.words.pegasus_contract import PegasusModel
from bedrock_marengo.words.transcription_jobs import NAMES

__all__ = ["least_policy"]

Statement = dict[str, Any]
Place = tuple[str, str]
"""A bucket, and a pattern for the keys in it."""


def least_policy(
    *,
    model: Model,
    region: str,
    invoke_id: str,
    account: str | None = None,
    read: Sequence[str] = (),
    written: Sequence[str] = (),
    kms_key_id: str | None = None,
    pegasus: PegasusModel | None = None,
    transcribe: bool = False,
) -> dict[str, Any]:
    """An identity-based policy, ready for ``json.dumps``.

    Args:
        model: which Marengo.
        region: where it is used.
        invoke_id: what InvokeModel gets: the model's ID, a profile's, or an ARN.
        account: the caller's; None means any (``*``).
        read: S3 URIs of objects and prefixes with media.
        written: S3 URIs of the output prefix and the staging prefix.
        kms_key_id: ARN of the key or alias that outputs are encrypted with.
        pegasus: which Pegasus, if it is used.
        transcribe: whether Amazon Transcribe is used, which reads and writes S3 with the caller's rights.
    """
    inputs, outputs = list(map(_place, read)), list(map(_place, written))
    statements = [
        *_bedrock(model, region, invoke_id, account or "*"),
        *([_pegasus(pegasus, region, account or "*")] if pegasus else []),
        *(_transcribe(region, account or "*") if transcribe else []),
        *_listing([*inputs, *outputs]),
        *_objects("ReadMedia", ["s3:GetObject"], inputs),
        *_objects("KeepOutputs", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], outputs),
        *([_key(kms_key_id)] if kms_key_id else []),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _bedrock(model: Model, region: str, invoke_id: str, account: str) -> list[Statement]:
    jobs = f"arn:aws:bedrock:{region}:{account}:async-invoke/*"
    profile = _profile(model, region, invoke_id, account)
    # A profile may forward a call to other regions of its geography: AWS's own policy for Marengo has * there.
    models = f"arn:aws:bedrock:{'*' if profile else region}::foundation-model/{model.model_id}"
    return [
        # StartAsyncInvoke has no action of its own: it needs this one, on the model and on the job.
        _allow("UseMarengo", ["bedrock:InvokeModel"], [models, *([profile] if profile else []), jobs]),
        _allow("FollowJobs", ["bedrock:GetAsyncInvoke"], [jobs]),
        _allow("AskBedrock", ["bedrock:ListAsyncInvokes", "bedrock:GetFoundationModelAvailability"], ["*"]),
    ]


def _pegasus(model: PegasusModel, region: str, account: str) -> Statement:
    invoke_id = model.invoke_id(region)
    is_profile = invoke_id != model.model_id
    # A profile forwards a call to other regions; a global one to a resource without a region, too.
    models = [f"arn:aws:bedrock:{'*' if is_profile else region}::foundation-model/{model.model_id}"]
    if invoke_id.startswith("global."):
        models.append(f"arn:aws:bedrock:::foundation-model/{model.model_id}")
    if is_profile:
        models.append(f"arn:aws:bedrock:{region}:{account}:inference-profile/{invoke_id}")
    return _allow("UsePegasus", ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"], models)


def _transcribe(region: str, account: str) -> list[Statement]:
    jobs = f"arn:aws:transcribe:{region}:{account}:transcription-job/{NAMES}*"
    actions = ["transcribe:StartTranscriptionJob", "transcribe:GetTranscriptionJob"]
    return [_allow("Transcribe", actions, [jobs]), _allow("AskTranscribe", ["transcribe:ListTranscriptionJobs"], ["*"])]


def _profile(model: Model, region: str, invoke_id: str, account: str) -> str | None:
    if invoke_id == model.model_id or ":foundation-model/" in invoke_id:
        return None
    if invoke_id.startswith("arn:"):
        return invoke_id
    return f"arn:aws:bedrock:{region}:{account}:inference-profile/{invoke_id}"


def _listing(places: Iterable[Place]) -> Iterator[Statement]:
    patterns: dict[str, list[str]] = {}
    for bucket, pattern in places:
        patterns.setdefault(bucket, []).append(pattern)
    for number, (bucket, those) in enumerate(patterns.items(), 1):
        statement = _allow(f"ListBucket{number}", ["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"])
        if "*" not in those:
            statement["Condition"] = {"StringLike": {"s3:prefix": list(dict.fromkeys(those))}}
        yield statement


def _objects(sid: str, actions: list[str], places: Iterable[Place]) -> Iterator[Statement]:
    arns = list(dict.fromkeys(f"arn:aws:s3:::{bucket}/{pattern}" for bucket, pattern in places))
    if arns:
        yield _allow(sid, actions, arns)


def _key(arn: str) -> Statement:
    actions = ["kms:GenerateDataKey", "kms:Decrypt"]
    keys, _, alias = arn.partition(":alias/")
    if not alias:
        return _allow("UseKey", actions, [arn])
    # In IAM an alias is not a resource but a condition on the keys.
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": [f"alias/{alias}"]}}
    return {**_allow("UseKey", actions, [f"{keys}:key/*"]), "Condition": condition}


def _place(uri: str) -> Place:
    """A prefix with all below it, or an object with the captions next to it."""
    bucket, key = split_s3_uri(uri)
    if not key or key.endswith("/"):
        return bucket, f"{_literal(key)}*"
    suffix = PurePosixPath(key).suffix
    return bucket, f"{_literal(key.removesuffix(suffix))}{'.' if suffix else ''}*"


def _literal(key: str) -> str:
    return re.sub(r"[*?$]", r"${\g<0>}", key)


def _allow(sid: str, actions: list[str], resources: list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
