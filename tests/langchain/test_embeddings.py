"""MarengoEmbeddings: LangChain's interface, images in every convention, secrets, copies."""

import asyncio
import base64
import copy
import pickle
import re
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
from langchain_aws import BedrockEmbeddings
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from bedrock_marengo import ConfigurationError, InputError, MarengoWarning
from bedrock_marengo.settings import ClientSettings
from langchain_marengo import MarengoEmbeddings, Media, Query
from langchain_marengo.embeddings import _CLIENT

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
CAT = REEL / "cat.jpg"


def floats(vector):
    return all(type(x) is float for x in vector)


def test_vectors_are_lists_of_python_floats(embeddings):
    [one, two] = embeddings.embed_documents(["a dog", "a cat"])
    assert len(one) == len(two) == len(embeddings.embed_query("a dog")) == 512
    assert floats(one)
    assert floats(embeddings.embed_query("a dog"))
    assert one == embeddings.embed_query("a dog") != two


def test_model_2_7_has_1024_dimensions_and_warns_of_its_end(local):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarengoWarning)
        embeddings = MarengoEmbeddings(model_id="2.7", **local.client_options)
    assert len(embeddings.embed_query("a dog")) == 1024


def test_async_gives_the_same(embeddings):
    async def both():
        return await asyncio.gather(embeddings.aembed_query("a dog"), embeddings.aembed_documents(["a dog", "a cat"]))

    query, [dog, _] = asyncio.run(both())
    assert query == dog == embeddings.embed_query("a dog")


def test_every_field_of_bedrock_embeddings_is_taken():
    assert set(BedrockEmbeddings.model_fields) <= set(MarengoEmbeddings.model_fields)


def test_normalize_gives_unit_vectors(local, embeddings):
    vector = MarengoEmbeddings(normalize=True, **local.client_options).embed_query("a dog")
    assert sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-6)


class TestImages:
    @pytest.fixture
    def vector(self, embeddings):
        return embeddings.embed_image(CAT)

    @pytest.mark.parametrize(
        "given",
        [
            CAT.read_bytes(),
            Media.from_path(CAT),
            base64.b64encode(CAT.read_bytes()).decode(),
            "data:image/jpeg;base64," + base64.b64encode(CAT.read_bytes()).decode(),
        ],
        ids=["bytes", "Media", "base64", "data URI"],
    )
    def test_an_image_is_the_same_however_it_is_given(self, embeddings, vector, given):
        assert embeddings.embed_image(given) == vector

    def test_on_s3(self, local, embeddings, vector):
        assert len(embeddings.embed_image(local.put(CAT))) == len(vector)

    def test_both_conventions(self, embeddings, vector):
        assert embeddings.embed_image(uris=[CAT, CAT]) == [vector, vector] == embeddings.embed_images([CAT, CAT])
        assert floats(vector)

    async def test_async(self, embeddings, vector):
        assert await embeddings.aembed_image(CAT) == vector
        assert await embeddings.aembed_image(uris=[CAT]) == [vector]

    def test_with_text(self, embeddings, vector):
        together = embeddings.embed_text_image("at night", CAT)
        assert len(together) == 512
        assert together != vector
        assert len(embeddings.embed_multi_input("<@a> beside <@b>", {"a": CAT, "b": REEL / "coffee.jpg"})) == 512

    @pytest.mark.parametrize(
        "path", [str(CAT), "/etc/passwd", "file:///etc/passwd", "data:text/plain,hello", "cat.jpg"]
    )
    def test_a_string_opens_no_file(self, embeddings, path):
        with pytest.raises(InputError, match=r"string|bytes"):
            embeddings.embed_image(path)

    def test_a_string_opens_a_file_where_that_is_allowed(self, local, vector):
        anywhere = MarengoEmbeddings(local_files=True, **local.client_options)
        below = MarengoEmbeddings(local_root=REEL, **local.client_options)
        assert anywhere.embed_image(str(CAT)) == below.embed_image("cat.jpg") == below.embed_image(str(CAT)) == vector
        with pytest.raises(InputError, match="do not open files"):
            below.embed_image("../weights.npz")

    def test_a_link_does_not_lead_out_of_local_root(self, local, tmp_path):
        (tmp_path / "inside.jpg").symlink_to(CAT)
        embeddings = MarengoEmbeddings(local_root=tmp_path, **local.client_options)
        with pytest.raises(InputError, match="do not open files"):
            embeddings.embed_image("inside.jpg")


class TestQueries:
    def test_a_handle_stands_for_an_image_and_is_asked_once(self, local, embeddings):
        handle = embeddings.query_handle(Query(image=CAT))
        local.calls.reset()
        assert embeddings.embed_query(handle) == embeddings.embed_query(handle)
        assert local.calls["InvokeModel"] == 1
        assert embeddings.embed_query(handle) == embeddings.embed_image(CAT)

    def test_a_foreign_handle_is_text_and_says_so(self, embeddings):
        with pytest.warns(MarengoWarning, match="handle"):
            embeddings.embed_query("marengo-query:0b0c")


def test_the_question_that_a_store_asks_to_learn_the_dimension_is_free(local, embeddings):
    local.calls.reset()
    assert len(embeddings.embed_documents(["dummy_text"])[0]) == 512
    assert len(local.calls) == 0


class TestSettings:
    PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x"

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"model_id": "9"}, "Value error, model_id='9': this is not a known"),
            ({"model_id": PROFILE}, "separately: model_id='3.0', invoke_model_id="),
            ({"client": "us-east-1"}, "Value error, client=str: expected a client"),
            ({"max_concurrency": 0}, "Value error, max_concurrency=0: expected 1 or more"),
        ],
    )
    def test_a_refused_setting_has_its_name_here(self, settings, words):
        with pytest.raises(ValidationError, match=re.escape(words)):
            MarengoEmbeddings(**settings)

    def test_every_setting_of_the_client_has_a_field(self):
        without = {"session", "role_session_name", "prices", "max_starts_per_sec"}
        assert {field.name for field in fields(ClientSettings)} - set(_CLIENT) == without


class TestSecrets:
    SECRET = "s3cr3t/of+this+test"

    @pytest.fixture
    def embeddings(self, local):
        local.secret_access_key = self.SECRET
        return MarengoEmbeddings(**local.client_options)

    def test_a_client_of_ones_own_is_used_and_does_not_leave_the_process(self, local, embeddings):
        own = MarengoEmbeddings(
            client=embeddings.core._runtime.aws.bedrock,
            bucket_owner=local.account_id,
            output_s3_uri=local.output_s3_uri,
        )
        assert own.embed_query("a dog") == embeddings.embed_query("a dog")
        with pytest.raises(ConfigurationError, match="can't be pickled"):
            pickle.dumps(own)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: e.model_copy(deep=True)])
    def test_a_copy_within_the_process_keeps_working(self, embeddings, duplicate):
        embeddings.embed_query("a dog")
        assert duplicate(embeddings).embed_query("a dog") == embeddings.embed_query("a dog")

    def test_a_copy_with_other_settings_uses_them(self, embeddings):
        embeddings.embed_query("a dog")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarengoWarning)
            other = embeddings.model_copy(update={"model_id": "2.7"})
            assert len(other.embed_query("a dog")) == 1024


@pytest.mark.parametrize("query", [Query(text="a dog"), Media.from_bytes(b"\xff\xd8\xff", "image"), Path("goal.jpg")])
def test_a_plain_retriever_names_query_handle(embeddings, query):
    retriever = InMemoryVectorStore(embeddings).as_retriever()
    with pytest.raises(InputError, match=r"Pass embeddings\.query_handle\(Query"):
        retriever.invoke(query)
