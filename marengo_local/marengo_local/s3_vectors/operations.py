"""S3 Vectors' operations, independent of HTTP."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from marengo_local.knobs import Knobs
from marengo_local.rates import TokenBucket
from marengo_local.s3_vectors.checks import MAX_BODY_BYTES, check_metadata, check_request, invalid, refused, vector_of
from marengo_local.s3_vectors.index import Row, TextField, VectorIndex
from marengo_local.s3_vectors.queries import Queries

__all__ = ["S3Vectors"]

Item = TypeVar("Item", "VectorBucket", VectorIndex)
_MAX_TEXTS: Final = 10
# How long an index's text search is BUILDING after it was added.
_BUILD_SEC: Final = 0.2


@dataclass(eq=False)
class VectorBucket:
    """A vector bucket. `is_old` is one from before ENHANCED, which may go back to CLASSIC."""

    name: str
    arn: str
    encryption: Mapping[str, Any]
    mode: str
    is_old: bool
    policy: str | None = None
    indexes: dict[str, VectorIndex] = field(default_factory=dict)
    writes: dict[str, TokenBucket] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    def summary(self) -> dict[str, Any]:
        """As ListVectorBuckets returns it."""
        return {"vectorBucketName": self.name, "vectorBucketArn": self.arn, "creationTime": self.created}


class S3Vectors:
    """All vector buckets of one account in one region. Thread-safe."""

    def __init__(self, knobs: Knobs, region: str, account_id: str) -> None:
        self._knobs = knobs
        self._arn = f"arn:aws:s3vectors:{region}:{account_id}:bucket/"
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Delete everything."""
        self._buckets: dict[str, VectorBucket] = {}
        self._queries = Queries()

    def handle(self, op: str, body: Any, size: int) -> dict[str, Any]:
        """The response to a request of `size` bytes. Raises ServiceError."""
        if size > MAX_BODY_BYTES:
            raise invalid("/", f"the request has {size} bytes; at most {MAX_BODY_BYTES} are allowed")
        check_request(op, body)
        with self._lock:
            response: dict[str, Any] = _HANDLERS[op](self, body) or {}
            return response

    # Vector buckets

    def _create_bucket(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body["vectorBucketName"]
        if name in self._buckets:
            raise refused("ConflictException", f"A vector bucket named {name} already exists")
        mode = self._knobs.vector_index_mode
        encryption = _encryption(body, {"sseType": "AES256"})
        self._buckets[name] = VectorBucket(name, self._arn + name, encryption, mode, mode == "CLASSIC")
        return {"vectorBucketArn": self._arn + name}

    def _get_bucket(self, body: Mapping[str, Any]) -> dict[str, Any]:
        bucket = self._bucket(body)
        more = {"encryptionConfiguration": bucket.encryption, "defaultIndexMode": bucket.mode}
        return {"vectorBucket": {**bucket.summary(), **more}}

    def _delete_bucket(self, body: Mapping[str, Any]) -> None:
        bucket = self._bucket(body)
        if bucket.indexes:
            raise refused("ConflictException", f"The vector bucket {bucket.name} is not empty: delete its indexes")
        del self._buckets[bucket.name]

    def _list_buckets(self, body: Mapping[str, Any]) -> dict[str, Any]:
        page, more = _page(self._buckets, body)
        return {"vectorBuckets": [bucket.summary() for bucket in page], **more}

    def _set_default_mode(self, body: Mapping[str, Any]) -> None:
        bucket = self._bucket(body)
        _check_mode(bucket, body["defaultIndexMode"], "/defaultIndexMode")
        bucket.mode = body["defaultIndexMode"]

    def _put_policy(self, body: Mapping[str, Any]) -> None:
        try:
            json.loads(body["policy"])
        except ValueError:
            raise invalid("/policy", "the policy is not JSON") from None
        self._bucket(body).policy = body["policy"]

    def _get_policy(self, body: Mapping[str, Any]) -> dict[str, Any]:
        bucket = self._bucket(body)
        if bucket.policy is None:
            raise refused("NotFoundException", f"The vector bucket {bucket.name} has no policy")
        return {"policy": bucket.policy}

    def _delete_policy(self, body: Mapping[str, Any]) -> None:
        self._bucket(body).policy = None

    # Indexes

    def _create_index(self, body: Mapping[str, Any]) -> dict[str, Any]:
        bucket, name = self._bucket(body), body["indexName"]
        if name in bucket.indexes:
            raise refused("ConflictException", f"An index named {name} already exists in {bucket.name}")
        if len(bucket.indexes) >= self._knobs.max_vector_indexes:
            quota = self._knobs.max_vector_indexes
            raise refused("ServiceQuotaExceededException", f"{bucket.name} has its quota of {quota} indexes")
        configuration = body.get("metadataConfiguration", {})
        index = VectorIndex(
            bucket.name,
            name,
            f"{bucket.arn}/index/{name}",
            body["dimension"],
            body["distanceMetric"],
            bucket.mode,
            _encryption(body, bucket.encryption),
            tuple(configuration.get("nonFilterableMetadataKeys", ())),
        )
        _add_texts(index, configuration.get("textSearchConfigurations", ()), "/metadataConfiguration")
        bucket.indexes[name] = index
        return {"indexArn": index.arn}

    def _get_index(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": self._index(body).description()}

    def _delete_index(self, body: Mapping[str, Any]) -> None:
        index = self._index(body)
        del self._buckets[index.bucket].indexes[index.name]

    def _list_indexes(self, body: Mapping[str, Any]) -> dict[str, Any]:
        page, more = _page(self._bucket(body).indexes, body)
        return {"indexes": [index.summary() for index in page], **more}

    def _update_mode(self, body: Mapping[str, Any]) -> None:
        index = self._index(body)
        _check_mode(self._buckets[index.bucket], body["indexMode"], "/indexMode")
        index.mode = body["indexMode"]

    def _update_metadata_configuration(self, body: Mapping[str, Any]) -> dict[str, Any]:
        index = self._index(body)
        if ("add" in body) == ("delete" in body):
            raise invalid("/", "pass add or delete, not both")
        _add_texts(index, body.get("add", {}).get("textSearchConfigurations", ()), "/add")
        for text in body.get("delete", {}).get("textSearchConfigurations", ()):
            if index.texts.pop(text["metadataKey"], None) is None:
                raise invalid("/delete", f"{text['metadataKey']} is not configured for text search")
        return {"indexArn": index.arn}

    # Vectors

    def _put_vectors(self, body: Mapping[str, Any]) -> None:
        index = self._index(body)
        rows: dict[str, Row] = {}
        for number, given in enumerate(body["vectors"]):
            path, metadata = f"/vectors/{number}", given.get("metadata", {})
            if given["key"] in rows:
                raise invalid(f"{path}/key", "a key can be in a request only once")
            check_metadata(metadata, index.non_filterable, f"{path}/metadata")
            rows[given["key"]] = Row(vector_of(given["data"], index.dimension, index.metric, f"{path}/data"), metadata)
        self._count_writes(index, len(rows))
        index.put(rows)

    def _delete_vectors(self, body: Mapping[str, Any]) -> None:
        index = self._index(body)
        self._count_writes(index, len(body["keys"]))
        index.delete(body["keys"])

    def _get_vectors(self, body: Mapping[str, Any]) -> dict[str, Any]:
        index = self._index(body)
        # Neither the order nor a missing key shows.
        return {"vectors": [_vector(index, key, body) for key in sorted(set(body["keys"])) if key in index.rows]}

    def _list_vectors(self, body: Mapping[str, Any]) -> dict[str, Any]:
        index = self._index(body)
        segments, segment = body.get("segmentCount", 1), body.get("segmentIndex", 0)
        if ("segmentCount" in body) != ("segmentIndex" in body) or segment >= segments:
            raise invalid("/segmentIndex", "pass segmentCount and a segmentIndex below it")
        keys, after = index.page(_token(body), body.get("maxResults", 500), segment, segments)
        return {"vectors": [_vector(index, key, body) for key in keys], **_next(after)}

    def _query_vectors(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._queries.page(self._index(body), body)

    # What requests name

    def _bucket(self, body: Mapping[str, Any]) -> VectorBucket:
        name, arn = body.get("vectorBucketName"), body.get("vectorBucketArn")
        if (name is None) == (arn is None):
            raise invalid("/", "pass either vectorBucketName or vectorBucketArn")
        if arn is not None:
            name = arn.removeprefix(self._arn)
        bucket = self._buckets.get(name or "")
        if bucket is None:
            raise refused("NotFoundException", f"The vector bucket {name} could not be found")
        return bucket

    def _index(self, body: Mapping[str, Any]) -> VectorIndex:
        bucket, name, arn = body.get("vectorBucketName"), body.get("indexName"), body.get("indexArn")
        if (bucket is None) != (name is None) or (name is None) == (arn is None):
            raise invalid("/", "pass either vectorBucketName and indexName, or indexArn")
        if arn is not None:
            bucket, _, name = arn.removeprefix(self._arn).partition("/index/")
        index = self._buckets[bucket].indexes.get(name or "") if bucket in self._buckets else None
        if index is None:
            raise refused("NotFoundException", f"The index {name} could not be found in the vector bucket {bucket}")
        return index

    def _count_writes(self, index: VectorIndex, count: int) -> None:
        rate = self._knobs.vector_write_rate
        writes = self._buckets[index.bucket].writes.setdefault(index.name, TokenBucket())
        if rate is not None and not writes.take(rate, count):
            raise refused("TooManyRequestsException", "Please reduce your request rate.")


_HANDLERS: Final[Mapping[str, Callable[[S3Vectors, Mapping[str, Any]], dict[str, Any] | None]]] = {
    "CreateVectorBucket": S3Vectors._create_bucket,
    "GetVectorBucket": S3Vectors._get_bucket,
    "DeleteVectorBucket": S3Vectors._delete_bucket,
    "ListVectorBuckets": S3Vectors._list_buckets,
    "PutVectorBucketDefaultIndexMode": S3Vectors._set_default_mode,
    "PutVectorBucketPolicy": S3Vectors._put_policy,
    "GetVectorBucketPolicy": S3Vectors._get_policy,
    "DeleteVectorBucketPolicy": S3Vectors._delete_policy,
    "CreateIndex": S3Vectors._create_index,
    "GetIndex": S3Vectors._get_index,
    "DeleteIndex": S3Vectors._delete_index,
    "ListIndexes": S3Vectors._list_indexes,
    "UpdateIndexMode": S3Vectors._update_mode,
    "UpdateMetadataConfiguration": S3Vectors._update_metadata_configuration,
    "PutVectors": S3Vectors._put_vectors,
    "GetVectors": S3Vectors._get_vectors,
    "ListVectors": S3Vectors._list_vectors,
    "DeleteVectors": S3Vectors._delete_vectors,
    "QueryVectors": S3Vectors._query_vectors,
}


def _check_mode(bucket: VectorBucket, mode: str, path: str) -> None:
    if mode == "CLASSIC" and not bucket.is_old:
        raise invalid(path, "CLASSIC is only for vector buckets created before September 30, 2026")


def _add_texts(index: VectorIndex, texts: Iterable[Mapping[str, str]], path: str) -> None:
    given = {text["metadataKey"]: text for text in texts}
    if given and index.mode != "ENHANCED":
        raise invalid(path, "text search requires the ENHANCED index mode")
    if taken := given.keys() & index.texts.keys():
        raise refused("ConflictException", f"{', '.join(taken)} is already configured for text search")
    if len(given) + len(index.texts) > _MAX_TEXTS:
        raise invalid(path, f"an index has at most {_MAX_TEXTS} text search configurations")
    active_at = time.time() + (_BUILD_SEC if index.rows else 0.0)
    index.texts.update({key: TextField(text.get("language"), active_at) for key, text in given.items()})


def _encryption(body: Mapping[str, Any], default: Mapping[str, Any]) -> Mapping[str, Any]:
    encryption: Mapping[str, Any] = body.get("encryptionConfiguration") or default
    if (encryption.get("sseType") == "aws:kms") != ("kmsKeyArn" in encryption):
        raise invalid("/encryptionConfiguration", "sseType aws:kms and kmsKeyArn go together")
    return encryption


def _vector(index: VectorIndex, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    row = index.rows[key]
    data = {"data": {"float32": row.vector.tolist()}} if body.get("returnData") else {}
    return {"key": key, **data, **({"metadata": row.metadata} if body.get("returnMetadata") else {})}


def _page(items: Mapping[str, Item], body: Mapping[str, Any]) -> tuple[list[Item], dict[str, str]]:
    """Items by name, and the token of the next page."""
    after, most = _token(body), body.get("maxResults", 500)
    names = sorted(name for name in items if name.startswith(body.get("prefix", "")) and name > after)
    return [items[name] for name in names[:most]], _next(names[most - 1] if len(names) > most else "")


def _token(body: Mapping[str, Any]) -> str:
    """Where a listing goes on, from its nextToken."""
    try:
        return base64.b64decode(body.get("nextToken", ""), validate=True).decode()
    except ValueError:
        raise invalid("/nextToken", "the token is invalid") from None


def _next(after: str) -> dict[str, str]:
    return {"nextToken": base64.b64encode(after.encode()).decode()} if after else {}
