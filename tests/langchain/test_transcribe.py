"""MarengoLoader with Amazon Transcribe: segments of files without captions have words."""

import pytest

from bedrock_marengo import ConfigurationError, MarengoWarning, Transcribe
from langchain_marengo import MarengoLoader
from marengo_local import Fault

CAPTIONS = b"WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nby hand\n"


@pytest.fixture
def prefix(local):
    local.say("*", [(0.0, 4.0, "And there is the goal!")])
    local.put(b"a", "v/a.mp4")
    local.put(b"b", "v/b.mp4")
    local.put(CAPTIONS, "v/b.vtt")
    return f"s3://{local.bucket}/v/"


def firsts(documents):
    return {d.metadata["source"][-5:]: d.page_content for d in documents if d.metadata["start_sec"] == 0}


def test_files_without_captions_are_heard_once(local, load, prefix):
    for _ in range(2):
        found = firsts(load(prefix, transcripts=Transcribe(), options=["visual"]))
        assert found["a.mp4"].endswith("\nAnd there is the goal!") and found["b.mp4"].endswith("\nby hand")
        assert len(local.transcriptions) == 1
    assert firsts(load(prefix, transcripts=True))["a.mp4"].count("goal") == 0


async def test_for_asyncio(embeddings, prefix):
    loader = MarengoLoader(prefix, embeddings=embeddings, transcripts=Transcribe(), show_progress=False)
    assert firsts(await loader.aload())["a.mp4"].endswith("\nAnd there is the goal!")


def test_a_failure_loses_no_segments(local, load, prefix):
    local.faults = [Fault("TranscriptionJob", error="Failed", message="No.")]
    with pytest.warns(MarengoWarning, match="no words by Amazon Transcribe"):
        assert len(load(prefix, transcripts=Transcribe())) == 12


def test_another_value_is_refused(load, prefix):
    with pytest.raises(ConfigurationError, match=r"Transcribe\(\.\.\.\)"):
        load(prefix, transcripts="en-US")
