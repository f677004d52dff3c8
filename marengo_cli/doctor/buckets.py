"""Whether the buckets exist, in the model's region, and may be listed, read and written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from bedrock_marengo import ConfigurationError, MediaNotFoundError, ServiceError
from bedrock_marengo.contract.inputs import kind_of_name, split_s3_uri
from bedrock_marengo.errors import error_code, http_status
from bedrock_marengo.s3.objects import ARCHIVED
from marengo_cli.doctor.context import Context, bucket_of
from marengo_cli.doctor.findings import Finding, State, ask, refused, worst
from marengo_cli.spelling import rendered

__all__ = ["key", "listing", "output", "owner", "places", "reading"]

_PROBE = b"marengo doctor wrote this to test its permissions. It can be deleted."
_NO_BUCKET = Finding(
    State.SKIPPED,
    "No bucket was passed.",
    "Pass sources, such as s3://bucket/videos/, and pass --output-s3-uri s3://bucket/marengo/.",
)


def places(context: Context) -> Finding:
    """Whether the buckets exist, in the model's region."""
    if not context.buckets:
        return _NO_BUCKET
    found = (_place(context, bucket) for bucket in context.buckets)
    where = (
        "there; files in other regions are copied to the staging prefix"
        if context.staging_s3_uri
        else "there, in the model's region"
    )
    return worst(found, f"{', '.join(context.buckets)}: {where}.")


def owner(context: Context) -> Finding:
    """Whether the buckets belong to the account that requests name."""
    if not context.buckets:
        return _NO_BUCKET
    try:
        owners = {bucket: context.aws.owner(bucket) for bucket in context.buckets}
    except ConfigurationError as error:
        return Finding(State.FAILED, rendered(error), error=error)
    found = (_owned(context, uri, owners[bucket_of(uri)]) for uri in (*context.sources, *context.written))
    return worst(found, f"{'; '.join(f'{bucket}: account {account}' for bucket, account in owners.items())}.")


def listing(context: Context) -> Finding:
    """Whether sources can be listed, and what is there."""
    if not context.sources:
        return Finding(State.SKIPPED, "No sources were passed.", "Pass some, such as s3://bucket/videos/.")
    findings = [_listed(context, source) for source in context.sources]
    return worst(findings, f"{'; '.join(context.media.values())}: there.")


def reading(context: Context) -> Finding:
    """Whether the first media file of each source can be read: its first byte."""
    if not context.media:
        return Finding(State.SKIPPED, "There is no media file to read.", "Pass a source that has one.")
    found = [_read(context, uri) for uri in context.media.values()]
    return worst(found, f"{'; '.join(context.media.values())}: the first byte was read.")


def output(context: Context) -> Finding:
    """Whether the output prefix, and the staging prefix, can be listed, written, read and cleaned up."""
    if context.output is None:
        return Finding(State.SKIPPED, "No output prefix was passed.", "Pass --output-s3-uri s3://bucket/marengo/.")
    found = [_kept(context, uri) for uri in context.written]
    return worst(found, f"{'; '.join(context.written)}: listed, written, read and deleted.")


def key(context: Context) -> Finding:
    """Whether outputs can be encrypted with the key, and read back."""
    if context.kms_key_id is None or context.output is None:
        return Finding(State.OK, "No key was passed: outputs are encrypted as their bucket is configured.")
    region = context.kms_key_id.split(":")[3]
    if region != context.aws.region:
        return Finding(State.FAILED, f"The key is in {region}, the model in {context.aws.region}.", "Use a key there.")
    return _written(context, context.output, ServerSideEncryption="aws:kms", SSEKMSKeyId=context.kms_key_id)


def _place(context: Context, bucket: str) -> Finding:
    may_be_elsewhere = context.staging_s3_uri is not None and bucket not in map(bucket_of, context.written)
    try:
        (context.objects.is_elsewhere if may_be_elsewhere else context.objects.check_bucket)(bucket)
    except MediaNotFoundError as error:
        return Finding(State.FAILED, str(error), "Create it, or correct its name.", error=error)
    except ConfigurationError as error:
        return Finding(State.FAILED, rendered(error), error=error)
    except ServiceError as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return refused(cause, f"HeadBucket {bucket}", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    return Finding(State.OK, bucket)


def _owned(context: Context, uri: str, account: str) -> Finding:
    s3: Any = context.aws.s3
    bucket, prefix = split_s3_uri(uri)
    # A listing, because the least policy allows ListBucket below the prefix only, and a HEAD has no prefix.
    where = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1}
    error = ask(lambda: s3.list_objects_v2(**where, ExpectedBucketOwner=account)).error
    if error is None:
        return Finding(State.OK, bucket)
    if http_status(error) == 403 and ask(lambda: s3.list_objects_v2(**where)).error is None:
        found = f"{bucket} does not belong to account {account}."
        return Finding(State.FAILED, found, "Pass the account that owns it: --bucket-owner.", error=error)
    found = f"{bucket}: S3 did not report its owner ({error_code(error)})."
    return Finding(State.UNKNOWN, found, f"Allow s3:ListBucket on arn:aws:s3:::{bucket}.", error=error)


def _listed(context: Context, source: str) -> Finding:
    bucket, prefix = split_s3_uri(source)
    many = not prefix or prefix.endswith("/")
    # One page: the doctor does not wait for a million keys.
    most = 1000 if many else 1
    answer = ask(lambda: context.aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=most))
    if answer.error is not None:
        return refused(answer.error, f"ListObjectsV2 {source}", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    items = answer.reply.get("Contents", [])
    name = next((item["Key"] for item in items if _is_medium(item) and (many or item["Key"] == prefix)), None)
    if name is not None:
        context.media[source] = f"s3://{bucket}/{name}"
        return Finding(State.OK, source)
    if not many:
        fix = "Pass an object, or a prefix that ends in '/'."
        return Finding(State.FAILED, f"{source}: there is no media file.", fix)
    more = " on the first page" if answer.reply.get("IsTruncated") else ""
    found = f"{source}: {len(items)} objects{more}, no media files among them."
    return Finding(State.WARNING, found, "Correct the prefix, or put media there.")


def _is_medium(item: Any) -> bool:
    return kind_of_name(item["Key"]) is not None and item["Size"] > 0 and item.get("StorageClass") not in ARCHIVED


def _read(context: Context, uri: str) -> Finding:
    bucket, name = split_s3_uri(uri)
    answer = ask(lambda: context.aws.s3.get_object(Bucket=bucket, Key=name, Range="bytes=0-0")["Body"].read())
    if answer.error is not None:
        return refused(answer.error, f"GetObject {uri}", "s3:GetObject", f"arn:aws:s3:::{bucket}/{name}")
    return Finding(State.OK, uri)


def _kept(context: Context, uri: str) -> Finding:
    bucket, prefix = split_s3_uri(uri)
    answer = ask(lambda: context.aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1))
    if answer.error is not None:
        return refused(answer.error, f"ListObjectsV2 {uri}", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    return _written(context, uri)


def _written(context: Context, below: str, **encryption: str) -> Finding:
    """Put, get and delete an object below a prefix."""
    s3: Any = context.aws.s3
    bucket, prefix = split_s3_uri(below)
    where = {"Bucket": bucket, "Key": f"{prefix}marengo-doctor-{uuid4().hex}"}
    uri, resource = f"s3://{bucket}/{where['Key']}", f"arn:aws:s3:::{bucket}/{prefix}*"
    put = ask(lambda: s3.put_object(**where, Body=_PROBE, **encryption))
    if put.error is not None and http_status(put.error) is not None:
        return refused(put.error, f"PutObject {uri}", "s3:PutObject", resource)
    # A put without a response may have succeeded: it is cleaned up nevertheless.
    got = ask(lambda: s3.get_object(**where)["Body"].read())
    gone = ask(lambda: s3.delete_object(**where))
    for answer, operation in ((put, "PutObject"), (got, "GetObject")):
        if answer.error is not None:
            return refused(answer.error, f"{operation} {uri}", f"s3:{operation}", resource)
    if gone.error is not None:
        finding = refused(gone.error, f"DeleteObject {uri}", "s3:DeleteObject", resource)
        fix = f"{finding.fix} marengo forget and --staging-s3-uri need it. {uri} was left there: delete it."
        return replace(finding, state=State.WARNING, fix=fix)
    return Finding(State.OK, f"{below}: written, read and deleted{' with the key' if encryption else ''}.")
