"""Which jobs are started or done, for all files at once: one listing of the output prefix, 24 bytes a job."""

from __future__ import annotations

import re
from array import array
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.jobs.job import OUTPUT_NAME
from bedrock_marengo.jobs.work_folder import Contents
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["JobIndex", "State"]

State = Literal["absent", "started", "done"]

_WORK = re.compile(r"[0-9a-f]{16}/([0-9a-f]{16})/(?:(request\.json|words\.json)|([^/]+)/(output|void)\.json)")
_ID_BYTES = 12
"""Characters of an invocation's id. Longer ones are found by a listing of their folder."""

_Jobs = npt.NDArray[np.uint64]


class JobIndex:
    """The jobs that have a request.json or an output.json under an output prefix, by the job's id; and the words that
    have a words.json, as started.

    12 MB for 500,000 jobs. A snapshot, which does not show what other processes do later: "absent" is checked again
    before a start, and an output may be gone when it is read.

    Args:
        started: jobs with a request.json, sorted.
        request_bytes: the size of each.
        done: jobs with an output, sorted.
        invocations: the newest output's invocation id for each.
    """

    def __init__(
        self,
        started: _Jobs,
        request_bytes: npt.NDArray[np.uint32],
        done: _Jobs,
        invocations: npt.NDArray[np.bytes_],
    ) -> None:
        self._started = started
        self._request_bytes = request_bytes
        self._done = done
        self._invocations = invocations

    @classmethod
    def load(cls, objects: S3Objects, output_s3_uri: str) -> JobIndex:
        """List the output prefix, 1,000 objects a call.

        Raises:
            ServiceError: AWS refused to list, which does not show that anything is absent.
        """
        prefix = f"{output_s3_uri.rstrip('/')}/"
        started, sizes, done, void, modified, ids = (
            array("Q"), array("Q"), array("Q"), array("Q"), array("d"), bytearray()
        )  # fmt: skip
        for item in objects.list(prefix):
            match = _WORK.fullmatch(item.uri, len(prefix))
            if match is None:
                continue
            job = int(match[1], 16)
            if match[2]:
                started.append(job)
                sizes.append(item.size)
            elif match[4] == "void":
                void.append(job)
            else:
                done.append(job)
                modified.append(item.modified.timestamp() if item.modified else 0.0)
                name = match[3].encode()
                ids += (name if len(name) <= _ID_BYTES else b"").ljust(_ID_BYTES, b"\0")
        jobs, at = np.unique(_array(started, np.uint64), return_index=True)
        request_bytes = _array(sizes, np.uint64)[at].astype(np.uint32)
        outputs = _array(done, np.uint64)
        newest = np.lexsort((_array(modified, np.float64), outputs))
        outputs, names = outputs[newest], np.frombuffer(bytes(ids), f"S{_ID_BYTES}")[newest]
        # The last of each job. One with an unusable output may have a good one, too: "started", so that it is checked.
        keep = np.append(outputs[1:] != outputs[:-1], True)[: len(outputs)] & ~np.isin(outputs, _array(void, np.uint64))
        return cls(jobs, request_bytes, outputs[keep], names[keep])

    def state(self, fingerprint: str) -> State:
        """How far a job was when the listing was made."""
        job = int(fingerprint[:16], 16)
        return (
            "done"
            if _find(self._done, job) is not None
            else "started"
            if _find(self._started, job) is not None
            else "absent"
        )

    def contents(self, key: JobKey) -> Contents | None:
        """What a job's folder held; None if only a listing of the folder can tell."""
        job = int(key.fingerprint[:16], 16)
        done, started = _find(self._done, job), _find(self._started, job)
        if done is None:
            return Contents([], frozenset(), None, True) if started is None else None
        invocation = self._invocations[done].decode()
        if not invocation:
            return None
        size = None if started is None else int(self._request_bytes[started])
        return Contents([f"{key.prefix}{invocation}{OUTPUT_NAME}"], frozenset(), size, False)


def _array(values: array[Any], dtype: type[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(values, dtype) if values else np.empty(0, dtype)


def _find(jobs: _Jobs, job: int) -> int | None:
    at = int(np.searchsorted(jobs, np.uint64(job)))
    return at if at < len(jobs) and int(jobs[at]) == job else None
