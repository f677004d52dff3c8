"""Whether the caller may use Amazon Transcribe, without a call that costs."""

from __future__ import annotations

from bedrock_marengo.errors import error_code
from bedrock_marengo.words.transcription_jobs import NAMES, UNKNOWN
from marengo_cli.doctor.context import Context
from marengo_cli.doctor.findings import Finding, State, ask, refused

__all__ = ["jobs"]

_JOB = f"{NAMES}doctor"


def jobs(context: Context) -> Finding:
    """Whether transcription jobs can be listed and read."""
    listed = ask(lambda: context.aws.transcribe.list_transcription_jobs(MaxResults=1))
    if listed.error is not None:
        return refused(listed.error, "ListTranscriptionJobs", "transcribe:ListTranscriptionJobs", "*")
    answer = ask(lambda: context.aws.transcribe.get_transcription_job(TranscriptionJobName=_JOB))
    if answer.error is not None and error_code(answer.error) not in UNKNOWN:
        arn = f"arn:aws:transcribe:{context.aws.region}:{context.account or '*'}:transcription-job/{NAMES}*"
        return refused(answer.error, "GetTranscriptionJob", "transcribe:GetTranscriptionJob", arn)
    return Finding(State.OK, "Transcription jobs can be listed and read. None was started, which would be billed.")
