"""The stand-in for soak.py, with all faults enabled: reads commands from stdin, one JSON line each."""

import hashlib
import json
import random
import struct
import sys
import zlib
from collections import Counter

import numpy as np
from _bulk_server import backend, respond

import marengo_local
from marengo_local import Fault

# Each file has a scenario: (frequency in percent, expected number of paid jobs, expected error).
SCENARIOS = {
    "succeeds": (66, 1, None),
    "image": (8, 0, None),
    "fails once": (6, 2, None),
    "fails every time": (1, 3, "JobError"),
    "fails permanently": (3, 1, "JobError"),
    "truncated once": (5, 2, None),
    "truncated every time": (1, 3, "OutputError"),
    "replaced while running": (5, 2, None),
    "stuck": (1, 1, "JobError"),
    "missing": (2, 0, "MediaNotFoundError"),
    "not media": (2, 0, "InputError"),
}
SUFFIXES = {"image": "png", "not media": "txt"}

CONTROL = ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes", "InvokeModel")
STORE = ("s3:PutObject", "s3:GetObject", "s3:ListObjectsV2", "s3:HeadBucket")
# Transient faults: (percentage of calls, fault) for each operation.
TRANSIENT = {
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
    """A gray PNG, 128 x 128."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = struct.pack(">IIBBBBB", 128, 128, 8, 0, 0, 0, 0), zlib.compress((b"\0" + bytes(128)) * 128)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def scenario_of(number):
    weights = [weight for weight, _, _ in SCENARIOS.values()]
    return random.Random(number).choices(list(SCENARIOS), weights)[0]


def name_of(number):
    return f"v/{number:07}.{SUFFIXES.get(scenario_of(number), 'mp4')}"


def number_of(uri):
    return int(uri.rsplit("/", 1)[1].split(".")[0])


class Soak:
    """Uploads files, injects their faults, and compares the client's results with what the service did."""

    def __init__(self, local, settings):
        self.local = local
        self.jobs = Counter()
        self.random = random.Random(0)
        self.shortest, self.longest = settings["job_sec"]
        local.job_duration_sec = self.duration_sec
        transient = [
            Fault(op, share / 100, **what) for ops, faults in TRANSIENT.items() for share, what in faults for op in ops
        ]
        local.faults = [
            Fault("Job", self.matches("fails once", times=1), error="Failed", message="Internal error"),
            Fault("Job", self.matches("fails every time"), error="Failed", message="Internal error"),
            Fault("Job", self.matches("fails permanently"), error="Failed", message="The video can't be decoded"),
            Fault("Job", self.matches("truncated once", times=1), body=b'{"data": [{"embedding": [0.1, 0.2'),
            Fault("Job", self.matches("truncated every time"), body=b'{"data": [{"embedding": [0.1, 0.2'),
            Fault("Job", self.matches("stuck"), delay_sec=float("inf")),
            *transient,
        ]

    def matches(self, scenario, times=3):
        def predicate(call):
            uri = source_of(call.body)
            return scenario_of(number_of(uri)) == scenario and len(self.jobs_of(uri)) <= times

        return predicate

    def jobs_of(self, uri):
        return [job for job in self.local.jobs if source_of(job.request) == uri]

    def duration_sec(self, job):
        uri = source_of(job.request)
        if scenario_of(number_of(uri)) == "replaced while running" and len(self.jobs_of(uri)) == 1:
            self.store(number_of(uri), b"another version")
        return self.random.uniform(self.shortest, self.longest)

    def store(self, number, body=b""):
        # Directly into moto's memory, since HTTP would take minutes.
        body = (picture() if scenario_of(number) == "image" else b"") + str(number).encode() + body
        backend(self.local).put_object(self.local.bucket, name_of(number), body)

    def put(self, first, count):
        for number in range(first, first + count):
            if scenario_of(number) != "missing":
                self.store(number)
        return [f"s3://{self.local.bucket}/{name_of(number)}" for number in range(first, first + count)]

    def verify(self, results):
        """Compare the client's results with jobs and outputs, then delete these. Returns a list of problems."""
        problems = []
        bucket = backend(self.local).buckets[self.local.bucket]
        for uri, prefix, error, vectors in results:
            scenario = scenario_of(number_of(uri))
            _, expected_jobs, expected_error = SCENARIOS[scenario]
            jobs = self.jobs_of(uri)
            if error != expected_error:
                problems.append(f"{uri} ({scenario}): expected {expected_error or 'no error'}, got {error or 'none'}")
            if len(jobs) != expected_jobs:
                problems.append(f"{uri} ({scenario}): expected {expected_jobs} jobs, got {len(jobs)}")
            keys = [key for key in list(bucket.keys) if prefix and key.startswith(prefix)]
            if error is None and vectors not in [
                digest_of(bucket.keys[k].value) for k in keys if k.endswith("/output.json")
            ]:
                problems.append(f"{uri} ({scenario}): the vectors are not those of its output")
            for job in jobs:
                self.local.jobs.forget(job.arn)
            for key in {*keys, name_of(number_of(uri))} & set(bucket.keys):
                bucket.keys.pop(key)
            self.jobs[scenario] += len(jobs)
        return problems

    def faults(self):
        counts = Counter()
        for fault in self.local.faults:
            kind = (
                fault.error or fault.drop or ("slow body" if fault.body_sec else "truncated" if fault.body else "stuck")
            )
            counts[f"{fault.op.removeprefix('s3:')} {kind}"] += fault.hits
        return dict(+counts)


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
    settings = json.loads(sys.argv[1])
    knobs = {"synthetic_sec": 6.0, "start_rate": settings["start_rate"], "max_jobs": settings["max_jobs"]}
    with marengo_local.serve(**knobs) as local:
        soak = Soak(local, settings)
        commands = {
            "put": soak.put,
            "verify": soak.verify,
            "faults": soak.faults,
            "calls": lambda: dict(local.calls._counts),
            "jobs": lambda: dict(soak.jobs),
            "left": lambda: len(local.jobs),
        }
        respond(local.client_options)
        for line in sys.stdin:
            arguments = json.loads(line)
            respond(commands[arguments.pop("command")](**arguments))


if __name__ == "__main__":
    main()
