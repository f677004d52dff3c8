"""Which jobs are started or done, for all files at once: one listing of the output prefix, 8 bytes a job."""

from __future__ import annotations

import re
from array import array
from typing import Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo.s3.objects import S3Objects

__all__ = ["JobIndex", "State"]

State = Literal["absent", "started", "done"]

_WORK = re.compile(r"[0-9a-f]{16}/([0-9a-f]{16})/(request\.json|[^/]+/(?:output|void)\.json)")


class JobIndex:
    """The jobs that have a request.json or an output.json under an output prefix, by the job's id.

    4 MB for 500,000 jobs. A snapshot, which does not show what other processes do later: "absent" is checked again
    before a start, and only "done" saves a listing.
    """

    def __init__(self, started: npt.NDArray[np.uint64], done: npt.NDArray[np.uint64]) -> None:
        self._started = started
        self._done = done

    @classmethod
    def load(cls, objects: S3Objects, output_s3_uri: str) -> JobIndex:
        """List the output prefix, 1,000 objects a call.

        Raises:
            ServiceError: AWS refused to list, which does not show that anything is absent.
        """
        prefix = f"{output_s3_uri.rstrip('/')}/"
        jobs = {name: array("Q") for name in ("request.json", "output.json", "void.json")}
        for item in objects.list(prefix):
            if match := _WORK.fullmatch(item.uri, len(prefix)):
                jobs[match[2].rpartition("/")[2]].append(int(match[1], 16))
        started, done, void = jobs.values()
        # A job with an unusable output may have a good one, too: "started", so that it is checked.
        return cls(_sorted(started), np.setdiff1d(_sorted(done), _sorted(void)))

    def state(self, fingerprint: str) -> State:
        """How far a job was when the listing was made."""
        job = int(fingerprint[:16], 16)
        return "done" if _holds(self._done, job) else "started" if _holds(self._started, job) else "absent"


def _sorted(jobs: array[int]) -> npt.NDArray[np.uint64]:
    return np.unique(np.frombuffer(jobs, np.uint64)) if jobs else np.empty(0, np.uint64)


def _holds(jobs: npt.NDArray[np.uint64], job: int) -> bool:
    at = int(np.searchsorted(jobs, np.uint64(job)))
    return at < len(jobs) and int(jobs[at]) == job
