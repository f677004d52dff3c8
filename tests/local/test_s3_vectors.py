"""S3 Vectors as boto3 meets it: each operation, limit, error, page, filter, mode, and search by words."""

import itertools
import json
import time

import boto3
import botocore.session
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from marengo_local import Fault
from marengo_local.s3_vectors.checks import _SCHEMAS

BUCKET = {"vectorBucketName": "my-vectors"}
INDEX = {**BUCKET, "indexName": "segments"}
KEYS = itertools.count()


@pytest.fixture
def vectors(bedrock):
    local = bedrock.local
    # As any client of the environment's, with one attempt a call.
    client = boto3.client(
        "s3vectors",
        region_name=local.region_name,
        endpoint_url=local.env["AWS_ENDPOINT_URL_S3VECTORS"],
        aws_access_key_id=local.access_key_id,
        aws_secret_access_key=local.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.create_vector_bucket(**BUCKET)
    return client


@pytest.fixture
def make(vectors):
    """Makes an index of two dimensions; `rows` are key -> (vector, metadata)."""

    def make(rows=(), metric="cosine", dimension=2, **configuration):
        vectors.create_index(
            **INDEX,
            dataType="float32",
            dimension=dimension,
            distanceMetric=metric,
            **({"metadataConfiguration": configuration} if configuration else {}),
        )
        put(vectors, rows)
        return vectors

    return make


def put(client, rows):
    rows = [
        {"key": key, "data": {"float32": vector}, "metadata": metadata}
        for key, (vector, metadata) in dict(rows).items()
    ]
    for start in range(0, len(rows), 500):
        client.put_vectors(**INDEX, vectors=rows[start : start + 500])


def row(metadata=None, vector=(1.0, 0.0), key=None):
    return {"key": key or f"k{next(KEYS)}", "data": {"float32": list(vector)}, "metadata": metadata or {}}


def refused(call, code="ValidationException", status=400, **how):
    """The message of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**how)
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    if code == "ValidationException" and "fieldList" in response:
        assert response["fieldList"][0]["message"] in response["message"]
    return response["Error"]["Message"]


def keys(response):
    return [vector["key"] for vector in response["vectors"]]


def ask(client, k=10, vector=(1.0, 0.0), **how):
    return client.query_vectors(**INDEX, topK=k, queryVector={"float32": list(vector)}, **how)


def circle(count, **metadata):
    """`count` vectors, each further from (1, 0) than the one before."""
    angles = np.linspace(0, 3, count)
    return {
        f"v{i}": ([float(np.cos(a)), float(np.sin(a))], {**metadata, "i": i, "even": i % 2 == 0})
        for i, a in enumerate(angles)
    }


def test_each_operation_has_the_members_and_limits_of_botocores_model():
    model = botocore.session.get_session().get_service_model("s3vectors")
    tags = {"TagResource", "UntagResource", "ListTagsForResource"}
    assert {name for name in _SCHEMAS if name[0] != "$"} == set(model.operation_names) - tags

    def resolved(schema):
        return _SCHEMAS["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def compare(schema, shape):
        schema = resolved(schema)
        if shape.type_name == "structure" and not shape.is_document_type:
            assert set(schema["properties"]) == set(shape.members), shape
            assert set(schema.get("required", ())) >= set(shape.required_members), shape
            for name, member in shape.members.items():
                compare(schema["properties"][name], member)
        elif shape.type_name == "list" and "items" in schema:
            assert (schema.get("minItems", 0), schema.get("maxItems")) == (
                shape.metadata.get("min", 0),
                shape.metadata.get("max"),
            ), shape
            compare(schema["items"], shape.member)
        elif getattr(shape, "enum", None):
            assert set(schema["enum"]) == set(shape.enum), shape
        elif shape.type_name == "integer":
            most = 10_000 if shape.name == "TopK" else shape.metadata.get("max")
            assert (schema["minimum"], schema["maximum"]) == (shape.metadata["min"], most), shape
        elif "maxLength" in schema:
            assert schema["maxLength"] == shape.metadata["max"], shape

    for name in set(model.operation_names) - tags:
        compare(_SCHEMAS[name], model.operation_model(name).input_shape)


class TestBucketsAndIndexes:
    def test_they_are_made_described_listed_and_deleted(self, vectors, make):
        make(nonFilterableMetadataKeys=["text"])
        bucket = vectors.get_vector_bucket(**BUCKET)["vectorBucket"]
        index = vectors.get_index(**INDEX)["index"]
        assert (bucket["defaultIndexMode"], bucket["encryptionConfiguration"]) == ("ENHANCED", {"sseType": "AES256"})
        assert (index["dimension"], index["distanceMetric"], index["indexMode"]) == (2, "cosine", "ENHANCED")
        assert index["metadataConfiguration"] == {"nonFilterableMetadataKeys": ["text"]}
        assert index["indexArn"] == f"{bucket['vectorBucketArn']}/index/segments"
        assert vectors.get_index(indexArn=index["indexArn"])["index"] == index
        [summary] = vectors.list_indexes(vectorBucketArn=bucket["vectorBucketArn"])["indexes"]
        assert summary == {name: index[name] for name in summary}
        refused(vectors.delete_vector_bucket, "ConflictException", 409, **BUCKET)
        vectors.delete_index(**INDEX)
        vectors.delete_vector_bucket(**BUCKET)
        assert vectors.list_vector_buckets()["vectorBuckets"] == []

    def test_a_name_is_taken_once(self, vectors, make):
        make()
        refused(vectors.create_vector_bucket, "ConflictException", 409, **BUCKET)
        same = {**INDEX, "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
        refused(vectors.create_index, "ConflictException", 409, **same)

    @pytest.mark.parametrize(
        "call", ["get_index", "delete_index", "list_vectors", "get_vectors", "put_vectors", "query_vectors"]
    )
    def test_what_is_not_there_is_not_found(self, vectors, call):
        more = {
            "get_vectors": {"keys": ["k"]},
            "put_vectors": {"vectors": [row()]},
            "query_vectors": {"topK": 1, "queryVector": {"float32": [1.0]}},
        }.get(call, {})
        refused(getattr(vectors, call), "NotFoundException", 404, **INDEX, **more)
        refused(getattr(vectors, call), "NotFoundException", 404, vectorBucketName="other", indexName="any", **more)
        refused(vectors.get_vector_bucket, "NotFoundException", 404, vectorBucketName="other")

    def test_they_are_listed_by_prefix_in_pages(self, vectors):
        for name in ("b-2", "a-1", "b-1", "b-3"):
            vectors.create_index(**BUCKET, indexName=name, dataType="float32", dimension=2, distanceMetric="cosine")
            vectors.create_vector_bucket(vectorBucketName=name)
        for call, how in (("list_indexes", BUCKET), ("list_vector_buckets", {})):
            paged = vectors.get_paginator(call).paginate(**how, prefix="b-", PaginationConfig={"PageSize": 2})
            pages = [next(value for name, value in page.items() if isinstance(value, list)) for page in paged]
            assert [[item.get("indexName", item["vectorBucketName"]) for item in page] for page in pages] == [
                ["b-1", "b-2"],
                ["b-3"],
            ]
            refused(getattr(vectors, call), **how, nextToken="?")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"indexName": "Segments"},
            {"indexName": "-a-"},
            {"dimension": 4097},
            {"distanceMetric": "dot"},
            {"dataType": "float16"},
            {"metadataConfiguration": {"nonFilterableMetadataKeys": [f"k{i}" for i in range(11)]}},
            {"metadataConfiguration": {"textSearchConfigurations": [{"metadataKey": f"k{i}"} for i in range(11)]}},
            {"metadataConfiguration": {"nonFilterableMetadataKeys": ["k" * 64]}},
            {"encryptionConfiguration": {"sseType": "aws:kms"}},
            {"vectorBucketArn": "arn:aws:s3vectors:us-east-1:123456789012:bucket/my-vectors"},
        ],
    )
    def test_a_wrong_index_is_refused(self, vectors, wrong):
        index = {**INDEX, "dataType": "float32", "dimension": 2, "distanceMetric": "cosine", **wrong}
        refused(vectors.create_index, **index)

    def test_an_index_is_named_in_one_way(self, vectors, make):
        arn = make().get_index(**INDEX)["index"]["indexArn"]
        for how in ({**INDEX, "indexArn": arn}, {"indexName": "segments"}, BUCKET, {}):
            refused(vectors.get_index, **how)

    def test_a_policy_is_kept(self, vectors):
        refused(vectors.get_vector_bucket_policy, "NotFoundException", 404, **BUCKET)
        refused(vectors.put_vector_bucket_policy, **BUCKET, policy="no JSON")
        vectors.put_vector_bucket_policy(**BUCKET, policy=json.dumps({"Version": "2012-10-17"}))
        assert json.loads(vectors.get_vector_bucket_policy(**BUCKET)["policy"]) == {"Version": "2012-10-17"}
        vectors.delete_vector_bucket_policy(**BUCKET)
        refused(vectors.get_vector_bucket_policy, "NotFoundException", 404, **BUCKET)


class TestWrites:
    def test_a_put_adds_and_replaces_and_a_delete_skips_what_is_not_there(self, make):
        client = make({"a": ([1.0, 0.0], {"n": 1}), "b": ([0.1, 1.0], {})})
        put(client, {"a": ([0.0, 2.0], {"m": [1, "x"]})})
        client.delete_vectors(**INDEX, keys=["b", "c"])
        got = client.get_vectors(**INDEX, keys=["a", "b", "a"], returnData=True, returnMetadata=True)["vectors"]
        assert got == [{"key": "a", "data": {"float32": [0.0, 2.0]}, "metadata": {"m": [1, "x"]}}]
        assert client.get_vectors(**INDEX, keys=["a"])["vectors"] == [{"key": "a"}]
        # Doubles are cut to float32.
        assert keys(ask(client, vector=(0.1, 1.0))) == ["a"]

    @pytest.mark.parametrize(
        ("vector", "says"),
        [
            ((1.0,), "1 dimensions"),
            ((0.0, 0.0), "zero vector"),
            # botocore sends it as a string.
            ((float("nan"), 1.0), "must be a number"),
            ((1e39, 1.0), "infinite"),
            ((1e-60, 0.0), "zero vector"),
        ],
    )
    def test_a_wrong_vector_is_refused_and_nothing_is_put(self, make, vector, says):
        client = make()
        assert says in refused(client.put_vectors, **INDEX, vectors=[row(), row(vector=vector)])
        assert says in refused(client.query_vectors, **INDEX, topK=1, queryVector={"float32": list(vector)})
        assert client.list_vectors(**INDEX)["vectors"] == []

    def test_a_zero_vector_is_one_for_euclidean(self, make):
        client = make({"zero": ([0.0, 0.0], {}), "one": ([3.0, 4.0], {})}, metric="euclidean")
        found = ask(client, vector=(0.0, 0.0), returnDistance=True)
        assert [vector["distance"] for vector in found["vectors"]] == [0.0, 5.0]
        assert found["distanceMetric"] == "euclidean"

    @pytest.mark.parametrize(
        ("fits", "over", "says"),
        [
            # {"s":"..."} has 8 bytes more than its text.
            ({"s": "x" * 2040}, {"s": "x" * 2041}, "Filterable metadata must have at most 2048 bytes"),
            ({"s": "é" * 1020}, {"s": "é" * 1021}, "Filterable metadata must have at most 2048 bytes"),
            ({"text": "x" * 40_949}, {"text": "x" * 40_950}, "at most 40960 bytes"),
            ({str(i): 0 for i in range(50)}, {str(i): 0 for i in range(51)}, "at most 50 keys"),
            ({"a" * 63: 1}, {"a" * 64: 1}, "1 to 63 characters"),
            ({"a": [1, "x", True]}, {"a": None}, "strings, numbers, booleans or lists"),
            ({"a": []}, {"a": {"b": 1}}, "strings, numbers, booleans or lists"),
            ({"a": False}, {"a": [[1]]}, "strings, numbers, booleans or lists"),
        ],
    )
    def test_limits_of_metadata(self, make, fits, over, says):
        client = make(nonFilterableMetadataKeys=["text"])
        client.put_vectors(**INDEX, vectors=[row(fits)])
        assert says in refused(client.put_vectors, **INDEX, vectors=[row(over)])

    def test_limits_of_a_request(self, make):
        client = make()
        client.put_vectors(**INDEX, vectors=[row() for _ in range(500)])
        refused(client.put_vectors, **INDEX, vectors=[row() for _ in range(501)])
        refused(client.put_vectors, **INDEX, vectors=[row(key="same"), row(key="same")])
        refused(client.put_vectors, **INDEX, vectors=[row(key="k" * 1025)])
        refused(client.delete_vectors, **INDEX, keys=[f"k{i}" for i in range(501)])
        refused(client.get_vectors, **INDEX, keys=[f"k{i}" for i in range(101)])
        long = {"text": "x" * 40_000}
        assert "20971520" in refused(client.put_vectors, **INDEX, vectors=[row({**long, "n": "x" * 5_000})] * 490)

    def test_too_many_writes_are_throttled_and_retried(self, bedrock, make):
        client = make()
        bedrock.local.vector_write_rate = 20.0
        client.put_vectors(**INDEX, vectors=[row() for _ in range(20)])
        refused(client.put_vectors, "TooManyRequestsException", 429, **INDEX, vectors=[row() for _ in range(10)])
        refused(client.delete_vectors, "TooManyRequestsException", 429, **INDEX, keys=[f"k{i}" for i in range(10)])
        time.sleep(0.6)
        client.put_vectors(**INDEX, vectors=[row() for _ in range(10)])

    def test_a_bucket_has_a_quota_of_indexes(self, bedrock, vectors, make):
        make()
        bedrock.local.max_vector_indexes = 1
        more = {**BUCKET, "indexName": "more", "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
        refused(vectors.create_index, "ServiceQuotaExceededException", 402, **more)


class TestLists:
    def test_pages_hold_each_vector_once_in_no_known_order(self, make):
        client = make(circle(1234))
        pages = list(client.get_paginator("list_vectors").paginate(**INDEX))
        assert [len(page["vectors"]) for page in pages] == [500, 500, 234]
        listed = [key for page in pages for key in keys(page)]
        assert set(listed) == set(circle(1234))
        assert listed != list(circle(1234))
        assert len(keys(client.list_vectors(**INDEX, maxResults=1000))) == 1000
        refused(client.list_vectors, **INDEX, maxResults=1001)
        refused(client.list_vectors, **INDEX, nextToken="?")

    def test_segments_are_disjoint_and_complete(self, make):
        client = make(circle(200))
        listed = []
        for segment in range(16):
            pages = client.get_paginator("list_vectors").paginate(
                **INDEX, segmentCount=16, segmentIndex=segment, PaginationConfig={"PageSize": 5}
            )
            listed += [key for page in pages for key in keys(page)]
        assert sorted(listed) == sorted(circle(200))
        refused(client.list_vectors, **INDEX, segmentCount=2, segmentIndex=2)
        refused(client.list_vectors, **INDEX, segmentCount=17, segmentIndex=0)

    def test_a_page_ends_at_a_megabyte(self, make):
        client = make(
            {f"v{i}": ([1.0, 0.0], {"text": "x" * 30_000}) for i in range(50)}, nonFilterableMetadataKeys=["text"]
        )
        sizes = [len(page["vectors"]) for page in client.get_paginator("list_vectors").paginate(**INDEX)]
        assert sizes == [35, 15]

    def test_what_is_deleted_between_pages_moves_nothing(self, make):
        client = make(circle(100))
        first = client.list_vectors(**INDEX, maxResults=50)
        client.delete_vectors(**INDEX, keys=keys(first))
        second = client.list_vectors(**INDEX, maxResults=50, nextToken=first["nextToken"])
        assert {*keys(first), *keys(second)} == set(circle(100))


class TestQueries:
    def test_the_nearest_come_first_with_what_is_asked_for(self, make):
        client = make(circle(9))
        found = ask(client, 3, returnDistance=True, returnMetadata=True)
        assert keys(found) == ["v0", "v1", "v2"]
        assert found["vectors"][1]["distance"] == pytest.approx(1 - np.cos(3 / 8), abs=1e-6)
        assert found["vectors"][1]["metadata"] == {"i": 1, "even": False}
        assert found["vectors"][1].keys() == {"key", "distance", "metadata"}
        assert ask(client, 1)["vectors"] == [{"key": "v0"}]
        assert "nextToken" not in found

    def test_pages_of_a_hundred(self, make):
        client = make(circle(10_050))
        how = {**INDEX, "topK": 10_000, "queryVector": {"float32": [1.0, 0.0]}}
        pages = [keys(page) for page in client.get_paginator("query_vectors").paginate(**how)]
        assert [len(page) for page in pages] == [100] * 100
        assert list(itertools.chain(*pages)) == list(circle(10_050))[:10_000]
        refused(client.query_vectors, **{**how, "topK": 10_001})

    @pytest.mark.parametrize(
        "other",
        [{"topK": 249}, {"queryVector": {"float32": [1.0, 0.1]}}, {"filter": {"i": 1}}, {"queryMode": "ENHANCED"}],
    )
    def test_a_page_is_of_the_same_query(self, make, other):
        client = make(circle(300))
        how = {**INDEX, "topK": 250, "queryVector": {"float32": [1.0, 0.0]}}
        token = client.query_vectors(**how)["nextToken"]
        assert "same" in refused(client.query_vectors, **{**how, **other}, nextToken=token)
        # A page whose response was lost can be requested again.
        assert keys(client.query_vectors(**how, nextToken=token)) == keys(client.query_vectors(**how, nextToken=token))
        refused(client.query_vectors, **how, nextToken="any")

    def test_what_is_deleted_between_pages_is_left_out(self, make):
        client = make(circle(300))
        first = ask(client, 300)
        client.delete_vectors(**INDEX, keys=[f"v{i}" for i in range(90, 200)])
        second = ask(client, 300, nextToken=first["nextToken"])
        assert keys(second) == []
        assert keys(ask(client, 300, nextToken=second["nextToken"])) == [f"v{i}" for i in range(200, 300)]

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ({"s": "abc"}, "a"),
            ({"n": 1}, "a"),
            ({"n": {"$eq": 1}}, "a"),
            ({"n": True}, ""),
            ({"b": True}, "b"),
            ({"b": 1}, ""),
            ({"n": {"$ne": 1}}, "bc"),
            ({"n": {"$gt": 1}}, "bc"),
            ({"n": {"$gte": 2, "$lt": 3.5}}, "b"),
            ({"n": {"$lte": 2}}, "ab"),
            ({"s": {"$lt": 3}}, ""),
            ({"n": {"$in": [1, 3.5]}}, "ac"),
            ({"n": {"$nin": [1, 3.5]}}, "b"),
            ({"s": {"$exists": True}}, "ab"),
            ({"s": {"$exists": False}}, "cd"),
            ({"l": "x"}, "c"),
            ({"l": {"$in": ["q", 7]}}, "c"),
            ({"l": {"$ne": "x"}}, ""),
            ({"s": {"$startsWith": "ab"}}, "ab"),
            ({"$and": [{"s": {"$startsWith": "a"}}, {"n": 2}]}, "b"),
            ({"$or": [{"n": 1}, {"$and": [{"l": 7}, {"n": {"$gt": 3}}]}]}, "ac"),
        ],
    )
    def test_a_filter(self, make, given, found):
        client = make(
            {
                "a": ([1.0, 0.0], {"s": "abc", "n": 1}),
                "b": ([1.0, 0.1], {"s": "abd", "n": 2, "b": True}),
                "c": ([1.0, 0.2], {"n": 3.5, "l": ["x", 7]}),
                "d": ([1.0, 0.3], {}),
            }
        )
        assert "".join(keys(ask(client, filter=given))) == found

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"n": 1, "s": "a"},
            {"n": {}},
            {"n": None},
            {"n": [1]},
            {"n": {"$gt": "1"}},
            {"n": {"$gt": True}},
            {"n": {"$in": []}},
            {"n": {"$in": 1}},
            {"n": {"$nin": [None]}},
            {"n": {"$exists": 1}},
            {"n": {"$startsWith": 1}},
            {"n": {"$not": 1}},
            {"n": {"$contains": "x"}},
            {"$and": []},
            {"$and": {"n": 1}},
            {"$not": {"n": 1}},
            {"$or": [1]},
            {"text": "x"},
        ],
    )
    def test_what_is_not_a_filter_is_refused(self, make, given):
        client = make(nonFilterableMetadataKeys=["text"])
        refused(client.query_vectors, **INDEX, topK=1, queryVector={"float32": [1.0, 0.0]}, filter=given)

    def test_a_hundred_constraints(self, make):
        client = make(circle(3))
        ask(client, filter={"i": {"$in": list(range(100))}})
        ask(client, filter={"$and": [{"i": {"$in": list(range(98))}}, {"i": {"$gte": 0, "$lt": 9}}]})
        for over in ({"i": {"$in": list(range(101))}}, {"$or": [{"i": n} for n in range(101)]}):
            assert "101" in refused(client.query_vectors, **INDEX, topK=1, queryVector={"float32": [1, 0]}, filter=over)


class TestModes:
    def test_classic_finds_fewer_than_k_and_enhanced_for_one_query_does_not(self, bedrock, vectors):
        bedrock.local.vector_index_mode = "CLASSIC"
        old = {"vectorBucketName": "old-vectors", "indexName": "segments"}
        vectors.create_vector_bucket(vectorBucketName="old-vectors")
        vectors.create_index(**old, dataType="float32", dimension=2, distanceMetric="cosine")
        rows = [row(metadata, vector, key) for key, (vector, metadata) in circle(400).items()]
        vectors.put_vectors(**old, vectors=rows)
        how = {**old, "topK": 20, "queryVector": {"float32": [1.0, 0.0]}, "filter": {"even": True}}
        assert len(keys(vectors.query_vectors(**how))) == 10
        assert len(keys(vectors.query_vectors(**how, queryMode="ENHANCED"))) == 20
        # No limit on constraints in CLASSIC, and no $startsWith.
        many = {"i": {"$in": list(range(101))}}
        assert len(keys(vectors.query_vectors(**{**how, "filter": many}))) == 20
        refused(vectors.query_vectors, **{**how, "filter": many}, queryMode="ENHANCED")
        starts = {"s": {"$startsWith": "a"}}
        refused(vectors.query_vectors, **{**how, "filter": starts})
        vectors.query_vectors(**{**how, "filter": starts}, queryMode="ENHANCED")
        vectors.update_index_mode(**old, indexMode="ENHANCED")
        assert vectors.get_index(**old)["index"]["indexMode"] == "ENHANCED"
        assert len(keys(vectors.query_vectors(**how))) == 20
        refused(vectors.query_vectors, **how, queryMode="CLASSIC")
        vectors.update_index_mode(**old, indexMode="CLASSIC")
        vectors.put_vector_bucket_default_index_mode(vectorBucketName="old-vectors", defaultIndexMode="ENHANCED")
        vectors.create_index(
            vectorBucketName="old-vectors", indexName="new", dataType="float32", dimension=2, distanceMetric="cosine"
        )
        assert vectors.get_index(vectorBucketName="old-vectors", indexName="new")["index"]["indexMode"] == "ENHANCED"

    def test_a_new_bucket_cannot_go_back(self, make):
        client = make()
        refused(client.update_index_mode, **INDEX, indexMode="CLASSIC")
        refused(client.put_vector_bucket_default_index_mode, **BUCKET, defaultIndexMode="CLASSIC")


WORDS = {
    "a": ([1.0, 0.0], {"text": "A red car passes the bridge.", "title": "cars"}),
    "b": ([0.9, 0.1], {"text": "Rain.", "title": "weather"}),
    "c": ([0.0, 1.0], {"text": "The bridge, the bridge!", "title": "bridge"}),
    "d": ([0.1, 1.0], {"text": "赤い車が橋を渡る", "title": "車"}),
}


class TestWords:
    @pytest.fixture
    def client(self, make):
        texts = [{"metadataKey": "text"}, {"metadataKey": "title", "language": "en"}]
        return make(WORDS, nonFilterableMetadataKeys=["text"], textSearchConfigurations=texts)

    def ask(self, client, *texts, **how):
        texts = [{"metadataKey": key, "text": text} for key, text in texts]
        return client.query_vectors(**INDEX, topK=how.pop("topK", 10), queryTexts=texts, returnScores=True, **how)

    def test_words_alone_are_ranked_by_bm25(self, client):
        found = self.ask(client, ("text", "BRIDGE"), returnDistance=True)["vectors"]
        assert [vector["key"] for vector in found] == ["c", "a"]
        [score] = found[0]["scores"]["bm25Scores"]
        # By the formula, with k1 1.2 and b 0.75: 2 of 4 texts, mean length 4, twice in 4 words.
        lengths = {"a": 6, "b": 1, "c": 4, "d": 7}
        mean = sum(lengths.values()) / 4
        assert score["score"] == pytest.approx(np.log(2) * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / mean)))
        assert found[0].keys() == {"key", "scores"}
        assert found[0]["scores"].keys() == {"bm25Scores"}
        assert keys(self.ask(client, ("text", "赤い"))) == ["d"]
        assert keys(self.ask(client, ("text", "cars"))) == []

    def test_words_and_vector_are_fused_by_rank(self, client):
        found = self.ask(client, ("text", "bridge"), topK=2, queryVector={"float32": [1.0, 0.0]}, returnDistance=True)
        scores = {vector["key"]: vector["scores"] for vector in found["vectors"]}
        assert list(scores) == ["a", "c"]
        assert scores["a"]["fused"] == pytest.approx(1 / 61 + 1 / 62)
        assert scores["a"]["vectorDistance"] == pytest.approx(0.0, abs=1e-6)
        # What only words found has no distance.
        assert scores["c"].keys() == {"fused", "bm25Scores"}
        assert not any("distance" in vector for vector in found["vectors"])

    def test_several_keys_and_a_filter(self, client):
        both = [("text", "bridge"), ("title", "bridge cars")]
        assert keys(self.ask(client, *both)) == ["a", "c"]
        assert keys(self.ask(client, *both, filter={"title": {"$ne": "cars"}})) == ["c"]

    def test_pages(self, client):
        put(client, {f"v{i}": ([1.0, 0.0], {"text": "bridge"}) for i in range(150)})
        first = self.ask(client, ("text", "bridge"), topK=140)
        second = self.ask(client, ("text", "bridge"), topK=140, nextToken=first["nextToken"])
        assert (len(keys(first)), len(keys(second)), len({*keys(first), *keys(second)})) == (100, 40, 140)
        refused(
            client.query_vectors,
            **INDEX,
            topK=140,
            queryTexts=[{"metadataKey": "text", "text": "rain"}],
            nextToken=first["nextToken"],
        )

    @pytest.mark.parametrize(
        "how",
        [
            {},
            {"queryTexts": [{"metadataKey": "other", "text": "x"}]},
            {"queryTexts": [{"metadataKey": "text", "text": "x"}] * 2},
            {"queryTexts": [{"metadataKey": "text", "text": "x" * 1025}]},
            {"queryTexts": [{"metadataKey": f"k{i}", "text": "x"} for i in range(11)]},
        ],
    )
    def test_wrong_ones_are_refused(self, client, how):
        refused(client.query_vectors, **INDEX, topK=1, **how)

    def test_search_is_added_to_an_index_and_taken_away(self, client):
        put(client, {"z": ([1.0, 0.0], {"note": "a late goal"})})
        add = {"add": {"textSearchConfigurations": [{"metadataKey": "note", "language": "fr"}]}}
        arn = client.update_metadata_configuration(**INDEX, **add)["indexArn"]
        assert arn == client.get_index(**INDEX)["index"]["indexArn"]
        words = [{"metadataKey": "note", "text": "goal"}]
        assert "being built" in refused(client.query_vectors, **INDEX, topK=1, queryTexts=words)
        texts = client.get_index(**INDEX)["index"]["metadataConfiguration"]["textSearchConfigurations"]
        assert texts[2] == {"metadataKey": "note", "language": "fr", "status": "BUILDING"}
        time.sleep(0.25)
        assert keys(self.ask(client, ("note", "goal"))) == ["z"]
        refused(client.update_metadata_configuration, "ConflictException", 409, **INDEX, **add)
        delete = {"delete": {"textSearchConfigurations": [{"metadataKey": "note"}]}}
        refused(client.update_metadata_configuration, **INDEX, **add, **delete)
        refused(client.update_metadata_configuration, **INDEX)
        client.update_metadata_configuration(**INDEX, **delete)
        refused(client.update_metadata_configuration, **INDEX, **delete)
        assert len(client.get_index(**INDEX)["index"]["metadataConfiguration"]["textSearchConfigurations"]) == 2

    def test_it_needs_enhanced(self, bedrock, vectors):
        bedrock.local.vector_index_mode = "CLASSIC"
        vectors.create_vector_bucket(vectorBucketName="old-vectors")
        old = {"vectorBucketName": "old-vectors", "indexName": "segments"}
        index = {**old, "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
        texts = {"textSearchConfigurations": [{"metadataKey": "text"}]}
        refused(vectors.create_index, **index, metadataConfiguration=texts)
        vectors.create_index(**index)
        refused(vectors.update_metadata_configuration, **old, add=texts)
        refused(vectors.query_vectors, **old, topK=1, queryTexts=[{"metadataKey": "text", "text": "x"}])


class TestService:
    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("AccessDeniedException", 403),
            ("TooManyRequestsException", 429),
            ("ServiceQuotaExceededException", 402),
            ("ServiceUnavailableException", 503),
            ("RequestTimeoutException", 408),
            ("InternalServerException", 500),
        ],
    )
    def test_faults_and_calls(self, bedrock, make, code, status):
        client = make(circle(3))
        bedrock.local.faults = [Fault("s3vectors:QueryVectors", error=code, message="so it is", times=1)]
        assert (
            refused(client.query_vectors, code, status, **INDEX, topK=1, queryVector={"float32": [1.0, 0.0]})
            == "so it is"
        )
        assert len(keys(ask(client))) == 3
        assert bedrock.local.calls["s3vectors:QueryVectors"] == 2
        assert bedrock.local.calls.of("s3vectors:QueryVectors")[1].body["topK"] == 10

    def test_unknown_members_and_keys_are_refused(self, bedrock, make, vectors):
        make()
        stranger = boto3.client(
            "s3vectors",
            region_name="us-east-1",
            endpoint_url=bedrock.local.endpoint_url,
            aws_access_key_id="AKIAOTHER",
            aws_secret_access_key="other",
        )
        refused(stranger.list_vector_buckets, "UnrecognizedClientException", 403)
        vectors.meta.events.register(
            "before-call.s3vectors.GetIndex", lambda params, **_: params.update(body=b'{"indexARN": "x"}')
        )
        assert "indexARN" in refused(vectors.get_index, **INDEX)

    def test_it_is_served_with_bedrock_only_and_emptied_by_reset(self, bedrock, vectors):
        local = bedrock.local
        keys = {"aws_access_key_id": local.access_key_id, "aws_secret_access_key": local.secret_access_key}
        elsewhere = boto3.client("s3vectors", region_name="us-east-1", endpoint_url=local.s3_endpoint_url, **keys)
        refused(elsewhere.list_vector_buckets, "UnknownOperationException", 404)
        local.reset()
        assert vectors.list_vector_buckets()["vectorBuckets"] == []
