"""LangChain's own suites for partner packages."""

import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import marengo_local
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return MarengoEmbeddings

    @property
    def embedding_model_params(self):
        return {"region_name": "us-east-1"}


class TestIntegration(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def served(cls):
        with marengo_local.serve() as cls.local:
            yield

    @property
    def embeddings_class(self):
        return MarengoEmbeddings

    @property
    def embedding_model_params(self):
        return self.local.client_options


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def served(cls):
        with marengo_local.serve(synthetic_sec=60.0) as local:
            embeddings = MarengoEmbeddings(**local.client_options)
            store = InMemoryVectorStore(embeddings)
            add_segments(store, MarengoLoader(local.put(b"a match", "match.mp4"), embeddings=embeddings).lazy_load())
            cls.params = {"vectorstore": store, "embeddings": embeddings}
            yield

    @property
    def retriever_constructor(self):
        return MarengoRetriever

    @property
    def retriever_constructor_params(self):
        return self.params

    @property
    def retriever_query_example(self):
        return "a goal from a corner"
