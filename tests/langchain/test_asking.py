"""MarengoAsk between a retriever and a prompt."""

import re
from functools import cache
from operator import itemgetter

import pytest
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from bedrock_marengo import BudgetError, InputError, MarengoWarning, Pegasus
from langchain_marengo import MarengoAsk, MarengoRetriever, add_segments, format_moments
from marengo_local import Fault

from ..films import film

film = cache(film)


@pytest.fixture
def match(local):
    """A film of 12 s: two clips on three tracks."""
    return local.put(film(seconds=12.0, fps=10), "match.mp4")


@pytest.fixture
def retriever(embeddings, load, match, local):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(match))
    # What is asked about is decoded.
    local.synthetic_sec = None
    return MarengoRetriever(vectorstore=store, embeddings=embeddings, k=2)


@pytest.fixture
def asking(embeddings):
    return lambda **settings: MarengoAsk(embeddings=embeddings, **settings)


def test_documents_get_answers(local, retriever, asking):
    found = retriever.invoke("a goal")
    answered = asking().invoke(found)
    assert [document.id for document in answered] == [document.id for document in found]
    for before, after in zip(found, answered, strict=True):
        assert after.page_content.startswith(before.page_content) and after.metadata["answer"]
        assert after.page_content.splitlines()[-1].endswith(" ".join(after.metadata["answer"].split()))
        assert 0 < after.metadata["answer_usd"] < 0.01 and "answer" not in before.metadata
    assert local.usage.pegasus_calls == 2
    assert "Describe what is seen" in local.calls.of("InvokeModel")[-1].body["inputPrompt"]
    assert answered[0].metadata["answer"] in format_moments(answered).replace("\n", " ")


def test_a_chain_with_the_users_question(local, retriever, asking):
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    found = {"question": RunnablePassthrough(), "documents": retriever}
    chain = {"context": found | asking(max_moments=1) | format_moments, "question": RunnablePassthrough()} | prompt
    text = chain.invoke("Who scores?").to_string()
    assert local.usage.pegasus_calls == 1
    assert local.calls.of("InvokeModel")[-1].body["inputPrompt"] == "Who scores?"
    assert "A scene" in text or "motion" in text


async def test_asyncio_and_a_retrieval_chain(local, retriever, asking, embeddings):
    found = RunnablePassthrough.assign(documents=itemgetter("question") | retriever) | asking()
    answered = await found.ainvoke({"question": "Who scores?"})
    assert len(answered) == 2 and all(document.metadata["answer"] for document in answered)
    assert embeddings.core.usage.services["pegasus"].usd == pytest.approx(local.usage.pegasus_usd)
    batches = await asking().abatch([answered[:1], []])
    assert [len(batch) for batch in batches] == [1, 0]


def test_what_is_no_moment_of_a_video_passes_through(local, asking, match):
    others = [
        Document(page_content="a page about s3://bucket/match.mp4"),
        Document(page_content="s3://bucket/a.mp3#t=0,6&track=audio&job=3fa9c1d27b041e55"),
        Document(page_content="s3://bucket/a.png#t=0,0&track=image&job=3fa9c1d27b041e55"),
        Document(page_content=f"{match}#t=0,6&track=visual&job=3fa9c1d27b041e55"),
    ]
    assert asking(allowed_prefixes=["s3://other/"]).invoke(others) == others
    assert len(local.calls.of("InvokeModel")) == 0


def test_json(local, retriever, asking):
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    (first, *_) = asking(json_schema=schema, model_id="1.2").invoke(retriever.invoke("a goal"))
    assert first.metadata["answer"]["title"]


def test_one_that_fails_does_not_lose_the_others(local, retriever, asking):
    found = retriever.invoke("a goal")
    local.faults = [Fault("InvokeModel", error="InternalServerException", times=1)]
    with pytest.warns(MarengoWarning, match="no answer about"):
        answered = asking().invoke(found)
    assert sum("answer" in document.metadata for document in answered) == 1
    with pytest.raises(BudgetError):
        asking(max_cost_usd=0.0001).invoke(found)


@pytest.mark.parametrize("given", ["a goal", None, [1], {"question": "?"}, {"documents": "a"}])
def test_another_input_is_refused(asking, given):
    with pytest.raises(InputError, match="takes what a retriever returns"):
        asking().invoke(given)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_id": "3"}, "model_id='3'"),
        ({"max_moments": 0}, "1 or more"),
        ({"json_schema": {"prefixItems": []}}, "prefixItems"),
        ({"allowed_prefixes": ["bucket"]}, "bucket"),
        ({"max_momentz": 1}, "Did you mean 'max_moments'"),
    ],
)
def test_a_setting_that_is_not_valid(asking, settings, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        asking(**settings)


def test_a_loader_with_descriptions(local, load, match):
    local.synthetic_sec = None
    settings = {"options": ["visual"], "descriptions": Pegasus(per="segment")}
    documents = load(match, **settings)
    assert all("motion" in document.page_content.splitlines()[-1] for document in documents)
    calls = local.usage.pegasus_calls
    assert [document.page_content for document in load(match, **settings)] == [one.page_content for one in documents]
    assert local.usage.pegasus_calls == calls > 0
    with pytest.raises(Exception, match="expected Pegasus"):
        load(match, descriptions="1.5")
    assert RunnableLambda(format_moments).invoke(documents)
