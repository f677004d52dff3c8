"""MarengoEmbedding: LlamaIndex's interface, batches, events, images, secrets, copies."""

import asyncio
import copy
import json
import pickle
import re
import warnings
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent
from llama_index.core.schema import MetadataMode, TextNode
from pydantic import ValidationError

from bedrock_marengo import ConfigurationError, InputError, MarengoWarning
from bedrock_marengo.settings import ClientSettings
from llama_index_marengo import MarengoEmbedding, Media, Query
from llama_index_marengo.embeddings import _CLIENT

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
CAT = REEL / "cat.jpg"
FOREIGN = "s3://bucket/match.mp4#t=0,6&track=visual&job=0123456789abcdef"


def floats(vector):
    return all(type(x) is float for x in vector)


class TestTexts:
    def test_vectors_are_lists_of_python_floats(self, embed_model):
        [one, two] = embed_model.get_text_embedding_batch(["a dog", "a cat"])
        assert len(one) == len(two) == 512
        assert floats(one)
        assert one == embed_model.get_query_embedding("a dog") == embed_model.get_text_embedding("a dog") != two

    def test_model_2_7_has_1024_dimensions(self, local):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarengoWarning)
            embed_model = MarengoEmbedding(model_name="2.7", **local.client_options)
        assert len(embed_model.get_query_embedding("a dog")) == 1024

    async def test_async_gives_the_same(self, embed_model):
        expected = embed_model.get_text_embedding("a dog")
        assert await embed_model.aget_query_embedding("a dog") == expected
        assert await embed_model.aget_text_embedding("a dog") == expected
        assert (await embed_model.aget_text_embedding_batch(["a dog", "a cat"]))[0] == expected

    def test_a_batch_goes_out_many_at_once(self, local):
        local.latency_sec = 0.1
        embed_model = MarengoEmbedding(max_concurrency=8, **local.client_options)
        assert most_at_once(local, lambda: embed_model.get_text_embedding_batch([f"text {i}" for i in range(40)])) > 4

    def test_but_never_more_than_max_concurrency(self, local):
        local.latency_sec = 0.05
        embed_model = MarengoEmbedding(max_concurrency=4, embed_batch_size=2, **local.client_options)

        async def everything():
            await asyncio.gather(
                embed_model.aget_text_embedding_batch([f"text {i}" for i in range(30)]),
                *(embed_model.aget_text_embedding(f"alone {i}") for i in range(20)),
            )

        assert 2 < most_at_once(local, lambda: asyncio.run(everything())) <= 4


def most_at_once(local, call):
    """How many InvokeModel calls were under way at once, as the service saw it, by its own clock."""
    local.calls.reset()
    call()
    times = sorted(call.at for call in local.calls.of("InvokeModel"))
    return max(sum(t <= other < t + local.latency_sec * 0.9 for other in times) for t in times)


class TestSegments:
    @pytest.mark.parametrize("metadata", [{}, {"document_title": "A match"}, {"summary": "one\n\ntwo", "n": 1}])
    def test_a_segment_is_known_behind_metadata(self, local, embed_model, segment, match, metadata):
        nodes = segment(match)
        expected = [node.embedding for node in nodes]
        local.calls.reset()
        for node in nodes:
            node.metadata = {**node.metadata, **metadata}
        texts = [node.get_content(MetadataMode.EMBED) for node in nodes]
        assert embed_model.get_text_embedding_batch(texts) == expected
        assert local.calls["InvokeModel"] == 0

    def test_also_where_the_exclusions_were_lost(self, embed_model, segment, match):
        [node, *_] = segment(match)
        bare = TextNode(text=node.text, metadata=node.metadata)
        assert embed_model.get_text_embedding(bare.get_content(MetadataMode.EMBED)) == node.embedding

    def test_a_fresh_process_reads_each_jobs_output_once(self, local, segment, match):
        nodes = segment(match)
        fresh = MarengoEmbedding(embed_batch_size=1, **local.client_options)
        local.calls.reset()
        assert fresh.get_text_embedding_batch([node.text for node in nodes]) == [node.embedding for node in nodes]
        assert local.calls["s3:GetObject"] == 1
        assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0

    @pytest.mark.parametrize("text", [f"See {FOREIGN}", f"See\n\n{FOREIGN}", f"title: A match\n{FOREIGN}"])
    def test_a_text_that_cites_one_is_text(self, embed_model, text):
        assert len(embed_model.get_text_embedding(text)) == 512

    async def test_nodes_keep_the_vectors_they_have(self, local, embed_model, segment, match):
        nodes = [*segment(match), TextNode(text="plain")]
        expected = [node.embedding for node in nodes[:-1]]
        local.calls.reset()
        embed_model(nodes)
        assert [node.embedding for node in nodes[:-1]] == expected
        assert nodes[-1].embedding == embed_model.get_text_embedding("plain")
        nodes[-1].embedding = None
        assert await embed_model.acall(nodes) is nodes
        assert len(nodes[-1].embedding) == 512
        assert local.calls["InvokeModel"] == 3


class TestImages:
    @pytest.fixture
    def vector(self, embed_model):
        return embed_model.get_image_embedding(CAT)

    @pytest.mark.parametrize("given", [CAT.read_bytes(), BytesIO(CAT.read_bytes()), Media.from_path(CAT)])
    def test_an_image_is_the_same_however_it_is_given(self, embed_model, vector, given):
        assert embed_model.get_image_embedding(given) == vector
        assert floats(vector)

    async def test_batches_and_async(self, local, embed_model, vector):
        on_s3 = local.put(CAT)
        [cat, again, third] = embed_model.get_image_embedding_batch([CAT, BytesIO(CAT.read_bytes()), on_s3])
        assert cat == again == vector
        assert len(third) == 512
        assert await embed_model.aget_image_embedding(CAT) == vector
        assert await embed_model.aget_image_embedding_batch([CAT, CAT]) == [vector, vector]

    async def test_with_text_and_several(self, embed_model, vector):
        together = embed_model.get_text_image_embedding("at night", CAT)
        assert len(together) == 512
        assert together != vector
        assert await embed_model.aget_text_image_embedding("at night", CAT) == together
        named = embed_model.get_multi_input_embedding("<@a> beside <@b>", {"a": CAT, "b": REEL / "coffee.jpg"})
        assert len(named) == len(await embed_model.aget_multi_input_embedding(None, [CAT, CAT])) == 512

    @pytest.mark.parametrize("path", [str(CAT), "/etc/passwd", "file:///etc/passwd", "cat.jpg"])
    def test_a_string_opens_no_file(self, embed_model, path):
        with pytest.raises(InputError, match="do not open files"):
            embed_model.get_image_embedding(path)

    def test_a_string_opens_a_file_where_that_is_allowed(self, local, vector):
        anywhere = MarengoEmbedding(local_files=True, **local.client_options)
        below = MarengoEmbedding(local_root=REEL, **local.client_options)
        assert anywhere.get_image_embedding(str(CAT)) == below.get_image_embedding("cat.jpg") == vector
        with pytest.raises(InputError, match="do not open files"):
            below.get_image_embedding("../weights.npz")

    def test_2_7_has_no_combined_inputs(self, local):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarengoWarning)
            embed_model = MarengoEmbedding(model_name="2.7", **local.client_options)
        with pytest.raises(InputError, match="text_image"):
            embed_model.get_text_image_embedding("at night", CAT)


class TestEvents:
    @pytest.fixture
    def chunks(self):
        """What the framework's EmbeddingEndEvent contains."""
        seen = []

        class Handler(BaseEventHandler):
            def handle(self, event, **kwargs):
                if isinstance(event, EmbeddingEndEvent):
                    seen.append((event.chunks, event.embeddings))

        dispatcher, handler = get_dispatcher(), Handler()
        dispatcher.add_event_handler(handler)
        yield seen
        dispatcher.event_handlers.remove(handler)

    async def test_overridden_batches_tell_them(self, local, chunks):
        embed_model = MarengoEmbedding(embed_batch_size=2, **local.client_options)
        vectors = embed_model.get_text_embedding_batch(["a", "b", "c"])
        await embed_model.aget_text_embedding_batch(["d"])
        embed_model([TextNode(text="e"), TextNode(text="f", embedding=vectors[0])])
        embed_model.get_query_embedding("g")
        assert [texts for texts, _ in chunks] == [["a", "b"], ["c"], ["d"], ["e"], ["g"]]
        assert chunks[0][1] == vectors[:2]

    def test_callbacks_too_and_for_our_own_methods(self, local):
        debug = LlamaDebugHandler(print_trace_on_end=False)
        embed_model = MarengoEmbedding(callback_manager=CallbackManager([debug]), **local.client_options)
        embed_model.get_image_embedding_batch([CAT])
        embed_model.get_text_image_embedding("at night", CAT)
        embed_model.get_multi_input_embedding(None, [CAT])
        assert len(debug.get_event_pairs(CBEventType.EMBEDDING)) == 3


class TestSettings:
    PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x"

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"model_name": "9"}, "Value error, model_name='9': this is not a known"),
            ({"model_name": PROFILE}, "separately: model_name='3.0', invoke_model_id="),
            ({"client": "us-east-1"}, "Value error, client=str: expected a client"),
            ({"botocore_config": "adaptive"}, "Value error, botocore_config=str: expected a botocore"),
            ({"max_concurrency": 0}, "Value error, max_concurrency=0: expected 1 or more"),
        ],
    )
    def test_a_refused_setting_has_its_name_here(self, settings, words):
        with pytest.raises(ValidationError, match=re.escape(words)):
            MarengoEmbedding(**settings)

    def test_every_setting_of_the_client_has_a_field(self):
        without = {"session", "role_session_name", "prices", "max_starts_per_sec"}
        assert {field.name for field in fields(ClientSettings)} - set(_CLIENT) == without

    def test_names_of_the_model_are_the_same_model(self):
        names = ["3.0", "twelvelabs.marengo-embed-3-0-v1:0", "us.twelvelabs.marengo-embed-3-0-v1:0"]
        dicts = [MarengoEmbedding(model_name=name, region_name="us-east-1").to_dict() for name in names]
        assert dicts[0] == dicts[1] == dicts[2]

    def test_to_dict_holds_only_what_changes_results(self, local, embed_model):
        expected = {
            "class_name": "MarengoEmbedding",
            "model_name": "twelvelabs.marengo-embed-3-0-v1:0",
            "truncate": "end",
            "normalize": False,
        }
        assert embed_model.to_dict() == expected
        elsewhere = MarengoEmbedding(**{**local.client_options, "max_concurrency": 2, "embed_batch_size": 9})
        assert elsewhere.to_dict() == expected
        assert MarengoEmbedding.from_dict(expected).to_dict() == expected
        assert json.loads(embed_model.to_json()) == expected

    def test_normalize_gives_unit_vectors(self, local, segment, match):
        embed_model = MarengoEmbedding(normalize=True, **local.client_options)
        vector = embed_model.get_query_embedding("a dog")
        assert sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-6)

    def test_batches_are_far_larger_than_the_concurrency(self, embed_model):
        assert embed_model.embed_batch_size >= 16 * embed_model.max_concurrency
        assert embed_model.class_name() == "MarengoEmbedding"


class TestSecrets:
    SECRET = "s3cr3t/of+this+test"

    @pytest.fixture
    def embed_model(self, local):
        local.secret_access_key = self.SECRET
        return MarengoEmbedding(**local.client_options)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: e.model_copy(deep=True)])
    def test_a_copy_within_the_process_keeps_working(self, embed_model, duplicate):
        expected = embed_model.get_query_embedding("a dog")
        copied = duplicate(embed_model)
        assert copied.get_query_embedding("a dog") == expected
        assert copied.aws_secret_access_key.get_secret_value() == self.SECRET

    def test_a_client_of_ones_own_is_used_and_does_not_leave_the_process(self, local, embed_model):
        own = MarengoEmbedding(client=embed_model.core._runtime.aws.bedrock, bucket_owner=local.account_id)
        assert own.get_query_embedding("a dog") == embed_model.get_query_embedding("a dog")
        with pytest.raises(ConfigurationError, match="can't be pickled"):
            pickle.dumps(own)


def test_a_query_object_names_what_takes_it(embed_model):
    with pytest.raises(InputError, match="Use MarengoRetriever, which takes a Query,"):
        embed_model.get_query_embedding(Query(text="a dog"))
