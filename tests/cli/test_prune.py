"""`marengo prune`: a Chroma collection on disk loses the segments of files that are gone."""

import json

import chromadb
import pytest
from langchain_chroma import Chroma
from typer.testing import CliRunner

from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments
from marengo_cli.app import app


@pytest.fixture
def uris(marengo_bedrock):
    marengo_bedrock.synthetic_sec = 12.0
    return [marengo_bedrock.put(key.encode(), key) for key in ("v/a.mp4", "v/b.mp4", "other/c.mp4")]


@pytest.fixture
def run(marengo_bedrock, uris, tmp_path):
    """Run the command on a store with three sources, two of which are gone."""
    local = marengo_bedrock
    embeddings = MarengoEmbeddings(**local.client_options)
    store = Chroma("videos", embeddings, client=chromadb.PersistentClient(str(tmp_path)))
    add_segments(store, MarengoLoader(uris, embeddings=embeddings, show_progress=False).lazy_load())
    for key in ("v/a.mp4", "other/c.mp4"):
        local.s3.delete_object(Bucket=local.bucket, Key=key)

    def run(*arguments, answer="", place=f"s3://{local.bucket}/v/"):
        options = ["--chroma", str(tmp_path), "--collection", "videos", "--output-s3-uri", local.output_s3_uri]
        found = CliRunner().invoke(app, ["prune", place, *options, *arguments], input=answer)
        return found, {row["source"] for row in store.get()["metadatas"]}

    return run


def test_it_shows_asks_and_deletes(run, uris):
    dry, left = run("--dry-run")
    assert dry.exit_code == 0 and f"{uris[0]}: gone" in dry.output and left == set(uris)
    refused, left = run(answer="n\n")
    assert refused.exit_code == 2 and "no terminal" in refused.output and left == set(uris)
    bounded, left = run("--yes", "--max-segments", "1")
    assert bounded.exit_code == 2 and "--max-segments 1" in bounded.output and left == set(uris)
    done, left = run("--yes", "--json")
    assert done.exit_code == 0 and list(json.loads(done.stdout)["sources"]) == [uris[0]] and left == set(uris[1:])


def test_mistakes_are_said(run, uris):
    found, left = run("--yes", place="v")
    assert found.exit_code == 2 and "Traceback" not in found.output and left == set(uris)
