"""embed_texts against one call after another, bare boto3 and langchain-aws. All in one run; prints ratios.

    python benchmarks/texts.py

Bare boto3: as many threads on one client, body as JSON, reply parsed by json into float32. The service is a stub in a
process of its own that answers any text with one vector, in Marengo's shape or Titan's. Run on an idle machine.
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
from langchain_aws import BedrockEmbeddings

from bedrock_marengo import MarengoClient

THREADS = 64
RUNS = 5
ONE_BY_ONE = 40
MODEL_ID = "twelvelabs.marengo-embed-3-0-v1:0"
TITAN_ID = "amazon.titan-embed-text-v2:0"

SERVER = """
import asyncio, json, sys
from aiohttp import web
latency_sec = float(sys.argv[1])
vector = [round(0.001 * i - 0.25, 6) for i in range(512)]
replies = {"titan": json.dumps({"embedding": vector}), "marengo": json.dumps({"data": [{"embedding": vector}]})}

async def invoke(request):
    await request.read()
    await asyncio.sleep(latency_sec)
    reply = replies["titan" if "titan" in request.raw_path else "marengo"]
    return web.Response(text=reply, content_type="application/json")

async def main():
    runner = web.ServerRunner(web.Server(invoke))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def main():
    with Service(latency_sec=0.05) as options:
        at_50_ms(options, 1_000)
    with Service(latency_sec=0.0) as options:
        at_no_latency(options, 20_000)


class Service:
    def __init__(self, latency_sec):
        command = [sys.executable, "-c", SERVER, str(latency_sec)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return {
            "region_name": "us-east-1",
            "endpoint_url": f"http://127.0.0.1:{self._process.stdout.readline().strip()}",
            "aws_access_key_id": "AKIA",
            "aws_secret_access_key": "none",
        }

    def __exit__(self, *_):
        self._process.communicate()


def at_50_ms(options, count):
    texts = [f"text number {i}" for i in range(count)]
    with MarengoClient(max_concurrency=THREADS, **options) as client:
        pairs = measure(client, bare_client(options), texts, RUNS)
        one_by_one = timed(lambda: [client.embed_text(text) for text in texts[:ONE_BY_ONE]]) / ONE_BY_ONE * count
    langchain_aws = BedrockEmbeddings(model_id=TITAN_ID, **options)
    theirs = timed(lambda: langchain_aws.embed_documents(texts[:ONE_BY_ONE])) / ONE_BY_ONE * count
    ours = median(pair[0] for pair in pairs)
    print(f"{count} texts, 50 ms a call, {THREADS} in flight, median of {RUNS} pairs: {ours:.2f} s")
    print(f"  times as fast as one after another: {one_by_one / ours:.1f} (wanted: 30)")
    print(f"  of bare boto3's speed: {median(b / a for a, b in pairs):.2f} (wanted: 0.85)")
    print(f"  times as fast as langchain-aws's BedrockEmbeddings on Titan: {theirs / ours:.1f}", flush=True)


def at_no_latency(options, count):
    texts = [f"text number {i}" for i in range(count)]
    with MarengoClient(max_concurrency=THREADS, **options) as client:
        pairs = measure(client, bare_client(options), texts, 3)
    ours = median(pair[0] for pair in pairs)
    print(f"{count} texts at no latency, {THREADS} threads, median of 3 pairs: {count / ours:.0f} calls/s")
    print(f"  of bare boto3's speed: {median(b / a for a, b in pairs):.2f} (wanted: 0.9)")


def measure(client, bedrock, texts, runs):
    run_bare(bedrock, texts[:1_000])
    client.embed_texts(texts[:1_000])
    return [(timed(lambda: client.embed_texts(texts)), timed(lambda: run_bare(bedrock, texts))) for _ in range(runs)]


def bare_client(options):
    return boto3.client("bedrock-runtime", config=Config(max_pool_connections=THREADS), **options)


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
