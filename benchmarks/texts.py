"""embed_texts compared with sequential calls, plain boto3 and langchain-aws. Prints ratios within one run.

    python benchmarks/texts.py

Plain boto3 uses the same number of threads on one client, and parses responses with json into float32. The service is a
stub in a separate process that returns one vector for any text, in Marengo's or Titan's format. Run on an idle machine.
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
SEQUENTIAL_CALLS = 40
MODEL_ID = "twelvelabs.marengo-embed-3-0-v1:0"
TITAN_ID = "amazon.titan-embed-text-v2:0"

SERVER = """
import asyncio, json, sys
from aiohttp import web
latency_sec = float(sys.argv[1])
vector = [round(0.001 * i - 0.25, 6) for i in range(512)]
responses = {"titan": json.dumps({"embedding": vector}), "marengo": json.dumps({"data": [{"embedding": vector}]})}

async def invoke(request):
    await request.read()
    await asyncio.sleep(latency_sec)
    text = responses["titan" if "titan" in request.raw_path else "marengo"]
    return web.Response(text=text, content_type="application/json")

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
    few = texts[:SEQUENTIAL_CALLS]
    with MarengoClient(max_concurrency=THREADS, **options) as client:
        pairs = measure(client, boto3_client(options), texts, RUNS)
        sequential = timed(lambda: [client.embed_text(text) for text in few]) / len(few) * count
    langchain_aws = BedrockEmbeddings(model_id=TITAN_ID, **options)
    theirs = timed(lambda: langchain_aws.embed_documents(few)) / len(few) * count
    ours = median(pair[0] for pair in pairs)
    print(f"{count} texts, 50 ms per call, {THREADS} concurrent, median of {RUNS} pairs: {ours:.2f} s")
    print(f"  speedup over sequential calls: {sequential / ours:.1f} (target: 30)")
    print(f"  relative to plain boto3: {median(b / a for a, b in pairs):.2f} (target: 0.85)")
    print(f"  speedup over BedrockEmbeddings of langchain-aws on Titan: {theirs / ours:.1f}", flush=True)


def at_no_latency(options, count):
    texts = [f"text number {i}" for i in range(count)]
    with MarengoClient(max_concurrency=THREADS, **options) as client:
        pairs = measure(client, boto3_client(options), texts, 3)
    ours = median(pair[0] for pair in pairs)
    print(f"{count} texts without latency, {THREADS} threads, median of 3 pairs: {count / ours:.0f} calls/s")
    print(f"  relative to plain boto3: {median(b / a for a, b in pairs):.2f} (target: 0.9)")


def measure(client, bedrock, texts, runs):
    run_boto3(bedrock, texts[:1_000])
    client.embed_texts(texts[:1_000])
    return [(timed(lambda: client.embed_texts(texts)), timed(lambda: run_boto3(bedrock, texts))) for _ in range(runs)]


def boto3_client(options):
    return boto3.client("bedrock-runtime", config=Config(max_pool_connections=THREADS), **options)


def run_boto3(bedrock, texts):
    def embed(text):
        body = json.dumps({"inputType": "text", "text": {"inputText": text}})
        response = bedrock.invoke_model(modelId=MODEL_ID, body=body)
        return np.array(json.loads(response["body"].read())["data"][0]["embedding"], np.float32)

    with ThreadPoolExecutor(THREADS) as threads:
        return np.stack(list(threads.map(embed, texts)))


def timed(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
