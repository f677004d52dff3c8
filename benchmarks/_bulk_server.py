"""The stand-in for bulk.py: reads commands from stdin, one JSON line each."""

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
    settings = json.loads(sys.argv[1])
    low, high = settings.get("job_sec", (0.0, 0.0))
    jitter = random.Random(0)
    knobs = {
        "synthetic_sec": 12.0,
        "start_rate": settings.get("start_rate"),
        "max_jobs": settings.get("max_jobs"),
        "job_duration_sec": lambda job: jitter.uniform(low, high),
        "faults": FAULTS if settings.get("faults") else [],
    }
    with marengo_local.serve(**knobs) as local:
        put(local, settings["files"])
        respond(local.client_options)
        for line in sys.stdin:
            arguments = json.loads(line)
            respond(COMMANDS[arguments.pop("command")](local, **arguments))


def respond(value):
    print(json.dumps(value), flush=True)


def put(local, count):
    # Directly into moto's memory, since HTTP would take minutes.
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


COMMANDS = {
    "calls": counts,
    "jobs": lambda local: len(list(local.jobs)),
    "put": put,
    "put_done": put_done,
    "reset": reset,
}

if __name__ == "__main__":
    main()
