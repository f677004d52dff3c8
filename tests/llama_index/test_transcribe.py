"""MarengoSegmenter with Amazon Transcribe: nodes of files without captions have words."""

import pickle

import pytest

from bedrock_marengo import Transcribe
from llama_index_marengo import MarengoSegmenter

CAPTIONS = "1\n00:00:00,000 --> 00:00:06,000\nby hand\n"


@pytest.fixture(autouse=True)
def _said(local):
    local.say("*", [(0.0, 4.0, "And there is the goal!")])


def first(nodes):
    return next(node.text for node in nodes if node.metadata["start_sec"] == 0)


def test_files_without_captions_are_heard_once(local, segment):
    uri = local.put(b"a video", "heard.mp4")
    for _ in range(2):
        assert first(segment(uri, transcripts=Transcribe())).endswith("\nAnd there is the goal!")
        assert len(local.transcriptions) == 1


def test_captions_of_a_local_file_are_not_next_to_its_upload(local, segment, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a local video")
    (tmp_path / "a.srt").write_text(CAPTIONS)
    assert first(segment(tmp_path, transcripts=Transcribe())).endswith("\nby hand")
    assert len(local.transcriptions) == 0


def test_the_setting_is_part_of_the_key_and_is_pickled(embed_model):
    segmenters = [
        MarengoSegmenter(embed_model=embed_model, transcripts=transcripts)
        for transcripts in (True, Transcribe(), Transcribe("en-US"))
    ]
    assert len({repr(segmenter.to_dict()) for segmenter in segmenters}) == 3
    again = pickle.loads(pickle.dumps(segmenters[2]))
    assert again.transcripts == Transcribe("en-US") and again.to_dict() == segmenters[2].to_dict()
