"""What S3 Vectors limits, through both frameworks' stores: pages, filters, modes, batches, and an older botocore."""

import gzip
import json
from pathlib import Path

import boto3
import botocore.session
import numpy as np
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors
from llama_index.core import VectorStoreIndex
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

import langchain_marengo
import llama_index_marengo
import marengo_local
from bedrock_marengo import ConfigurationError, MarengoWarning, Segmentation
from bedrock_marengo.search.s3_vectors import query_rows
from bedrock_marengo.search.weights import cosines
from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments, delete_segments
from marengo_local import Fault

QUERY = "a goal from a corner"
CLIPS = 450


@pytest.fixture(scope="module")
def local():
    """Any bytes are a video of 450 clips."""
    with marengo_local.serve(synthetic_sec=2.0 * CLIPS) as local, pytest.MonkeyPatch.context() as patch:
        for name, value in local.env.items():
            patch.setenv(name, value)
        yield local


@pytest.fixture(scope="module")
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture(scope="module")
def uri(local):
    return local.put(b"a match", "games/match.mp4")


@pytest.fixture(scope="module")
def load(embeddings):
    def load(uri, **metadata):
        how = {"segmentation": Segmentation.fixed(2), "options": ["visual", "audio"], "show_progress": False}
        return MarengoLoader(uri, embeddings=embeddings, metadata=lambda source: metadata, **how).load()

    return load


@pytest.fixture(scope="module")
def make(local, embeddings):
    """Makes a store on an index that does not exist yet: (bucket's name, mode) -> a store."""

    def make(bucket, mode="ENHANCED"):
        local.vector_index_mode = mode
        boto3.Session().client("s3vectors").create_vector_bucket(vectorBucketName=bucket)
        return AmazonS3Vectors(
            vector_bucket_name=bucket,
            index_name="segments",
            embedding=embeddings,
            non_filterable_metadata_keys=["_page_content"],
        )

    return make


@pytest.fixture(scope="module", params=["ENHANCED", "CLASSIC"])
def store(request, make, load, uri, local):
    store = make(f"{request.param.lower()}-vectors", request.param)
    add_segments(store, load(uri, tenant="acme", year=2026))
    # Without other sources, no filter would hide anything.
    add_segments(store, load(local.put(b"another", "other/match.mp4"), tenant="globex", year=2026))
    return store


def of(store):
    return {"vectorBucketName": store.vector_bucket_name, "indexName": store.index_name}


def langchain(store, local, k=5, **how):
    retriever = langchain_marengo.MarengoRetriever(
        vectorstore=store, embeddings=store.embeddings, weights={"visual": 1.0}, fusion="scores", k=k, **how
    )
    return [document.metadata for document in retriever.invoke(QUERY)]


def llama_index(store, local, k=5, filter=None, **how):  # noqa: A002
    s3 = pytest.importorskip("llama_index.vector_stores.s3")
    # Its nodes are kept as a Document's text and metadata are.
    own = s3.S3VectorStore(store.index_name, store.vector_bucket_name, text_field="_page_content")
    embed_model = llama_index_marengo.MarengoEmbedding(**local.client_options)
    index = VectorStoreIndex.from_vector_store(own, embed_model=embed_model)
    if filter is not None:
        operators = {"$eq": FilterOperator.EQ, "$in": FilterOperator.IN}
        given = [(key, *next(iter(value.items()))) for key, value in filter.items()]
        filter = MetadataFilters(  # noqa: A001
            filters=[MetadataFilter(key=key, value=value, operator=operators[op]) for key, op, value in given]
        )
    retriever = llama_index_marengo.MarengoRetriever(
        index=index, weights={"visual": 1.0}, fusion="scores", similarity_top_k=k, filters=filter, **how
    )
    return [{**hit.metadata, "score": hit.score} for hit in retriever.retrieve(QUERY)]


@pytest.fixture(params=[langchain, llama_index], ids=lambda ask: ask.__name__)
def ask(request, store, local):
    """Asks one framework's retriever: -> the moments' metadata, and the queries that the service got."""

    def ask(**how):
        local.calls.reset()
        found = request.param(store, local, **how)
        return found, [call.body for call in local.calls.of("s3vectors:QueryVectors")]

    return ask


@pytest.fixture(scope="module")
def truth(embeddings, uri):
    """Times and cosines of the video's clips, the nearest first."""
    found = embeddings.core.embed_media(uri, segmentation=Segmentation.fixed(2), options=["visual", "audio"])
    visual = [(s, v) for s, v in zip(found, found.vectors, strict=True) if (s.option, s.scope) == ("visual", "clip")]
    scores = cosines(embeddings.core.embed_text(QUERY), np.stack([vector for _, vector in visual]))
    order = np.argsort(-scores)
    return [visual[i][0].start_sec for i in order], scores[order]


def in_order(found, truth):
    """Whether these are all clips, the nearest first; of equally near ones, any may be first."""
    scores = dict(zip(*truth, strict=True))
    return sorted(found) == sorted(scores) and [scores[each] for each in found] == pytest.approx(truth[1], abs=1e-6)


def constraints(body):
    def count(node):
        if isinstance(node, dict):
            return sum(map(count, node.values()))
        return sum(map(count, node)) if isinstance(node, list) else 1

    return count(body.get("filter", {}))


class TestSearch:
    def test_all_pages_are_read_and_what_other_sources_hide_is_found(self, ask, truth, uri):
        found, queries = ask(k=CLIPS, fetch_k=CLIPS, sources=[uri])
        assert in_order([hit["start_sec"] for hit in found], truth)
        assert [hit["score"] for hit in found] == pytest.approx(truth[1], abs=1e-5)
        assert len(queries) == 5
        assert {query["topK"] for query in queries} == {CLIPS + 1}

    @pytest.mark.parametrize("count", [98, 99, 250])
    def test_more_sources_than_a_filter_has_room_for(self, ask, truth, uri, count):
        sources = [f"s3://bucket/{i}.mp4" for i in range(count - 1)] + [uri]
        found, queries = ask(sources=sources)
        assert [hit["start_sec"] for hit in found] == truth[0][:5]
        assert len(queries) == -(-count // 98)
        assert max(map(constraints, queries)) == 100

    def test_a_prefix_is_filtered_for_by_the_service(self, ask, truth, local, uri):
        other = local.put(b"another", "other/match.mp4")
        for sources in ([f"s3://{local.bucket}/games/"], [f"s3://{local.bucket}/games/", "s3://other/", uri]):
            found, [query] = ask(sources=sources)
            assert [hit["start_sec"] for hit in found] == truth[0][:5]
            assert "$startsWith" in json.dumps(query["filter"])
        found, [query] = ask(k=9, sources=[f"s3://{local.bucket}/games/", other])
        assert {hit["source"] for hit in found} == {uri, other}

    def test_a_filter_of_several_keys(self, ask, uri):
        found, _ = ask(filter={"tenant": {"$eq": "acme"}, "year": {"$eq": 2026}})
        assert {hit["source"] for hit in found} == {uri}
        assert len(found) == 5

    def test_a_filter_of_too_many_values_is_one_for_classic(self, ask, store, truth, uri):
        many = {"tenant": {"$in": ["acme", *map(str, range(100))]}}
        if store.vector_bucket_name.startswith("enhanced"):
            with pytest.raises(ConfigurationError, match=r"filter has 103 values, .* ENHANCED mode allows 100"):
                ask(filter=many)
        else:
            found, queries = ask(k=60, filter=many, sources=[uri])
            assert [hit["start_sec"] for hit in found] == truth[0][:60]
            # Fewer than were asked for are no sign that there are no more.
            assert queries[-1]["topK"] == 10_000

    def test_a_time_range(self, ask, truth):
        found, _ = ask(start_sec=100.0, end_sec=200.0, k=100)
        assert {hit["start_sec"] for hit in found} == set(np.arange(100.0, 200.0, 2.0))


def test_vectors_that_are_deleted_between_pages_are_no_end(make, embeddings, load, uri):
    store = make("shrinking-vectors")
    add_segments(store, load(uri))
    client, pages = store.client, []

    def delete(parsed, **_):
        pages.append([row["key"] for row in parsed["vectors"]])
        if len(pages) == 1:
            rest = [row["key"] for row in query_rows(boto3.Session().client("s3vectors"), of(store), vector, 250)]
            client.delete_vectors(**of(store), keys=rest[95:205])

    vector = embeddings.embed_query(QUERY)
    before = [row["key"] for row in query_rows(client, of(store), vector, 300)]
    client.meta.events.register("after-call.s3vectors.QueryVectors", delete)
    found = query_rows(client, of(store), vector, 300)
    assert [len(page) for page in pages] == [100, 0, 95]
    assert [row["key"] for row in found] == before[:100] + before[205:300]


@pytest.fixture
def older(tmp_path):
    """A client of a botocore that does not know the members of QueryVectors that are named."""

    def older(*without):
        source = Path(botocore.__file__).parent / "data" / "s3vectors" / "2025-07-15" / "service-2.json.gz"
        model = json.loads(gzip.decompress(source.read_bytes()))
        for name in without:
            del model["shapes"]["QueryVectorsInput"]["members"][name]
            model["shapes"]["QueryVectorsOutput"]["members"].pop(name, None)
        folder = tmp_path / "s3vectors" / "2025-07-15"
        folder.mkdir(parents=True)
        (folder / "service-2.json").write_text(json.dumps(model))
        session = botocore.session.Session()
        # One of its own: all others of the process share theirs.
        session.register_component("data_loader", Loader([str(tmp_path)]))
        return session.create_client("s3vectors")

    return older


def test_a_botocore_without_modes_widens_the_search(store, older, embeddings, truth, uri):
    vector, client = embeddings.embed_query(QUERY), older("queryMode")
    where = {"$and": [{"embedding_option": "visual"}, {"embedding_scope": "clip"}]}
    for sources in ([uri], [f"s3://b/{i}.mp4" for i in range(150)] + [uri]):
        rows = query_rows(client, of(store), vector, 200, where, sources)
        assert [row["metadata"]["start_sec"] for row in rows] == truth[0][:200]
    # It can't filter for a prefix, so that more is found.
    rows = query_rows(client, of(store), vector, 200, where, [f"s3://{uri.split('/')[2]}/games/"])
    assert len({row["metadata"]["source"] for row in rows}) == 2


def test_a_botocore_without_pages_says_that_it_reads_the_first(store, older, embeddings):
    client = older("queryMode", "nextToken")
    with pytest.warns(MarengoWarning, match="only the first 100 results .* pip install -U boto3"):
        assert len(query_rows(client, of(store), embeddings.embed_query(QUERY), 200)) == 100


class TestWrites:
    def test_a_request_has_500_vectors(self, make, load, uri):
        store, put = make("batched-vectors"), []
        documents = load(uri)
        store.client.meta.events.register(
            "before-parameter-build.s3vectors.PutVectors", lambda params, **_: put.append(len(params["vectors"]))
        )
        add_segments(store, documents, chunk_size=2_000)
        assert put == [500, len(documents) - 500]

    def test_a_request_has_20_mib(self, make, load, uri):
        store, put = make("wordy-vectors"), []
        documents = load(uri)[:500]
        for document in documents:
            document.page_content += "\n" + "words " * 6_600
        store.client.meta.events.register(
            "before-call.s3vectors.PutVectors", lambda params, **_: put.append(len(params["body"]))
        )
        add_segments(store, documents)
        assert len(put) == 2
        assert max(put) < 20 * 1024 * 1024

    def test_a_busy_index_is_tried_again(self, make, load, uri, local):
        store = make("busy-vectors")
        for op in ("PutVectors", "QueryVectors", "ListVectors", "DeleteVectors"):
            for error in ("TooManyRequestsException", "ServiceUnavailableException"):
                local.faults.append(Fault(f"s3vectors:{op}", error=error, times=1))
        documents = load(uri)
        add_segments(store, documents)
        assert delete_segments(store, uri) == len(documents)
        local.faults = []

    def test_a_source_is_replaced_in_an_index_that_does_not_exist_yet(self, make, load, local):
        store, uri = make("fresh-vectors"), local.put(b"the first cut", "cut.mp4")
        assert delete_segments(store, uri) == 0
        old = load(uri)
        add_segments(store, old, replace=True)
        local.put(b"the second cut", "cut.mp4")
        new = load(uri)
        add_segments(store, new, replace=True)
        listed = store.client.get_paginator("list_vectors").paginate(**of(store))
        assert {row["key"] for page in listed for row in page["vectors"]} == {document.id for document in new}
        with pytest.raises(ClientError, match="NotFoundException"):
            langchain(make("empty-vectors"), local)

    def test_metadata_that_is_too_long_is_refused_by_the_service(self, make, load, uri):
        store = make("long-vectors")
        with pytest.raises(ConfigurationError, match=r"2,048 bytes .*match\.mp4'.*non_filterable_metadata_keys="):
            add_segments(store, load(uri, title="x" * 2_000)[:1])

    def test_a_store_that_drops_the_text_is_refused(self, make, load, uri):
        store = make("textless-vectors")
        store.page_content_metadata_key = None
        with pytest.raises(ConfigurationError, match="page_content_metadata_key=None"):
            add_segments(store, load(uri)[:1])


def test_llama_indexs_store_is_searched_by_its_arn(store, local, truth, uri):
    s3 = pytest.importorskip("llama_index.vector_stores.s3")
    arn = store.client.get_index(**of(store))["index"]["indexArn"]
    bucket = arn.partition("/index/")[0]
    embed_model = llama_index_marengo.MarengoEmbedding(**local.client_options)
    for index, in_bucket in ((arn, bucket), (store.index_name, bucket)):
        own = s3.S3VectorStore(index, in_bucket, text_field="_page_content")
        found = llama_index_marengo.MarengoRetriever(
            index=VectorStoreIndex.from_vector_store(own, embed_model=embed_model),
            weights={"visual": 1.0},
            fusion="scores",
            sources=[uri],
        ).retrieve(QUERY)
        assert [hit.metadata["start_sec"] for hit in found] == truth[0][:5]


def test_an_index_for_each_track(make, local, embeddings, load, uri, truth):
    make("layered-vectors")
    documents = load(uri)
    for _ in range(2):
        stores = langchain_marengo.create_track_stores(
            AmazonS3Vectors, "videos", embeddings, tracks=["visual", "audio"], vector_bucket_name="layered-vectors"
        )
    add_segments(stores, documents)
    retriever = langchain_marengo.MarengoRetriever(
        vectorstores=stores, embeddings=embeddings, weights={"visual": 1.0}, fusion="scores", k=CLIPS, fetch_k=CLIPS
    )
    local.calls.reset()
    assert in_order([document.metadata["start_sec"] for document in retriever.invoke(QUERY)], truth)
    assert not any("filter" in call.body for call in local.calls.of("s3vectors:QueryVectors"))
    s3 = pytest.importorskip("llama_index.vector_stores.s3")
    embed_model = llama_index_marengo.MarengoEmbedding(**local.client_options)
    for _ in range(2):
        indices = llama_index_marengo.create_track_indices(
            s3.S3VectorStore, "nodes", embed_model, tracks=["visual", "audio"], bucket_name_or_arn="layered-vectors"
        )
    media = llama_index_marengo.MarengoReader(uri, embed_model=embed_model).load_data()
    how = {"segmentation": Segmentation.fixed(2), "options": ["visual", "audio"]}
    llama_index_marengo.insert_segments(
        indices, llama_index_marengo.MarengoSegmenter(embed_model=embed_model, **how)(media)
    )
    found = llama_index_marengo.MarengoRetriever(
        indices=indices, weights={"visual": 1.0}, fusion="scores", similarity_top_k=CLIPS, fetch_k=CLIPS
    ).retrieve(QUERY)
    assert in_order([hit.metadata["start_sec"] for hit in found], truth)
