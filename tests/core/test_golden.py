"""What is stored, frozen: a change here makes users' stores and finished jobs unknown, and is a major version.

Each file holds inputs and what must come of them; the code computes from the inputs and compares.
"""

import hashlib
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from bedrock_marengo import Segment, Segmentation, SegmentEmbeddings
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest, s3_location
from bedrock_marengo.jobs.fingerprint import FORMAT, RequestFile, fingerprint, token, work_prefix
from bedrock_marengo.s3.object_version import SourceIdentity

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def cases(name, key):
    return [pytest.param(case, id=case[key]) for case in golden(name)]


def request_of(asked):
    cut = asked.get("segmentation")
    settings = {**asked, "model": MODELS[asked["model"]]}
    return MediaRequest(**{**settings, "segmentation": Segmentation(*cut) if cut else None})


@pytest.mark.parametrize("case", cases("segments", "uri"))
def test_segments(case):
    segment = Segment(**case["segment"])
    assert (segment.uri, segment.id) == (case["uri"], case["id"])
    assert Segment.parse(case["uri"]) == segment
    assert str(uuid.uuid5(uuid.NAMESPACE_URL, case["uri"])) == case["id"]


@pytest.mark.parametrize("case", cases("metadata", "id"))
def test_metadata(case):
    rows = case["rows"]
    embeddings = SegmentEmbeddings(
        vectors=np.zeros((len(rows), 2), np.float32),
        start_sec=np.array([row[0] for row in rows], np.float64),
        end_sec=np.array([row[1] for row in rows], np.float64),
        option=[row[2] for row in rows],
        scope=[row[3] for row in rows],
        **case["medium"],
    )
    written = [json.dumps(embeddings.metadata(i), ensure_ascii=False) for i in range(len(rows))]
    assert written == [json.dumps(metadata, ensure_ascii=False) for metadata in case["metadata"]]


@pytest.mark.parametrize("case", cases("fingerprints", "id"))
def test_fingerprints(case):
    source = SourceIdentity(**case["source"])
    for asked in case["requests"]:
        request = request_of(asked)
        content = {
            "format": FORMAT,
            "model": request.model.model_id,
            "request": request.canonical(),
            "source": source.canonical(),
        }
        assert json.dumps(content, sort_keys=True, separators=(",", ":")) == case["canonical"]
        assert fingerprint(request, source) == case["fingerprint"]
    assert hashlib.sha256(case["canonical"].encode()).hexdigest() == case["fingerprint"]


def test_all_fingerprints_differ():
    found = [case["fingerprint"] for case in golden("fingerprints")]
    assert len(set(found)) == len(found) and len({digest[:16] for digest in found}) == len(found)


@pytest.mark.parametrize("case", cases("work", "prefix"))
def test_work_prefix_and_token(case):
    assert work_prefix(case["output_s3_uri"], case["source"], case["fingerprint"]) == case["prefix"]
    assert [token(case["fingerprint"], attempt) for attempt in (1, 2, 3)] == case["tokens"]


def test_request_json_byte_for_byte():
    case = golden("request_file")
    request, source = request_of(case["request"]), SourceIdentity(**case["source"])
    record = RequestFile(
        format=FORMAT,
        fingerprint=fingerprint(request, source),
        source=source.canonical(),
        uri=source.uri,
        model_id=request.model.model_id,
        request=request.canonical(),
        model_input=request.body(s3_location(source.uri, case["bucket_owner"])),
        attempt=case["attempt"],
        arn=case["arn"],
    )
    assert record.encode().decode() == "\n".join(case["lines"])
    assert RequestFile.decode(record.encode(), "here") == record


def test_the_client_stores_what_the_golden_files_say(client, local, video):
    """Compares with what a run stores on S3."""
    found = client.embed_media(video)
    digest = hashlib.sha256(video.encode()).hexdigest()[:16]
    keys = [item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/")["Contents"]]
    job = f"marengo/{digest}/{found.job}"
    invocation = local.calls.of("GetAsyncInvoke")[0].arn.rsplit("/", 1)[-1]
    written = [f"{invocation}/manifest.json", f"{invocation}/output.json", "request.json"]
    assert sorted(keys) == sorted(f"{job}/{name}" for name in written)
    record = json.loads(local.s3.get_object(Bucket=local.bucket, Key=f"{job}/request.json")["Body"].read())
    started = local.calls.of("StartAsyncInvoke")[0].body
    assert record["model_input"] == started["modelInput"]
    assert started["clientRequestToken"] == f"{record['fingerprint']}-1" and record["fingerprint"][:16] == found.job
