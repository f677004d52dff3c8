"""One stand-in for the whole directory; each test gets it clean, with invented media unless it turns that off."""

import json
import time

import boto3
import pytest
from botocore.config import Config

import marengo_local

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
M27 = "twelvelabs.marengo-embed-2-7-v1:0"


class Bedrock:
    """Bare boto3 against a stand-in, one attempt a call."""

    def __init__(self, local):
        options = {"region_name": local.region_name, "endpoint_url": local.endpoint_url}
        keys = {key: local.client_options[key] for key in ("aws_access_key_id", "aws_secret_access_key")}
        config = Config(retries={"total_max_attempts": 1}, read_timeout=10)
        self.local = local
        self.client = boto3.client("bedrock-runtime", config=config, **options, **keys)
        self.s3 = boto3.client(
            "s3", region_name=local.region_name, endpoint_url=local.s3_endpoint_url, config=config, **keys
        )

    def invoke(self, body, model_id=M3):
        data = body if isinstance(body, bytes) else json.dumps(body)
        return json.loads(self.client.invoke_model(modelId=model_id, body=data)["body"].read())

    def text(self, text="a dog"):
        return self.invoke({"inputType": "text", "text": {"inputText": text}})

    def start(self, model_input, model_id=M3, s3_uri=None, **more):
        output = {"s3OutputDataConfig": {"s3Uri": s3_uri or self.local.output_s3_uri}}
        request = {"modelId": model_id, "modelInput": model_input, "outputDataConfig": output, **more}
        return self.client.start_async_invoke(**request)["invocationArn"]

    def start_video(self, key="video.mp4", **more):
        return self.start(self.video(key), **more)

    def video(self, key="video.mp4", **fields):
        uri = self.local.put(b"not a video", key)
        return {"inputType": "video", "video": {"mediaSource": self.s3_source(uri), **fields}}

    def s3_source(self, uri):
        return {"s3Location": {"uri": uri, "bucketOwner": self.local.account_id}}

    def end_of(self, arn, limit_sec=60.0):
        until = time.monotonic() + limit_sec
        while time.monotonic() < until:
            job = self.client.get_async_invoke(invocationArn=arn)
            if job["status"] != "InProgress":
                return job
            time.sleep(0.02)
        raise AssertionError("the job did not end")

    def raw_output(self, job, name="output.json"):
        bucket, _, prefix = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"][5:].partition("/")
        return self.local.s3.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()

    def rows(self, model_input, **more):
        job = self.end_of(self.start(model_input, **more))
        assert job["status"] == "Completed", job
        return json.loads(self.raw_output(job))["data"]


@pytest.fixture(scope="session")
def _served():
    with marengo_local.serve(synthetic_sec=12.0) as local:
        yield local


@pytest.fixture
def local(_served):
    _served.reset()
    return _served


@pytest.fixture
def connect():
    return Bedrock


@pytest.fixture(scope="session")
def _bedrock(_served):
    return Bedrock(_served)


@pytest.fixture
def bedrock(local, _bedrock):
    return _bedrock
