"""embed_texts: 1,000 texts at 50 ms a call, 64 in flight, against one call after another and against bare boto3.

Bare boto3: as many threads, each with the same client, body as JSON, reply parsed by json into float32. All in one run;
the service is the stand-in in a process of its own. Prints ratios; run on an idle machine.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import boto3
import numpy as np
from botocore.config import Config

from bedrock_marengo import MarengoClient

TEXTS = [f"text number {i} of the benchmark" for i in range(1_000)]
THREADS = 64
LATENCY_SEC = 0.05
ONE_BY_ONE = 40
RUNS = 5
MODEL_ID = "twelvelabs.marengo-embed-3-0-v1:0"

SERVER = """
import json, sys, marengo_local
with marengo_local.serve(latency_sec=float(sys.argv[1])) as local:
    print(json.dumps(local.client_options), flush=True)
    sys.stdin.read()
"""


def main():
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(LATENCY_SEC)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    options = json.loads(server.stdout.readline())
    try:
        with MarengoClient(max_concurrency=THREADS, **options) as client:
            pairs = measure(client, bare_client(options))
            one_by_one_sec = timed(lambda: [client.embed_text(text) for text in TEXTS[:ONE_BY_ONE]])
    finally:
        server.communicate()
    ours, bare = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    one_after_another = one_by_one_sec / ONE_BY_ONE * len(TEXTS)
    print(f"{len(TEXTS)} texts, {LATENCY_SEC * 1000:.0f} ms a call, {THREADS} in flight, median of {RUNS} pairs")
    print(f"embed_texts {ours:.2f} s = {len(TEXTS) / ours:.0f} calls/s; bare boto3 {bare:.2f} s")
    print(f"one after another (from {ONE_BY_ONE}): {one_after_another:.1f} s")
    print(f"times as fast as one after another: {one_after_another / ours:.1f} (wanted: 30)")
    print(f"of bare boto3's speed: {median(b / a for a, b in pairs):.2f} (wanted: 0.85)")


def measure(client, bedrock):
    run_bare(bedrock, TEXTS)
    client.embed_texts(TEXTS)
    return [(timed(lambda: client.embed_texts(TEXTS)), timed(lambda: run_bare(bedrock, TEXTS))) for _ in range(RUNS)]


def bare_client(options):
    return boto3.client(
        "bedrock-runtime",
        region_name=options["region_name"],
        endpoint_url=options["endpoint_url"],
        aws_access_key_id=options["aws_access_key_id"],
        aws_secret_access_key=options["aws_secret_access_key"],
        config=Config(max_pool_connections=THREADS),
    )


def run_bare(bedrock, texts):
    def embed(text):
        body = json.dumps({"inputType": "text", "text": {"inputText": text}})
        reply = bedrock.invoke_model(modelId=MODEL_ID, body=body)
        return np.array(json.loads(reply["body"].read())["data"][0]["embedding"], np.float32)

    with ThreadPoolExecutor(THREADS) as threads:
        return np.stack(list(threads.map(embed, texts)))


def timed(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
