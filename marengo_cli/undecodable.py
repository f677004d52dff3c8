"""Files that the stand-in can't decode: the reason alone, for people who know none of its jobs and uploads."""

from __future__ import annotations

import re

from bedrock_marengo import InputError, JobError, MarengoError, ServiceError

__all__ = ["is_lasting", "plainly"]

_OF_THE_MACHINE = re.compile("takes longer|decoder ended|memory")
"""Reasons of the stand-in's that another try may not meet: time, memory, a process that was killed."""


def plainly(error: MarengoError) -> MarengoError:
    """Why a file's content can't be embedded, without the job, the upload and the ARN; any other error as it is."""
    if isinstance(error, JobError) and error.arn and not (error.transient or error.running):
        reason = str(error).removeprefix(f"The job of {error.source} failed: ").removesuffix(f" ({error.arn})")
    elif isinstance(error, ServiceError) and error.code == "ValidationException":
        reason = str(error).partition(f"{error.code}: ")[2]
    else:
        return error
    plain = InputError(f"{reason.removesuffix('.')}.")
    plain.__cause__ = error
    return plain


def is_lasting(plain: MarengoError) -> bool:
    """Whether the same bytes can't be decoded by another try either: from ``plainly``."""
    is_of_content = plain.__cause__ is not None and "could not be decoded" in str(plain)
    return is_of_content and not _OF_THE_MACHINE.search(str(plain))
