"""Jobs resumed in other processes: the two Lambda functions of docs/lambda.md, and client.job()."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
import pytest

from bedrock_marengo import ConfigurationError, InputError, JobError, OutputError

ROOT = Path(__file__).parent.parent.parent

MY_APP = """
import atexit, os
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_marengo import MarengoEmbeddings

embeddings = MarengoEmbeddings(output_s3_uri=os.environ["MARENGO_OUTPUT"])
kept = os.path.exists("store.json")
store = InMemoryVectorStore.load("store.json", embeddings) if kept else InMemoryVectorStore(embeddings)
atexit.register(store.dump, "store.json")
"""

RUN = "import json, sys; from {module} import handler; print(json.dumps(handler(json.load(sys.stdin), None)))"


@pytest.fixture
def functions(local, tmp_path):
    """Runs one of the recipe's handlers in a separate process."""
    text = (ROOT / "docs" / "lambda.md").read_text("utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(code)
    (tmp_path / "my_app.py").write_text(MY_APP)
    env = {**os.environ, **local.env, "MARENGO_OUTPUT": local.output_s3_uri, "PYTHONPATH": str(tmp_path)}

    def run(module, *uris):
        places = [uri.removeprefix("s3://").split("/", 1) for uri in uris]
        records = [{"s3": {"bucket": {"name": b}, "object": {"key": quote_plus(key, safe="/")}}} for b, key in places]
        ran = subprocess.run(
            [sys.executable, "-c", RUN.format(module=module)],
            input=json.dumps({"Records": records}),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


def outputs(local, count=1):
    """The URIs of the outputs, once Bedrock has written this many."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        listed = local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/").get("Contents", [])
        found = [f"s3://{local.bucket}/{item['Key']}" for item in listed if item["Key"].endswith("/output.json")]
        if len(found) == count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"there are not {count} outputs")


@pytest.mark.slow
def test_the_recipe(local, functions, connect, tmp_path):
    video = local.put(b"a video", "videos/a match+.mp4")
    # S3 may report an object twice.
    first, second = functions("start", video, video)
    assert first is not None and second in (first, None)
    (output,) = outputs(local)
    assert functions("collect", output, output) == 9
    assert len(local.jobs) == 1
    kept = json.loads((tmp_path / "store.json").read_text())
    found = connect().embed_media(video, scopes=["clip"])
    assert sorted(kept) == sorted(segment.id for segment in found)
    vectors = {segment.id: vector for segment, vector in zip(found, found.vectors, strict=True)}
    assert all(np.allclose(kept[key]["vector"], vector, atol=1e-6) for key, vector in vectors.items())


def test_resume_a_job_by_arn(client, connect, local, video, held):
    job = client.start(video)
    other = connect()
    found = other.job(job.arn)
    assert (found.source, found.id, found.kind, found.prefix) == (video, job.id, "video", job.prefix)
    assert found.status() == "InProgress"
    held.set()
    assert len(other.collect(found)) and other.job(job.arn).status() == "Completed"
    assert len(local.jobs) == 1


def test_resume_a_job_by_output_uri(client, connect, local, video):
    first = client.embed_media(video)
    (output,) = outputs(local)
    for name in (output, f"{output.rsplit('/', 2)[0]}/request.json"):
        job = connect().job(name)
        assert job.status() == "Completed" and list(connect().collect(job)) == list(first)


async def test_resume_a_job_with_asyncio(client, local, video):
    job = await client.astart(video)
    assert len(await client.acollect(await client.ajob(job.arn))) == 12


def test_invalid_jobs(client, connect, local, video):
    client.embed_media(video)
    (output,) = outputs(local)
    arn = local.calls.of("GetAsyncInvoke")[0].arn if local.calls["GetAsyncInvoke"] else client.job(output).arn
    for name, error, match in (
        ("a string", InputError, "does not name a job"),
        (video, InputError, "does not name a job"),
        (output.replace("/output.json", "x/output.json"), OutputError, "does not exist, or is marked unusable"),
        (f"s3://{local.bucket}/elsewhere/id/output.json", OutputError, "not a job of this package"),
        (arn[:-12] + "abcdefghijkl", JobError, "Bedrock does not know"),
    ):
        with pytest.raises(error, match=match):
            client.job(name)
    with pytest.raises(ConfigurationError, match="use a client with model="):
        connect("2.7").job(output)
