"""What is copied, changed, dumped and rebuilt: it does what it did, or it is refused."""

import copy
import dataclasses
import json
import pickle

import pytest
from langchain_core.load import dumps, loads
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core.ingestion import IngestionPipeline
from pydantic import ValidationError

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, SegmentNotFoundError
from langchain_marengo import MarengoEmbeddings, MarengoRetriever
from llama_index_marengo import MarengoEmbedding, MarengoLinks, MarengoReader, MarengoSegmenter

SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
MASK = "**********"
NEW = "a-new-secret"


@pytest.fixture
def other(local):
    return local.put(b"another video", "other.mp4")


@pytest.fixture
def in_environment(local, monkeypatch):
    """The default credential chain finds the stand-in's credentials."""
    for name in SECRETS[:2]:
        monkeypatch.setenv(name.upper(), local.client_options[name])


@pytest.mark.promise("No vector is stored under the wrong segment")
class TestChangedJobs:
    """A copy with another source returned one file's vectors as the other's."""

    @pytest.mark.parametrize("field", ["source", "fingerprint", "prefix", "output_uri"])
    def test_a_job_with_parts_of_another_is_refused(self, client, video, other, field):
        client.embed_media(video), client.embed_media(other)
        job, theirs = client.start(video), client.start(other)
        assert getattr(job, field) and getattr(job, field) != getattr(theirs, field)
        with pytest.raises(InputError, match=r"This is not the job of .*client\.start"):
            dataclasses.replace(job, **{field: getattr(theirs, field)})
        state = job.__getstate__()
        state[[f.name for f in dataclasses.fields(job)].index(field)] = getattr(theirs, field)
        with pytest.raises(InputError, match="This is not the job of"):
            copy.copy(job).__setstate__(state)

    @pytest.mark.parametrize(
        "how",
        [
            copy.copy,
            lambda job: pickle.loads(pickle.dumps(job)),
            lambda job: dataclasses.replace(job, joined=True),
            lambda job: type(job)(*job.__getstate__()),
        ],
    )
    def test_the_same_job_can_be_collected(self, client, video, truth, same, how):
        assert same(client.collect(how(client.start(video))), truth(video))

    def test_a_segment_of_another_source_has_no_vector(self, client, video, other):
        [segment, *_] = client.embed_media(video)
        client.embed_media(other)
        with pytest.raises(SegmentNotFoundError):
            client.segment_vectors([dataclasses.replace(segment, source=other)])


@pytest.mark.promise("No secret gets out")
class TestMaskedSecrets:
    """The mask that a dump shows was sent to AWS as a key."""

    @pytest.mark.parametrize("name", SECRETS)
    @pytest.mark.parametrize(
        "make", [MarengoClient, MarengoEmbeddings, MarengoEmbedding, MarengoSegmenter, MarengoLinks]
    )
    def test_are_refused(self, local, make, name):
        with pytest.raises(ValueError, match=f"{name} is only the mask.*default credential chain"):
            make(**local.client_options | {name: MASK})
        assert not local.calls

    def test_of_a_dump_are_refused_and_without_them_the_default_credentials_are_used(self, local, in_environment):
        embeddings = MarengoEmbeddings(**local.client_options)
        dumped = embeddings.model_dump_json()
        for rebuild in (MarengoEmbeddings.model_validate_json, lambda text: MarengoEmbeddings(**json.loads(text))):
            with pytest.raises(ValidationError, match="only the mask"):
                rebuild(dumped)
        settings = {name: value for name, value in json.loads(dumped).items() if name not in SECRETS}
        assert MarengoEmbeddings(**settings).embed_query("a dog") == embeddings.embed_query("a dog")
        assert MarengoEmbeddings(**embeddings.model_dump()).embed_query("a dog") == embeddings.embed_query("a dog")

    def test_langchains_loads_refuses_what_its_dumps_made(self, local):
        embeddings = MarengoEmbeddings(**local.client_options)
        retriever = MarengoRetriever(vectorstore=InMemoryVectorStore(embeddings), embeddings=embeddings)
        for component in (embeddings, retriever):
            with pytest.raises(NotImplementedError):
                loads(dumps(component), allowed_objects="all")

    @pytest.mark.parametrize("make", [MarengoEmbeddings, MarengoEmbedding])
    def test_a_secret_that_is_set_later_is_hidden_too(self, local, make):
        component = make(**local.client_options)
        component.aws_secret_access_key = NEW
        copied = make(**local.client_options).model_copy(update={"aws_secret_access_key": NEW})
        for changed in (component, copied):
            assert changed.aws_secret_access_key.get_secret_value() == NEW
            assert NEW not in f"{changed!r} {changed.model_dump()} {changed.model_dump_json()}"


class TestChangedComponents:
    """``model_copy`` of pydantic takes anything: a misspelled setting was without effect."""

    @pytest.fixture
    def component(self, local, request):
        embed_model, uri = MarengoEmbedding(**local.client_options), f"s3://{local.bucket}/"
        embeddings = MarengoEmbeddings(**local.client_options)
        return {
            "embeddings": lambda: embeddings,
            "retriever": lambda: MarengoRetriever(vectorstore=InMemoryVectorStore(embeddings), embeddings=embeddings),
            "embed_model": lambda: embed_model,
            "segmenter": lambda: MarengoSegmenter(embed_model=embed_model),
            "reader": lambda: MarengoReader(uri, embed_model=embed_model),
            "links": lambda: MarengoLinks(embed_model=embed_model),
        }[request.param]()

    @pytest.mark.parametrize(
        ("component", "wrong", "right"),
        [
            ("embeddings", {"max_concurrency": 0}, {"model_id": "2.7"}),
            ("retriever", {"k": 0}, {"k": 3}),
            ("embed_model", {"max_concurrency": 0}, {"model_name": "2.7"}),
            ("segmenter", {"options": "visual"}, {"options": ["visual"]}),
            ("reader", {"suffixes": ".mp4"}, {"limit": 1}),
            # A string would allow what begins with any of its letters.
            ("links", {"allowed_prefixes": "s3://bucket/"}, {"expires_sec": 60}),
        ],
        indirect=["component"],
    )
    def test_new_settings_are_checked(self, component, wrong, right):
        for update in (wrong, {"unknown": 1}):
            with pytest.raises(ValidationError):
                component.model_copy(update=update)
        copied = component.model_copy(update=right)
        [(name, value)] = right.items()
        assert getattr(copied, name) == value != getattr(component, name)
        assert component.model_copy() is not component


class TestLlamaIndexRoundTrips:
    @pytest.fixture
    def embed_model(self, local):
        return MarengoEmbedding(**local.client_options, local_root="/tmp")

    @pytest.fixture
    def reader(self, video, embed_model):
        return MarengoReader(video, embed_model=embed_model)

    @pytest.fixture
    def segmenter(self, embed_model):
        return MarengoSegmenter(embed_model=embed_model, options=["visual"])

    @pytest.mark.usefixtures("in_environment")
    @pytest.mark.parametrize(
        "how",
        [
            lambda it: type(it)(**it.model_dump()),
            lambda it: type(it).model_validate_json(it.model_dump_json()),
            lambda it: pickle.loads(pickle.dumps(it)),
        ],
        ids=["model_dump", "model_dump_json", "pickle"],
    )
    def test_a_rebuilt_component_has_the_same_prefix_and_the_default_credentials(
        self, local, reader, segmenter, embed_model, how
    ):
        nodes = segmenter(reader.load_data())
        local.calls.reset()
        again = how(segmenter)(how(reader).load_data())
        assert [node.embedding for node in again] == [node.embedding for node in nodes]
        assert local.calls["StartAsyncInvoke"] == 0
        links, model = how(MarengoLinks(embed_model=embed_model, expires_sec=60)), how(embed_model)
        assert (links.expires_sec, links.embed_model.core.output_s3_uri) == (60, embed_model.output_s3_uri)
        assert model.local_root == embed_model.local_root
        assert model.aws_secret_access_key is links.embed_model.aws_secret_access_key is None

    @pytest.mark.usefixtures("in_environment")
    def test_a_readers_and_links_dicts_hold_their_model(self, reader, embed_model):
        for component in (reader, MarengoLinks(embed_model=embed_model)):
            for again in (
                type(component).from_dict(component.to_dict()),
                type(component).from_json(component.to_json()),
            ):
                assert again.to_json() == component.to_json()
                assert again.embed_model.output_s3_uri == embed_model.output_s3_uri

    def test_a_segmenters_dict_is_a_cache_key_and_needs_a_model_again(self, segmenter, reader, embed_model):
        documents = reader.load_data()
        again = MarengoSegmenter.from_dict(segmenter.to_dict(), embed_model=embed_model)
        assert again.to_dict() == segmenter.to_dict()
        assert [n.id_ for n in again(documents)] == [n.id_ for n in segmenter(documents)]
        for bare in (
            MarengoSegmenter.from_dict(segmenter.to_dict(), region_name="us-east-1"),
            MarengoSegmenter.from_json(segmenter.to_json()),
        ):
            with pytest.raises(ConfigurationError, match="set output_s3_uri="):
                bare(documents)

    @pytest.mark.parametrize("change", [{"model_name": "2.7"}, {"normalize": True}, {"identity": "checksum"}])
    def test_a_segmenters_dict_with_another_model_is_refused(self, local, segmenter, change):
        other = MarengoEmbedding(**local.client_options | change)
        with pytest.raises(ConfigurationError, match=f"another {next(iter(change))} than embed_model"):
            MarengoSegmenter.from_dict(segmenter.to_dict(), embed_model=other)

    @pytest.mark.usefixtures("in_environment")
    def test_a_models_dict_holds_what_changes_vectors(self, local, embed_model):
        region = {name: local.client_options[name] for name in ("region_name", "endpoint_url")}
        normal = embed_model.model_copy(update={"normalize": True})
        again = MarengoEmbedding.from_dict(normal.to_dict(), **region)
        assert again.get_text_embedding("a dog") == normal.get_text_embedding("a dog")
        assert again.output_s3_uri is None

    def test_a_pipeline_that_is_persisted_and_loaded_starts_nothing_again(
        self, local, segmenter, reader, embed_model, tmp_path
    ):
        documents = reader.load_data()

        def pipeline():
            return IngestionPipeline(transformations=[segmenter, embed_model])

        first = pipeline()
        nodes = first.run(documents=documents)
        first.persist(str(tmp_path))
        second = pipeline()
        second.load(str(tmp_path))
        local.calls.reset()
        assert second.run(documents=documents) == nodes
        assert not local.calls
