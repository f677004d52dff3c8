"""The stand-in over real HTTP, clients against it, and what a clean run gives."""

import json
import subprocess
import sys
import time

import boto3
import numpy as np
import pytest


@pytest.fixture
def bucket(local):
    """A prefix with 8 videos."""
    for i in range(8):
        local.put(bytes([i]), f"v/{i}.mp4")
    return f"s3://{local.bucket}/v/"


@pytest.fixture
def _bedrock(local):
    """Bare boto3: what a clean run gives is not asked of the code that is under test."""
    options = local.client_options
    names = ("region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key")
    return boto3.client("bedrock-runtime", **{name: options[name] for name in names})


@pytest.fixture
def truths(local, _bedrock):
    """What a clean run gives of videos as they are now: URI -> (URI, start, end, option, scope) -> vector."""

    def truths(uris, **fields):
        spoilt = {name: getattr(local, name) for name in ("faults", "mutate_output", "job_duration_sec")}
        local.faults, local.mutate_output, local.job_duration_sec = [], None, 0.0
        jobs = {uri: local.jobs[_start(_bedrock, local, uri, fields)] for uri in uris}
        try:
            return {uri: _rows_of(local, uri, job) for uri, job in jobs.items()}
        finally:
            for job in jobs.values():
                local.jobs.forget(job.arn)
            for name, value in spoilt.items():
                setattr(local, name, value)
            local.calls.reset()

    return truths


def _start(bedrock, local, uri, fields):
    source = {"s3Location": {"uri": uri, "bucketOwner": local.account_id}}
    return bedrock.start_async_invoke(
        modelId="twelvelabs.marengo-embed-3-0-v1:0",
        modelInput={"inputType": "video", "video": {"mediaSource": source, **fields}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"s3://{local.bucket}/truth/"}},
    )["invocationArn"]


def _rows_of(local, uri, job):
    while job.status == "InProgress":
        time.sleep(0.005)
    output = local.s3.get_object(Bucket=local.bucket, Key=f"truth/{job.id}/output.json")["Body"].read()
    return {
        (uri, row["startSec"], row["endSec"], row["embeddingOption"], row["embeddingScope"]): np.float32(
            row["embedding"]
        )
        for row in json.loads(output)["data"]
    }


@pytest.fixture
def truth(truths):
    """The same of one video."""
    return lambda uri, **fields: truths([uri], **fields)[uri]


@pytest.fixture
def keys(local):
    """The keys of an output prefix's files that end so."""

    def keys(ending=""):
        pages = local.s3.get_paginator("list_objects_v2").paginate(Bucket=local.bucket, Prefix="marengo/")
        return [item["Key"] for page in pages for item in page.get("Contents", []) if item["Key"].endswith(ending)]

    return keys


@pytest.fixture
def same():
    """Whether embeddings hold exactly the segments of a clean run, each once and with its own vector."""

    def same(found, truth):
        places = [(s.source, s.start_sec, s.end_sec, s.option, s.scope) for s in found]
        return sorted(places) == sorted(truth) and all(
            np.array_equal(truth[place], vector) for place, vector in zip(places, found.vectors, strict=True)
        )

    return same


@pytest.fixture
def wait_for():
    """Waits until something is so, for a minute at most."""

    def wait_for(what):
        until = time.monotonic() + 60
        while not what():
            assert time.monotonic() < until, "it never came"
            time.sleep(0.02)

    return wait_for


@pytest.fixture
def child(local):
    """Starts code in a process of its own, where ``client`` is a client and ``argv`` what is given.

    Its streams are pipes of text; what it prints is there at once.
    """
    children = []

    def child(code, *argv, **settings):
        options = {**local.client_options, **settings}
        command = [sys.executable, "-u", "-c", HEAD + code, json.dumps(options), *map(str, argv)]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(command, **streams, text=True)
        children.append(process)
        return process

    yield child
    for process in children:
        process.kill()
        process.communicate()


HEAD = """
import json, sys
from bedrock_marengo import MarengoClient
client, argv = MarengoClient(**json.loads(sys.argv[1])), sys.argv[2:]
"""
