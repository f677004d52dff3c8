"""embed_many over thousands of files: quotas, faults, kills, and a second run. Prints ratios within one run.

    python benchmarks/bulk.py                 all scenarios at a tenth of full size: about 4 minutes
    python benchmarks/bulk.py --media 2353    full size: about 25 minutes

The stand-in runs in a separate process with synthetic media, so that only the client is measured. The ideal wall time
is files / starts per second, or files x mean job duration / quota, whichever is longer, plus one job duration.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
from botocore.config import Config

from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.payloads import MediaRequest

SERVER = Path(__file__).with_name("_bulk_server.py")
QUOTA = 20
CONTROL = ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes")
SCENARIOS = {
    # name: (starts/s, shortest job, longest job, faults, max times ideal, max control calls per file)
    "start rate is the limit": (5.0, 2.0, 6.0, False, 1.15, 1.3),
    "job quota is the limit": (50.0, 2.0, 7.0, False, 1.25, 1.8),
    "5% 5xx, 2% dropped": (5.0, 2.0, 6.0, True, None, None),
}
SCRIPTED = {0.6: (240, 5), 3.0: (160, 3)}
"""Seconds of each job -> files and rounds, for the comparison with a script."""
KILLS = 20
FULL_DONE_FILES = 20_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=235, help="number of files; full size: 2353")
    parser.add_argument(
        "--done", type=int, default=2_000, help=f"number of files in the second run; full size: {FULL_DONE_FILES}"
    )
    parser.add_argument("--only", default="", help="part of a scenario's name: start, quota, 5xx, script, kill, second")
    args = parser.parse_args()
    for name, scenario in SCENARIOS.items():
        if args.only in name:
            run_scenario(name, args.media, *scenario)
    for job_sec, (files, rounds) in SCRIPTED.items():
        if args.only in "script":
            run_beside_script(job_sec, files, rounds)
    if args.only in "kill -9":
        run_kills(min(args.media, 200))
    if args.only in "second run":
        run_second(args.done)


class Server:
    """The stand-in in a separate process."""

    def __init__(self, script=SERVER, **knobs):
        self._process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(knobs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.options = json.loads(self._process.stdout.readline())
        self.sources = f"s3://{self.options['output_s3_uri'].split('/')[2]}/v/"

    def call(self, command, **arguments):
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def run_scenario(name, files, starts_per_sec, shortest, longest, faults, max_ideal, max_calls):
    server = Server(files=files, start_rate=starts_per_sec, max_jobs=QUOTA, job_sec=[shortest, longest], faults=faults)
    try:
        with MarengoClient(**server.options) as client:
            began = time.perf_counter()
            errors = [result.error for result in client.embed_many(server.sources)]
            took = time.perf_counter() - began
        calls, jobs = server.call("calls"), server.call("jobs")
    finally:
        server.close()
    mean = (shortest + longest) / 2
    ideal = max(files / starts_per_sec, files * mean / QUOTA) + mean
    control = sum(calls.get(op, 0) for op in CONTROL)
    print(
        f"-- {name}: {files} files, quota {QUOTA}, {starts_per_sec:g} starts/s, jobs of {shortest:g} to {longest:g} s"
    )
    print(f"   failed: {sum(error is not None for error in errors)} (target: 0); jobs: {jobs} (target: {files})")
    print(f"   {took:.1f} s, {took / ideal:.2f} times ideal{target(max_ideal)}")
    print(f"   {control / files:.2f} control calls per file{target(max_calls)}: {calls}", flush=True)


def script(options, uris, job_sec):
    """What a user would write who knows the quota: no promises, one S3 request a file."""
    config = Config(retries={"mode": "adaptive", "max_attempts": 10}, max_pool_connections=QUOTA)
    keys = {name: options[name] for name in ("region_name", "aws_access_key_id", "aws_secret_access_key")}
    # Its own session: as in a process of its own, it reads the services' definitions itself.
    session = boto3.Session(**keys)
    bedrock = session.client("bedrock-runtime", endpoint_url=options["endpoint_url"], config=config)
    s3 = session.client("s3", endpoint_url=options["s3_endpoint_url"], config=config)
    output = {"s3Uri": options["output_s3_uri"] + "script/"}

    def embed(uri):
        location = {"s3Location": {"uri": uri, "bucketOwner": options["bucket_owner"]}}
        arn = bedrock.start_async_invoke(
            modelId="twelvelabs.marengo-embed-3-0-v1:0",
            modelInput={"inputType": "video", "video": {"mediaSource": location}},
            outputDataConfig={"s3OutputDataConfig": output},
        )["invocationArn"]
        while (job := bedrock.get_async_invoke(invocationArn=arn))["status"] == "InProgress":
            time.sleep(job_sec / 8)
        bucket, _, folder = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"][5:].partition("/")
        body = s3.get_object(Bucket=bucket, Key=f"{folder}/output.json")["Body"].read()
        return [np.float32(row["embedding"]) for row in json.loads(body)["data"]]

    with ThreadPoolExecutor(QUOTA) as pool:
        return list(pool.map(embed, uris))


def run_beside_script(job_sec, files, rounds):
    """Wall time, CPU and calls of embed_many in ratio to the script's: medians of rounds that take turns."""
    print(f"-- beside a script: {files} files, quota {QUOTA}, jobs of {job_sec:g} s, rounds: {rounds}")
    runs = {
        "script": lambda options, uris: script(options, uris, job_sec),
        "embed_many": embed,
        "embed_many, 20 at once": lambda options, uris: embed(options, uris, jobs_at_once=QUOTA),
    }
    results = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(measured(files, job_sec, run))
    ideal = files * job_sec / QUOTA
    base_sec, base_cpu = (np.median([result[i] for result in results["script"]]) for i in (1, 2))
    for name, measurements in results.items():
        took, cpu = (np.median([result[i] for result in measurements]) for i in (1, 2))
        calls = Counter()
        for result in measurements:
            calls.update(result[0])
        s3 = sum(count for op, count in calls.items() if op.startswith("s3:")) / rounds / files
        control = sum(calls[op] for op in CONTROL) / rounds / files
        times = ", ".join(f"{result[1]:.2f}" for result in measurements)
        print(
            f"   {name + ':':<24}{took:6.2f} s ({times}), {took / ideal:.2f} of ideal, {1e3 * cpu / files:5.1f} ms CPU"
        )
        print(
            f"   {'':<24}of the script: {took / base_sec:.2f} time, {cpu / base_cpu:.2f} CPU; "
            f"{s3:.2f} S3 requests, {control:.2f} control calls per file",
            flush=True,
        )


def embed(options, uris, **how):
    with MarengoClient(**options) as client:
        return [result.segments for result in client.embed_many(uris[0].rpartition("/")[0] + "/", **how)]


def measured(files, job_sec, run):
    """Calls, seconds and CPU seconds of a run against a stand-in of its own."""
    server = Server(files=files, max_jobs=QUOTA, job_sec=[job_sec, job_sec])
    try:
        uris = [f"{server.sources}{i:06}.mp4" for i in range(files)]
        began, cpu = time.perf_counter(), time.process_time()
        found = run(server.options, uris)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        calls, jobs = server.call("calls"), server.call("jobs")
    finally:
        server.close()
    assert len(found) == files <= jobs, f"{len(found)} results, {jobs} jobs"
    return calls, took, cpu


def target(limit):
    return "" if limit is None else f" (target: at most {limit})"


RUN = """
import json, sys
from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.payloads import MediaRequest
with MarengoClient(**json.loads(sys.argv[1])) as client, open(sys.argv[3], "a") as out:
    for result in client.embed_many(sys.argv[2]):
        assert result.error is None, result.error
        out.write(result.uri + "\\n"); out.flush()
print("finished")
"""


def run_kills(files):
    server = Server(files=files, start_rate=50.0, max_jobs=QUOTA, job_sec=[0.2, 0.6], faults=False)
    listed = Path(f"/tmp/marengo-bulk-{random.getrandbits(32)}.txt")
    killed = 0
    try:
        while True:
            # Each run writes its own list. The last run is not killed; its list must contain each file once.
            listed.write_text("")
            command = [sys.executable, "-c", RUN, json.dumps(server.options), server.sources, str(listed)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            if killed < KILLS:
                time.sleep(random.uniform(0.6, 1.6))
                process.send_signal(signal.SIGKILL)
                killed += 1
            if "finished" in process.communicate()[0]:
                break
        uris = listed.read_text().split()
        jobs = server.call("jobs")
    finally:
        listed.unlink(missing_ok=True)
        server.close()
    print(f"-- kill -9 at {killed} random times, restarted each time: {files} files")
    print(f"   results: {len(uris)}, each file once: {len(uris) == len(set(uris)) == files}; jobs: {jobs}", flush=True)


def run_second(count):
    server = Server(files=0)
    try:
        with MarengoClient(**server.options) as client:
            # Output is found by fingerprint, so the client provides the folders.
            objects = server.call("put", count=count)
            folders = [
                client._runtime.embedder.key(media, MediaRequest(model=client.model, kind="video")).prefix
                for media in client.list_media(server.sources)
            ]
            server.call("put_done", prefixes=folders)
            server.call("reset")
            tracemalloc.start()
            began = time.perf_counter()
            reused = sum(result.error is None for result in client.embed_many(server.sources))
            took = time.perf_counter() - began
            peak = tracemalloc.get_traced_memory()[1]
        calls = {op: n for op, n in server.call("calls").items() if n}
    finally:
        server.close()
    print(f"-- second run over {count} embedded files ({objects + 3 * count} objects)")
    print(f"   {reused} reused in {took:.1f} s; peak Python memory {peak / 1e6:.1f} MB; calls: {calls}", flush=True)


if __name__ == "__main__":
    main()
