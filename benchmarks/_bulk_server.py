"""The stand-in for bulk.py: reads questions from stdin, one JSON line each."""

import json
import random
import sys

from moto.s3.models import s3_backends

import marengo_local
from marengo_local import Fault

FAULTS = [
    Fault(op=op, when=probability, **what)
    for op in ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes")
    for probability, what in ((0.05, {"error": "InternalServerException"}), (0.02, {"drop": "after"}))
]


def main():
    asked = json.loads(sys.argv[1])
    low, high = asked.get("job_sec", (0.0, 0.0))
    jitter = random.Random(0)
    knobs = {
        "synthetic_sec": 12.0,
        "start_rate": asked.get("start_rate"),
        "max_jobs": asked.get("max_jobs"),
        "job_duration_sec": lambda job: jitter.uniform(low, high),
        "faults": FAULTS if asked.get("faults") else [],
    }
    with marengo_local.serve(**knobs) as local:
        put(local, asked["media"])
        answer(local.client_options)
        for line in sys.stdin:
            question = json.loads(line)
            answer(ANSWERS[question.pop("ask")](local, **question))


def answer(value):
    print(json.dumps(value), flush=True)


def put(local, count):
    # Straight into moto's memory: over HTTP it would take minutes.
    for i in range(count):
        backend(local).put_object(local.bucket, f"v/{i:06}.mp4", str(i).encode())
    return count


def put_done(local, prefixes):
    output = b'{"data":[]}'
    for prefix in prefixes:
        key = prefix.removeprefix(f"s3://{local.bucket}/")
        for name in ("request.json", "abcdefghijkl/manifest.json", "abcdefghijkl/output.json"):
            backend(local).put_object(local.bucket, key + name, output)
    return len(prefixes)


def backend(local):
    return s3_backends[local.account_id]["aws"]


def counts(local):
    return dict(local.calls._counts)


def reset(local):
    local.calls.reset()
    return True


ANSWERS = {
    "calls": counts,
    "jobs": lambda local: len(list(local.jobs)),
    "put": put,
    "done": put_done,
    "reset": reset,
}

if __name__ == "__main__":
    main()
