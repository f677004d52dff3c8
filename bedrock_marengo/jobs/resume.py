"""A job taken up in another process: by its ARN, or by what lies on S3."""

from __future__ import annotations

from bedrock_marengo.aws.retries import UNKNOWN_JOB
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Kind, Model
from bedrock_marengo.errors import ConfigurationError, InputError, JobError, OutputError, ServiceError
from bedrock_marengo.jobs.fingerprint import RequestFile
from bedrock_marengo.jobs.job import Job
from bedrock_marengo.jobs.runner import Jobs
from bedrock_marengo.validation import short_repr

__all__ = ["resume_job"]

_REQUEST = "/request.json"
_OUTPUT = "/output.json"


def resume_job(jobs: Jobs, model: Model, name: str) -> Job:
    """The job that an ARN, or the S3 URI of its output.json or request.json, names.

    Raises:
        InputError: Neither.
        JobError: Bedrock does not know the ARN.
        OutputError: No request.json of ours, no such output, or one that was found useless.
        ConfigurationError: A job of another model.
        ServiceError: AWS refused.
    """
    if not isinstance(name, str):
        raise InputError(f"{short_repr(name)} names no job: give an invocation's ARN, or the URI of its output.json.")
    output = name if name.endswith(_OUTPUT) else None
    folder = _folder(name) if name.startswith("s3://") else _folder_of_arn(jobs, name)
    record = _record(jobs, f"{folder}/")
    if record.model_id != model.model_id:
        raise ConfigurationError(
            f"{name} is a job of {record.model_id}: use a client with {{model}}.", remedy={"model": record.model_id}
        )
    if output is not None and output not in jobs.outputs(f"{folder}/"):
        raise OutputError(f"{output} is not there, or was found useless: a later attempt has the output.")
    kind: Kind = record.request["kind"]
    arn = record.arn if name.startswith("s3://") else name
    return Job(record.uri, kind, record.fingerprint, f"{folder}/", arn, output, joined=True, _ask=jobs.ask)


def _folder(uri: str) -> str:
    """The work folder, without a slash, that a file's URI lies in."""
    split_s3_uri(uri)
    for name, depth in ((_REQUEST, 1), (_OUTPUT, 2)):
        if uri.endswith(name):
            return uri.rsplit("/", depth)[0]
    raise InputError(f"{uri!r} names no job: give an invocation's ARN, or the URI of its output.json or request.json.")


def _folder_of_arn(jobs: Jobs, arn: str) -> str:
    if ":async-invoke/" not in arn:
        raise InputError(f"{arn!r} names no job: give an invocation's ARN, or the URI of its output.json.")
    try:
        return jobs.get_invocation(arn, arn).folder.rstrip("/").rsplit("/", 1)[0]
    except ServiceError as error:
        if error.code not in UNKNOWN_JOB:
            raise
        raise JobError(
            f"Bedrock does not know {arn}: it may have been forgotten. Its output's URI names the job, too.",
            source=arn,
            arn=arn,
        ) from error


def _record(jobs: Jobs, prefix: str) -> RequestFile:
    try:
        return jobs.read_record(prefix)[0]
    except ServiceError as error:
        if error.code != "NoSuchKey":
            raise
        raise OutputError(f"{prefix}request.json is not there: no job of ours, or one that was forgotten.") from error
