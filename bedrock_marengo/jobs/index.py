"""What is done already, for all media at once: one listing of the output prefix, 8 bytes a job."""

from __future__ import annotations

import re
from array import array
from typing import Literal

import numpy as np
import numpy.typing as npt
from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import ServiceError

__all__ = ["JobIndex", "State"]

State = Literal["absent", "begun", "done"]

_WORK = re.compile(r"[0-9a-f]{16}/([0-9a-f]{16})/(request\.json|[^/]+/(?:output|void)\.json)")


class JobIndex:
    """The jobs that have a request.json or an output.json under an output prefix, by the job's id.

    4 MB for 500,000 jobs. A snapshot: what others do meanwhile it does not see, so "absent" is looked at once more
    before a start, and only "done" saves a look.
    """

    def __init__(self, begun: npt.NDArray[np.uint64], done: npt.NDArray[np.uint64]) -> None:
        self._begun = begun
        self._done = done

    @classmethod
    def load(cls, aws: Aws, output_s3_uri: str) -> JobIndex:
        """List the output prefix, 1,000 objects a call.

        Raises:
            ServiceError: AWS would not list: nothing is proven absent.
        """
        bucket, key = split_s3_uri(f"{output_s3_uri.rstrip('/')}/")
        begun, done, void = array("Q"), array("Q"), array("Q")
        try:
            for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for item in page.get("Contents", []):
                    match = _WORK.fullmatch(item["Key"], len(key))
                    if match:
                        kind = match[2].rpartition("/")[2]
                        {"request.json": begun, "output.json": done, "void.json": void}[kind].append(int(match[1], 16))
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "ListObjectsV2", output_s3_uri) from error
        # A job with an output of no use may have a good one, too: begun, so that it is looked at.
        return cls(_sorted(begun), np.setdiff1d(_sorted(done), _sorted(void)))

    def state(self, fingerprint: str) -> State:
        """How far the work of a fingerprint was when the listing was made."""
        job = int(fingerprint[:16], 16)
        return "done" if _holds(self._done, job) else "begun" if _holds(self._begun, job) else "absent"


def _sorted(jobs: array[int]) -> npt.NDArray[np.uint64]:
    return np.unique(np.frombuffer(jobs, np.uint64)) if jobs else np.empty(0, np.uint64)


def _holds(jobs: npt.NDArray[np.uint64], job: int) -> bool:
    at = int(np.searchsorted(jobs, np.uint64(job)))
    return at < len(jobs) and int(jobs[at]) == job
