"""A job that another process started: found by its ARN, or by the URI of its output."""

from __future__ import annotations

from bedrock_marengo.aws.retries import UNKNOWN_JOB
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Kind, Model
from bedrock_marengo.errors import ConfigurationError, InputError, JobError, OutputError, ServiceError
from bedrock_marengo.jobs.fingerprint import RequestFile
from bedrock_marengo.jobs.job import OUTPUT_NAME, Job
from bedrock_marengo.jobs.runner import JobRunner
from bedrock_marengo.validation import short_repr

__all__ = ["resume_job"]

_REQUEST_NAME = "/request.json"
_EXPECTED = "expected an invocation's ARN, or the S3 URI of its output.json or request.json."


def resume_job(runner: JobRunner, model: Model, name: str) -> Job:
    """The job that an ARN, or the S3 URI of its output.json or request.json, names.

    Raises:
        InputError: Neither.
        JobError: Bedrock does not know the ARN.
        OutputError: No request.json of this package, no such output, or one that is marked unusable.
        ConfigurationError: A job of another model.
        ServiceError: AWS refused.
    """
    if not isinstance(name, str):
        raise InputError(f"{short_repr(name)} does not name a job: {_EXPECTED}")
    output = name if name.endswith(OUTPUT_NAME) else None
    folder = _folder(name) if name.startswith("s3://") else _folder_of_arn(runner, name)
    record = _request(runner, f"{folder}/")
    if record.model_id != model.model_id:
        raise ConfigurationError(
            f"{name} is a job for {record.model_id}: use a client with {{model}}.",
            remedy={"model": record.model_id},
        )
    if output is not None and output not in runner.outputs(f"{folder}/"):
        raise OutputError(f"{output} does not exist, or is marked unusable: a later attempt has the output.")
    kind: Kind = record.request["kind"]
    arn = record.arn if name.startswith("s3://") else name
    return Job(record.uri, kind, record.fingerprint, f"{folder}/", arn, output, joined=True, _ask=runner.ask)


def _folder(uri: str) -> str:
    """The job's folder, without a slash, that a file is in."""
    split_s3_uri(uri)
    for name, depth in ((_REQUEST_NAME, 1), (OUTPUT_NAME, 2)):
        if uri.endswith(name):
            return uri.rsplit("/", depth)[0]
    raise InputError(f"{uri!r} does not name a job: {_EXPECTED}")


def _folder_of_arn(runner: JobRunner, arn: str) -> str:
    if ":async-invoke/" not in arn:
        raise InputError(f"{arn!r} does not name a job: {_EXPECTED}")
    try:
        return runner.get_invocation(arn).folder.rstrip("/").rsplit("/", 1)[0]
    except ServiceError as error:
        if error.code not in UNKNOWN_JOB:
            raise
        raise JobError(
            f"Bedrock does not know {arn}: it may have expired. Pass the S3 URI of its output.json instead.",
            source=arn,
            arn=arn,
        ) from error


def _request(runner: JobRunner, prefix: str) -> RequestFile:
    try:
        return runner.read_request(prefix)[0]
    except ServiceError as error:
        if error.code != "NoSuchKey":
            raise
        raise OutputError(
            f"{prefix}request.json does not exist: this is not a job of this package, or forget() deleted it."
        ) from error
