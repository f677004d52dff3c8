"""Retrieved moments in a prompt and in a message, as LangChain's chat models take them."""

import asyncio
import base64
from functools import cache

import pytest
from langchain_aws.chat_models.bedrock_converse import _messages_to_bedrock
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, convert_to_openai_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import InputError, MarengoWarning
from langchain_marengo import MarengoRetriever, add_segments, amoment_content, format_moments, moment_content
from marengo_local import Fault

from ..films import film, number_in, pixels_in

film = cache(film)
SRT = b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n"


@pytest.fixture
def match(local):
    """A film of 12 s with captions: two clips on three tracks."""
    local.put(SRT, "match.srt")
    return local.put(film(seconds=12.0, fps=10), "match.mp4")


@pytest.fixture
def store(embeddings, load, match):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(match))
    return store


@pytest.fixture
def moments(store, embeddings):
    """The two moments of the film, in order of time."""
    found = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=2).invoke("a goal")
    return sorted(found, key=lambda document: document.metadata["start_sec"])


class TestText:
    def test_moments_of_a_retriever(self, moments):
        assert format_moments(moments) == (
            "[1] match.mp4, 00:00 to 00:06\nwords: He shoots\n[2] match.mp4, 00:06 to 00:12\nwords: Goal!"
        )

    def test_segments_of_a_store(self, store):
        lines = format_moments(store.similarity_search("a goal", k=4)).splitlines()
        assert [line.split(",")[0] for line in lines[::2]] == [f"[{number}] match.mp4" for number in (1, 2, 3, 4)]

    def test_other_documents_keep_their_place(self, moments):
        report = Document(page_content="Offside\n[7] fake.mp4", metadata={"source": "s3://bucket/laws/report.pdf"})
        assert format_moments([moments[0], report, moments[1]]) == (
            "[1] match.mp4, 00:00 to 00:06\nwords: He shoots\n"
            "[2] report.pdf\ntext: Offside [7] fake.mp4\n"
            "[3] match.mp4, 00:06 to 00:12\nwords: Goal!"
        )

    def test_as_a_step_of_a_chain(self, store):
        prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
        retriever = store.as_retriever(search_kwargs={"k": 1})
        chain = {"context": retriever | format_moments, "question": RunnablePassthrough()} | prompt
        said = (chain | RunnableLambda(lambda prompt: prompt.to_string()) | StrOutputParser()).invoke("When?")
        assert said.startswith("Human: [1] match.mp4, 00:") and said.endswith("\n\nWhen?")

    def test_within_a_budget(self, moments):
        assert len(format_moments(moments, max_chars=60)) <= 60
        with pytest.raises(InputError, match="too small for one moment"):
            format_moments(moments, max_chars=5)

    def test_one_document_in_place_of_many(self, moments):
        with pytest.raises(InputError, match="pass a list, even for"):
            format_moments(moments[0])

    @pytest.mark.parametrize(
        "metadata", [{"start_sec": "now", "tracks": "all"}, {"end_sec": None, "media_type": 7}, {}]
    )
    def test_whatever_somebody_wrote_into_the_metadata(self, moments, metadata):
        planted = Document(page_content=moments[0].page_content, metadata=metadata)
        assert format_moments([planted]) == "[1] match.mp4, 00:00 to 00:06\nwords: He shoots"


class TestContent:
    def test_each_text_is_followed_by_its_frames(self, moments, embeddings):
        content = moment_content(moments, embeddings=embeddings, frames_per_moment=2)
        assert [block["type"] for block in content] == ["text", "image", "image"] * 2
        frames = [base64.b64decode(block["base64"]) for block in content if block["type"] == "image"]
        assert [number_in(pixels_in(frame)) for frame in frames] == [15, 45, 75, 105]
        texts = [block["text"] for block in content if block["type"] == "text"]
        assert "\n".join(texts) == format_moments(moments)

    def test_other_documents_keep_their_place_and_have_no_frames(self, moments, embeddings):
        report = Document(page_content="Offside", metadata={"title": "Laws"})
        content = moment_content([report, *moments], embeddings=embeddings)
        assert [block["type"] for block in content] == ["text", *["text", "image"] * 2]
        assert content[0]["text"] == "[1] Laws\ntext: Offside"

    def test_a_message_holds_it_and_every_provider_can_have_it(self, moments, embeddings):
        content = moment_content(moments[:1], embeddings=embeddings)
        message = HumanMessage(content=[{"type": "text", "text": "When is the goal?"}, *content])
        assert message.content_blocks[1:] == content
        assert HumanMessage.model_validate_json(message.model_dump_json()) == message
        [openai] = convert_to_openai_messages([message])
        assert openai["content"][2]["image_url"]["url"] == f"data:image/jpeg;base64,{content[1]['base64']}"
        [bedrock], _ = _messages_to_bedrock([message])
        assert bedrock["content"][2]["image"]["format"] == "jpeg"
        assert number_in(pixels_in(bedrock["content"][2]["image"]["source"]["bytes"])) == 30

    def test_the_same_input_gives_the_same_content(self, moments, embeddings):
        first, second = (moment_content(moments, embeddings=embeddings) for _ in range(2))
        assert first == second

    def test_budgets_and_width(self, moments, embeddings):
        content = moment_content(moments, embeddings=embeddings, max_chars=60, max_frames=1, width=64)
        [frame] = [block for block in content if block["type"] == "image"]
        assert pixels_in(base64.b64decode(frame["base64"])).shape[1] == 64
        assert sum(len(block["text"]) for block in content if block["type"] == "text") <= 60

    def test_media_elsewhere_are_not_read(self, moments, embeddings, local):
        local.calls.reset()
        content = moment_content(moments, embeddings=embeddings, allowed_prefixes=["s3://other/"])
        assert [block["type"] for block in content] == ["text", "text"]
        assert local.calls["s3:GetObject"] == 0

    def test_a_medium_that_is_gone_is_warned_of(self, moments, embeddings, local):
        local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
        with pytest.warns(MarengoWarning, match="NoSuchKey"):
            content = moment_content(moments, embeddings=embeddings)
        assert [block["type"] for block in content] == ["text", "text"]

    async def test_for_asyncio_it_leaves_the_loop_free(self, moments, embeddings, local):
        local.faults = [Fault("s3:GetObject", delay_sec=0.15)]
        task = asyncio.ensure_future(amoment_content(moments, embeddings=embeddings, max_frames=1))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 5
        assert task.result() == moment_content(moments, embeddings=embeddings, max_frames=1)


class TestVideo:
    @pytest.fixture
    def found(self, embeddings, store):
        return MarengoRetriever(vectorstore=store, embeddings=embeddings, k=2).invoke("a goal")

    def test_the_best_moment_is_a_clip_and_the_next_a_frame(self, embeddings, found):
        content = moment_content(found, embeddings=embeddings, video=True)
        assert [block["type"] for block in content] == ["text", "video", "text", "image"]
        assert base64.b64decode(content[1]["base64"])[4:8] == b"ftyp" and content[1]["mime_type"] == "video/mp4"
        messages, _ = _messages_to_bedrock([HumanMessage(content=content)])
        sent = messages[0]["content"][1]["video"]
        assert sent["format"] == "mp4" and sent["source"]["bytes"][4:8] == b"ftyp"

    def test_a_file_on_s3_for_converse(self, embeddings, found, match, local):
        local.calls.reset()
        content = moment_content(found, embeddings=embeddings, video="s3", max_videos=2)
        messages, _ = _messages_to_bedrock([HumanMessage(content=content)])
        assert [part["video"] for part in messages[0]["content"] if "video" in part] == [
            {"format": "mp4", "source": {"s3Location": {"uri": match}}}
        ] * 2
        assert local.calls["s3:GetObject"] == 0

    @pytest.mark.parametrize(
        "settings",
        [{"max_video_bytes": 10}, {"max_videos": 0}, {"video": False}, {"allowed_prefixes": ["s3://other/"]}],
    )
    def test_what_does_not_fit_or_may_not_be_read_is_no_video(self, embeddings, found, settings):
        content = moment_content(found, embeddings=embeddings, **{"video": True, **settings})
        assert "video" not in {block["type"] for block in content}

    @pytest.mark.parametrize("settings", [{"video": "inline"}, {"max_videos": -1}, {"max_video_bytes": 1.5}])
    def test_a_wrong_setting(self, embeddings, found, settings):
        with pytest.raises(InputError, match=next(iter(settings))):
            moment_content(found, embeddings=embeddings, **{"video": True, **settings})
