"""`marengo migrate`: a Chroma collection on disk from 2.7 to 3.0, as a user types it."""

import json

import chromadb
import numpy as np
import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from typer.testing import CliRunner

from bedrock_marengo import MarengoClient, Segment
from bedrock_marengo.contract.models import MODELS
from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments
from langchain_marengo.migrate import inventory
from marengo_cli.app import app
from marengo_local import Fault

OLD, NEW = MODELS["2.7"].model_id, MODELS["3.0"].model_id


@pytest.fixture
def local(marengo_bedrock):
    marengo_bedrock.synthetic_sec = 12.0
    return marengo_bedrock


@pytest.fixture
def uris(local):
    return [local.put(key.encode(), key) for key in ("match.mp4", "song.mp3", "still.jpg")]


@pytest.fixture
def folder(local, uris, tmp_path):
    """A Chroma store on disk with a collection of 2.7, as it was left, of a tenant."""
    embeddings = MarengoEmbeddings(**local.client_options | {"model_id": "2.7"})
    store = Chroma("old", embeddings, client=chromadb.PersistentClient(str(tmp_path)))
    loader = MarengoLoader(uris, embeddings=embeddings, metadata=lambda source: {"tenant": "acme"}, show_progress=False)
    add_segments(store, loader.lazy_load())
    local.calls.reset()
    return tmp_path


@pytest.fixture
def run(local, folder):
    """Run the command; the environment says where AWS is."""

    def run(*arguments, answer="", **settings):
        settings = {"chroma": folder, "collection": "old", "into": "new"} | settings
        settings = {"output_s3_uri": local.output_s3_uri, "bucket_owner": local.account_id} | settings
        options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return CliRunner().invoke(app, ["migrate", *options, *arguments], input=answer)

    return run


def opened(folder, name="new"):
    return Chroma(name, client=chromadb.PersistentClient(str(folder)), create_collection_if_not_exists=False)


def names(folder):
    return {collection.name for collection in chromadb.PersistentClient(str(folder)).list_collections()}


def paid(local):
    return [*local.calls.of("InvokeModel"), *local.calls.of("StartAsyncInvoke")]


def test_a_dry_run_lists_plans_and_pays_nothing(local, folder, run):
    result = run("--dry-run")
    assert result.exit_code == 0
    assert OLD in result.stdout
    assert "to start   3" in result.stdout
    # The media are no real ones: their lengths can't be read.
    assert "2 of unknown length" in result.stdout
    assert "0.01 hours, 0.0102 USD in total" in result.stdout
    assert "from litellm's test data, not from the AWS price page" in result.stdout
    assert not paid(local)
    assert names(folder) == {"old"}


def test_the_new_collection_holds_the_jobs_own_vectors(local, folder, uris, run):
    before = opened(folder, "old").get(include=["embeddings", "metadatas", "documents"])
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert "Chroma('new'" in result.stdout
    assert {call.model_id for call in paid(local)} <= {NEW, *MODELS["3.0"].invoke_ids["us-east-1"]}
    rows = opened(folder).get(include=["embeddings", "metadatas", "documents"])
    uris_of = [text.partition("\n")[0] for text in rows["documents"]]
    stored = dict(zip(uris_of, rows["embeddings"], strict=True))
    client = MarengoClient(**local.client_options)
    wanted = [client.embed_media(uri, scopes=["clip"]) for uri in uris]
    expected = {found[i].uri: vector for found in wanted for i, vector in enumerate(found.vectors)}
    assert stored.keys() == expected.keys()
    # For cosine Chroma keeps vectors of length 1 next to their lengths: what comes back is off in the last bit.
    for uri, vector in expected.items():
        np.testing.assert_allclose(stored[uri], vector, rtol=0, atol=1e-7)
    assert {row["tenant"] for row in rows["metadatas"]} == {"acme"}
    after = opened(folder, "old").get(include=["embeddings", "metadatas", "documents"])
    assert before["ids"] == after["ids"]
    assert np.array_equal(before["embeddings"], after["embeddings"])


def test_2_7_may_have_ended(local, run):
    said = "This model version has reached the end of its life. Please refer to the AWS documentation for more details."
    local.faults = [
        Fault(op, error="ResourceNotFoundException", message=said, when=lambda call: OLD in call.model_id)
        for op in ("InvokeModel", "StartAsyncInvoke")
    ]
    assert run("--dry-run").exit_code == 0
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert "All counts match" in result.stdout
    assert not any(fault.hits for fault in local.faults)


def test_the_new_collection_opens_as_told_and_is_searched(local, folder, uris, run):
    run("--yes")
    new = Chroma("new", MarengoEmbeddings(**local.client_options), persist_directory=str(folder))
    assert {document.metadata["source"] for document in new.similarity_search("a goal", k=20)} == set(uris)
    assert new._collection.configuration_json["hnsw"]["space"] == "cosine"


def test_a_second_run_pays_nothing_and_does_not_ask(local, folder, run):
    run("--yes")
    whole = inventory(opened(folder))
    opened(folder).delete(opened(folder).get()["ids"][:2])
    local.calls.reset()
    result = run()
    assert result.exit_code == 0, result.output
    assert "to reuse   3" in result.stdout
    assert not paid(local)
    assert inventory(opened(folder)) == whole


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_it_asks_before_it_pays(local, folder, run, answer):
    result = run(answer=answer)
    assert result.exit_code == 2
    assert "Files to embed: 3, for about 0.0102 USD. Continue?" in result.stderr
    assert not paid(local)
    assert names(folder) == {"old"}
    assert run(answer="y\n").exit_code == 0


def test_json_is_all_of_stdout(local, uris, run):
    planned = json.loads(run("--dry-run", "--json").stdout)
    assert planned["held"][OLD]["sources"] == 3
    assert planned["plan"]["started"] == {"video": 1, "audio": 1, "image": 1}
    assert planned["plan"]["unknown"] == 2
    assert planned["plan"]["usd_as_held"] == pytest.approx(12 * 0.0007 + 12 * 0.00014 + 0.0001)
    assert planned["moved"] is None
    done = json.loads(run("--yes", "--json").stdout)
    assert set(done["moved"]["added"]) == set(uris)
    assert done["moved"]["failed"] == done["moved"]["wrong"] == {}
    assert json.loads(run("--json").stdout)["plan"]["reused"] == 3


def test_one_that_fails_is_told_and_the_others_are_moved(local, folder, uris, run):
    local.faults = [Fault("StartAsyncInvoke", error="ValidationException", when=lambda call: "song" in str(call.body))]
    result = run("--yes")
    assert result.exit_code == 1
    assert f"failed: {uris[1]}" in result.stderr
    assert "Not all segments arrived" in result.stdout
    assert set(inventory(opened(folder)).of(NEW)) == {uris[0], uris[2]}
    local.faults = []
    assert run("--yes").exit_code == 0


def test_counts_that_differ_are_told(folder, run, monkeypatch):
    add = Chroma.add_documents

    def leaky(store, documents, ids):
        return add(store, documents[1:], ids=ids[1:])

    monkeypatch.setattr(Chroma, "add_documents", leaky)
    result = run("--yes")
    assert result.exit_code == 1
    assert "count differs" in result.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"collection": "older"}, "Expected one of old"),
        ({"into": "old"}, "expected a different collection"),
        ({"into": "?"}, "--into ?"),
        ({"chroma": "nowhere"}, "no Chroma store"),
        ({"output_s3_uri": "bucket/marengo"}, "bucket/marengo"),
        ({"bucket_owner": "me"}, "me"),
    ],
)
def test_a_users_mistake_is_a_line_and_2(local, folder, run, settings, said):
    result = run("--yes", **settings)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("--yes", "-v", **settings).stderr
    assert not paid(local)
    assert names(folder) == {"old"}


def test_what_aws_refuses_is_a_line_and_1(local, run):
    local.faults = [Fault("s3:ListObjectsV2", error="AccessDenied")]
    result = run("--dry-run")
    assert result.exit_code == 1
    assert "AccessDenied" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_collection_of_another_model_is_not_filled(folder, run, local):
    other = Chroma("new", client=chromadb.PersistentClient(str(folder)))
    row = opened(folder, "old").get(limit=1, include=["embeddings", "metadatas", "documents"])
    other._collection.add(row["ids"], row["embeddings"], row["metadatas"], row["documents"])
    result = run("--yes")
    assert result.exit_code == 2
    assert OLD in result.stderr
    assert not paid(local)


def test_nothing_to_move(run, folder, local):
    run("--yes")
    local.calls.reset()
    result = run("--yes", collection="new", into="newer")
    assert result.exit_code == 0
    assert "Nothing to move" in result.stdout
    assert "3 sources of the old collection" in result.stderr
    assert not paid(local)
    assert names(folder) == {"old", "new"}


def test_a_collection_of_llama_index_is_only_listed(local, folder, uris, run):
    text = Segment(uris[0], 0, 6, "audio", "clip", "0" * 16).uri
    metadata = opened(folder, "old").get(limit=1)["metadatas"][0] | {"_node_content": "{}"}
    embeddings = MarengoEmbeddings(**local.client_options | {"model_id": "2.7"})
    theirs = Chroma("theirs", client=chromadb.PersistentClient(str(folder)))
    theirs._collection.add(["a"], [embeddings.embed_query("a")], [metadata], [Document(text).page_content])
    local.calls.reset()
    assert run("--dry-run", collection="theirs").exit_code == 0
    result = run("--yes", collection="theirs")
    assert result.exit_code == 2
    assert "MarengoSegmenter" in result.stderr
    assert not paid(local)
