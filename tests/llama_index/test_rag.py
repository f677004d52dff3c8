"""RAG end to end, with each framework's own fake LLM: answers over retrieved segments with time-coded sources."""

from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine

from bedrock_marengo.search.citations import citation
from langchain_marengo import MarengoEmbeddings, MarengoLoader, Segment, add_segments
from llama_index_marengo import MarengoLinks, MarengoReader, MarengoSegmenter

QUESTION = "When is the goal?"


class TestLlamaIndex:
    def engine(self, embed_model, match):
        media = MarengoReader(match, embed_model=embed_model).load_data()
        segmenter = MarengoSegmenter(embed_model=embed_model, fused="only")
        index = VectorStoreIndex.from_documents(media, embed_model=embed_model, transformations=[segmenter])
        return RetrieverQueryEngine.from_args(
            index.as_retriever(similarity_top_k=2),
            llm=MockLLM(),
            node_postprocessors=[MarengoLinks(embed_model=embed_model)],
        )

    def check(self, answer, match):
        # MockLLM answers with its prompt: what the model read.
        text = str(answer)
        assert QUESTION in text
        assert f"citation: match.mp4 at 00:06\n\n{match}#t=6,12&track=fused" in text
        assert "\nmatch.mp4, 00:06 to 00:12\nGoal!" in text
        assert "X-Amz-" not in text
        cited = {node.metadata["citation"]: node.metadata["url"] for node in answer.source_nodes}
        assert set(cited) == {"match.mp4 at 00:00", "match.mp4 at 00:06"}
        assert cited["match.mp4 at 00:06"].endswith("#t=6,12")

    def test_a_query_engine(self, embed_model, match):
        self.check(self.engine(embed_model, match).query(QUESTION), match)

    async def test_async(self, embed_model, match):
        self.check(await self.engine(embed_model, match).aquery(QUESTION), match)


class TestLangChain:
    def test_an_lcel_chain(self, local, match):
        embeddings = MarengoEmbeddings(**local.client_options)
        store = InMemoryVectorStore(embeddings)
        add_segments(store, MarengoLoader(match, embeddings=embeddings, fused="only", show_progress=False).lazy_load())
        seen = []
        llm = RunnableLambda(lambda prompt: seen.append(prompt.to_string()) or prompt) | FakeListChatModel(
            responses=["At match.mp4 00:06."]
        )

        def moments(found):
            return "\n".join(f"[{citation(Segment.find(d.page_content))}] {d.page_content}" for d in found["sources"])

        prompt = ChatPromptTemplate.from_template("Answer from these moments:\n{context}\n\n{question}")
        answer = RunnablePassthrough.assign(context=moments) | prompt | llm | StrOutputParser()
        chain = RunnableParallel(sources=store.as_retriever(), question=RunnablePassthrough()).assign(answer=answer)

        result = chain.invoke(QUESTION)
        assert result["answer"] == "At match.mp4 00:06."
        assert QUESTION in seen[0]
        assert f"[match.mp4 at 00:06] {match}#t=6,12&track=fused" in seen[0]
        assert "\nGoal!\n" in f"{seen[0]}\n"
        assert {(d.metadata["start_sec"], d.metadata["end_sec"]) for d in result["sources"]} == {
            (0.0, 6.0),
            (6.0, 12.0),
        }
