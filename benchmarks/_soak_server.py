"""The stand-in for soak.py, with every fault on: reads questions from stdin, one JSON line each."""

import hashlib
import json
import random
import struct
import sys
import zlib
from collections import Counter

import numpy as np
from _bulk_server import answer, backend

import marengo_local
from marengo_local import Fault

# What befalls a medium: (how many of 100, jobs that must be paid for, the error it must end in).
FATES = {
    "all is well": (66, 1, None),
    "an image": (8, 0, None),
    "fails passingly": (6, 2, None),
    "fails passingly each time": (1, 3, "JobError"),
    "fails for good": (3, 1, "JobError"),
    "is cut off": (5, 2, None),
    "is cut off each time": (1, 3, "OutputError"),
    "is replaced meanwhile": (5, 2, None),
    "is stuck": (1, 1, "JobError"),
    "is not there": (2, 0, "MediaNotFoundError"),
    "is no medium": (2, 0, "InputError"),
}
SUFFIXES = {"an image": "png", "is no medium": "txt"}

CONTROL = ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes", "InvokeModel")
STORE = ("s3:PutObject", "s3:GetObject", "s3:ListObjectsV2", "s3:HeadBucket")
# Of each operation's calls, so many of 100.
PASSING = {
    CONTROL: [
        (3, {"error": "ThrottlingException"}),
        (1, {"error": "InternalServerException"}),
        (1, {"error": "ServiceUnavailableException"}),
        (1, {"error": "ModelTimeoutException"}),
        (1, {"error": "ModelErrorException"}),
        (1, {"drop": "before"}),
        (1, {"drop": "after"}),
        (1, {"drop": "mid-body"}),
        (1, {"body_sec": 0.3}),
    ],
    STORE: [
        (1, {"error": "InternalError"}),
        (1, {"error": "ServiceUnavailable"}),
        (1, {"error": "SlowDown"}),
        (0.5, {"drop": "before"}),
        (0.5, {"drop": "after"}),
        (0.5, {"drop": "mid-body"}),
        (1, {"body_sec": 0.2}),
    ],
}


def picture():
    """A grey PNG of 128 x 128."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = struct.pack(">IIBBBBB", 128, 128, 8, 0, 0, 0, 0), zlib.compress((b"\0" + bytes(128)) * 128)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def fate_of(number):
    weights = [weight for weight, _, _ in FATES.values()]
    return random.Random(number).choices(list(FATES), weights)[0]


def name_of(number):
    return f"v/{number:07}.{SUFFIXES.get(fate_of(number), 'mp4')}"


def number_of(uri):
    return int(uri.rsplit("/", 1)[1].split(".")[0])


class Soak:
    """What was put, what became of it, and whether both fit."""

    def __init__(self, local, asked):
        self.local = local
        self.jobs = Counter()
        self.random = random.Random(0)
        self.shortest, self.longest = asked["job_sec"]
        local.job_duration_sec = self.duration_sec
        passing = [
            Fault(op, share / 100, **what) for ops, faults in PASSING.items() for share, what in faults for op in ops
        ]
        local.faults = [
            Fault("Job", self.befalls("fails passingly", times=1), error="Failed", message="Internal error"),
            Fault("Job", self.befalls("fails passingly each time"), error="Failed", message="Internal error"),
            Fault("Job", self.befalls("fails for good"), error="Failed", message="The video can't be decoded"),
            Fault("Job", self.befalls("is cut off", times=1), body=b'{"data": [{"embedding": [0.1, 0.2'),
            Fault("Job", self.befalls("is cut off each time"), body=b'{"data": [{"embedding": [0.1, 0.2'),
            Fault("Job", self.befalls("is stuck"), delay_sec=float("inf")),
            *passing,
        ]

    def befalls(self, fate, times=3):
        def wanted(call):
            uri = source_of(call.body)
            return (
                fate_of(number_of(uri)) == fate and sum(source_of(job.request) == uri for job in self.own(uri)) <= times
            )

        return wanted

    def own(self, uri):
        return [job for job in self.local.jobs if source_of(job.request) == uri]

    def duration_sec(self, job):
        uri = source_of(job.request)
        if fate_of(number_of(uri)) == "is replaced meanwhile" and len(self.own(uri)) == 1:
            self.store(number_of(uri), b"the second cut")
        return self.random.uniform(self.shortest, self.longest)

    def store(self, number, body=b""):
        # Straight into moto's memory: over HTTP it would take minutes.
        body = (picture() if fate_of(number) == "an image" else b"") + str(number).encode() + body
        backend(self.local).put_object(self.local.bucket, name_of(number), body)

    def put(self, first, count):
        for number in range(first, first + count):
            if fate_of(number) != "is not there":
                self.store(number)
        return [f"s3://{self.local.bucket}/{name_of(number)}" for number in range(first, first + count)]

    def settle(self, done):
        """Check what the client says of some media against what lies here, and forget them. Returns what is wrong."""
        wrong = []
        bucket = backend(self.local).buckets[self.local.bucket]
        for uri, prefix, error, vectors in done:
            fate = fate_of(number_of(uri))
            _, jobs, wanted = FATES[fate]
            started = self.own(uri)
            if error != wanted:
                wrong.append(f"{uri}, which {fate}: {error or 'no error'}")
            if len(started) != jobs:
                wrong.append(f"{uri}, which {fate}: {len(started)} jobs in place of {jobs}")
            keys = [key for key in list(bucket.keys) if prefix and key.startswith(prefix)]
            if error is None and vectors not in [
                digest_of(bucket.keys[k].value) for k in keys if k.endswith("/output.json")
            ]:
                wrong.append(f"{uri}, which {fate}: vectors of something else")
            for job in started:
                self.local.jobs.forget(job.arn)
            for key in {*keys, name_of(number_of(uri))} & set(bucket.keys):
                bucket.keys.pop(key)
            self.jobs[fate] += len(started)
        return wrong

    def faults(self):
        struck = Counter()
        for fault in self.local.faults:
            what = (
                fault.error or fault.drop or ("slow body" if fault.body_sec else "cut off" if fault.body else "stuck")
            )
            struck[f"{fault.op.removeprefix('s3:')} {what}"] += fault.hits
        return dict(+struck)


def source_of(request):
    return request["modelInput"]["video"]["mediaSource"]["s3Location"]["uri"]


def digest_of(body):
    try:
        rows = json.loads(body)["data"]
    except ValueError:
        return None
    vectors = np.asarray([row["embedding"] for row in rows], np.float32)
    return hashlib.sha256(vectors.tobytes()).hexdigest()


def main():
    asked = json.loads(sys.argv[1])
    knobs = {"synthetic_sec": 6.0, "start_rate": asked["start_rate"], "max_jobs": asked["max_jobs"]}
    with marengo_local.serve(**knobs) as local:
        soak = Soak(local, asked)
        answers = {
            "put": soak.put,
            "settle": soak.settle,
            "faults": soak.faults,
            "calls": lambda: dict(local.calls._counts),
            "jobs": lambda: dict(soak.jobs),
            "left": lambda: len(local.jobs),
        }
        answer(local.client_options)
        for line in sys.stdin:
            question = json.loads(line)
            answer(answers[question.pop("ask")](**question))


if __name__ == "__main__":
    main()
