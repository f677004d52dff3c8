"""Retrieved moments in a prompt and in a message, as LlamaIndex's LLMs take them."""

import asyncio
from functools import cache

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import ChatMessage, ImageBlock, MockLLM, TextBlock, VideoBlock
from llama_index.core.schema import NodeWithScore, TextNode

from bedrock_marengo import InputError, MarengoWarning
from llama_index_marengo import MarengoRetriever, amoment_blocks, format_moments, moment_blocks
from marengo_local import Fault

from ..films import film, number_in, pixels_in

film = cache(film)


@pytest.fixture
def index(local, segment, match, embed_model):
    """A film of 12 s with captions: two clips on three tracks."""
    local.put(film(seconds=12.0, fps=10), "match.mp4")
    return VectorStoreIndex(segment(match), embed_model=embed_model)


@pytest.fixture
def moments(index, embed_model):
    """The two moments of the film, in order of time."""
    found = MarengoRetriever(index=index, embed_model=embed_model, similarity_top_k=2).retrieve("a goal")
    return sorted(found, key=lambda hit: hit.metadata["start_sec"])


def numbers(blocks):
    return [number_in(pixels_in(b.resolve_image().read())) for b in blocks if isinstance(b, ImageBlock)]


class TestText:
    def test_moments_of_a_retriever(self, moments):
        text = "[1] match.mp4, 00:00 to 00:06\nwords: He shoots\n[2] match.mp4, 00:06 to 00:12\nwords: Goal!"
        assert format_moments(moments) == format_moments([hit.node for hit in moments]) == text

    def test_segments_of_an_index(self, index):
        lines = format_moments(index.as_retriever(similarity_top_k=4).retrieve("a goal")).splitlines()
        assert [line.split(",")[0] for line in lines[::2]] == [f"[{number}] match.mp4" for number in (1, 2, 3, 4)]

    def test_other_nodes_keep_their_place(self, moments):
        report = TextNode(text="Offside\n[7] fake.mp4", metadata={"file_name": "report.pdf"})
        for others in (report, NodeWithScore(node=report, score=0.5)):
            assert format_moments([moments[0], others, TextNode(text=" "), moments[1]]) == (
                "[1] match.mp4, 00:00 to 00:06\nwords: He shoots\n"
                "[2] report.pdf\ntext: Offside [7] fake.mp4\n"
                "[3] match.mp4, 00:06 to 00:12\nwords: Goal!"
            )

    def test_within_a_budget(self, moments):
        assert len(format_moments(moments, max_chars=60)) <= 60
        with pytest.raises(InputError, match="too small for one moment"):
            format_moments(moments, max_chars=5)

    def test_one_node_in_place_of_many(self, moments):
        for one in (moments[0], moments[0].node):
            with pytest.raises(InputError, match="pass a list, even for"):
                format_moments(one)

    @pytest.mark.parametrize(
        "metadata", [{"start_sec": "now", "tracks": "all"}, {"end_sec": None, "media_type": 7}, {}]
    )
    def test_any_metadata_that_others_wrote(self, moments, metadata):
        planted = TextNode(text=moments[0].node.text, metadata=metadata)
        assert format_moments([planted]) == "[1] match.mp4, 00:00 to 00:06\nwords: He shoots"


class TestBlocks:
    def test_each_text_is_followed_by_its_frames(self, moments, embed_model):
        blocks = moment_blocks(moments, embed_model=embed_model, frames_per_moment=2)
        assert [block.block_type for block in blocks] == ["text", "image", "image"] * 2
        assert numbers(blocks) == [15, 45, 75, 105]
        assert "\n".join(block.text for block in blocks if isinstance(block, TextBlock)) == format_moments(moments)

    def test_a_message_holds_them_and_can_be_stored(self, moments, embed_model):
        blocks = moment_blocks(moments[:1], embed_model=embed_model)
        message = ChatMessage(role="user", blocks=[TextBlock(text="When is the goal?"), *blocks])
        stored = ChatMessage.model_validate_json(message.model_dump_json())
        assert stored == message
        assert numbers(stored.blocks) == [30]
        assert stored.blocks[2].image_mimetype == "image/jpeg"
        assert "When is the goal?" in MockLLM().chat([message]).message.content

    def test_the_same_input_gives_the_same_blocks(self, moments, embed_model):
        first, second = (moment_blocks(moments, embed_model=embed_model) for _ in range(2))
        assert first == second

    def test_budgets_and_width(self, moments, embed_model):
        blocks = moment_blocks(moments, embed_model=embed_model, max_chars=60, max_frames=1, width=64)
        [frame] = [block for block in blocks if isinstance(block, ImageBlock)]
        assert pixels_in(frame.resolve_image().read()).shape[1] == 64
        assert sum(len(block.text) for block in blocks if isinstance(block, TextBlock)) <= 60

    def test_media_elsewhere_are_not_read(self, moments, embed_model, local):
        local.calls.reset()
        blocks = moment_blocks(moments, embed_model=embed_model, allowed_prefixes=["s3://other/"])
        assert [block.block_type for block in blocks] == ["text", "text"]
        assert local.calls["s3:GetObject"] == 0

    def test_a_medium_that_is_gone_is_warned_of(self, moments, embed_model, local):
        local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
        with pytest.warns(MarengoWarning, match="NoSuchKey"):
            blocks = moment_blocks(moments, embed_model=embed_model)
        assert [block.block_type for block in blocks] == ["text", "text"]

    async def test_for_asyncio_it_leaves_the_loop_free(self, moments, embed_model, local):
        local.faults = [Fault("s3:GetObject", delay_sec=0.15)]
        task = asyncio.ensure_future(amoment_blocks(moments, embed_model=embed_model, max_frames=1))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 5
        assert task.result() == moment_blocks(moments, embed_model=embed_model, max_frames=1)

    def test_the_best_moment_as_a_clip(self, moments, embed_model):
        blocks = moment_blocks(moments, embed_model=embed_model, video=True)
        assert [block.block_type for block in blocks] == ["text", "video", "text", "image"]
        assert isinstance(blocks[1], VideoBlock) and blocks[1].video_mimetype == "video/mp4"
        assert blocks[1].resolve_video().read()[4:8] == b"ftyp"
        blocks = moment_blocks(moments, embed_model=embed_model, video=True, max_video_bytes=10)
        assert [block.block_type for block in blocks] == ["text", "image", "text", "image"]
