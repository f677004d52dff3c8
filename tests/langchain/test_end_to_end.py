"""Videos without captions to an answer: one loader call into Chroma, then LangChain's own retrieval chain."""

import uuid

import pytest
from langchain_chroma import Chroma
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate

from bedrock_marengo import Pegasus, Transcribe
from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments

from ..films import talking_films


@pytest.fixture(params=["S3", "folder"])
def source(request, local, tmp_path):
    return talking_films(local, tmp_path, on_s3=request.param == "S3")


def billed(local):
    return len(local.jobs), local.usage.transcribe_jobs, local.usage.pegasus_calls


@pytest.mark.parametrize("per", ["video", "segment"])
def test_a_folder_of_videos_to_an_answer(local, source, per):
    prompts = []

    class Llm(FakeListChatModel):
        def _call(self, messages, *args, **kwargs):
            prompts.append(messages[0].content)
            return super()._call(messages, *args, **kwargs)

    def load():
        embeddings = MarengoEmbeddings(**local.client_options)
        given = {"transcripts": Transcribe(), "descriptions": Pegasus(per=per), "fused": "only"}
        loader = MarengoLoader(source, embeddings=embeddings, show_progress=False, **given)
        return embeddings, loader, given

    embeddings, loader, given = load()
    store = Chroma(f"videos-{uuid.uuid4()}", embeddings)
    add_segments(store, loader.lazy_load())
    prompt = ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {input}")
    chain = create_retrieval_chain(
        store.as_retriever(search_kwargs={"k": 9}), create_stuff_documents_chain(Llm(responses=["At 00:07"]), prompt)
    )
    found = chain.invoke({"input": "When is the goal?"})
    store.delete_collection()
    assert found["answer"] == "At 00:07" and len({one.metadata["source"] for one in found["context"]}) == 2
    for one in found["context"]:
        _, place, said, seen = one.page_content.splitlines()
        assert place.startswith(("first.mp4, 00:", "second.mp4, 00:")) and said.startswith("Said: ")
        assert seen.startswith("Seen: A ") and one.page_content in prompts[0]

    # Again, and finished work only, each with a client of its own: no service is called.
    before = billed(local)
    assert before[:2] == (2, 2)
    embeddings, loader, given = load()
    again = {one.id: one.page_content for one in loader.load()}
    assert again.items() >= {one.id: one.page_content for one in found["context"]}.items()
    for done in load()[0].core.embed_many(source, scopes=["clip"], only_done=True, **given):
        assert done.words.said and done.words.seen and not done.words.errors
    assert billed(local) == before
