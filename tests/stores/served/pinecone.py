"""A Pinecone index over its data plane's HTTP."""

import json

from .over_http import RefusedError
from .rows import matches, nearest

PAGE = 100
MAX_REPLY_BYTES = 4 * 2**20


class Index:
    """One index of one metric; its metadata is flat, and every number in it a float."""

    def __init__(self, metric="cosine", dimension=512):
        self.metric, self.dimension = metric, dimension
        self.namespaces, self.asked = {}, []

    def answer(self, request, path, query, body):
        [body] = body or [{}]
        body |= {name: values if name == "ids" else values[0] for name, values in query.items()}
        name = path.rpartition("/")[2]
        self.asked.append((name, body))
        namespace = body.get("namespace", "")
        rows = self.namespaces.setdefault("" if namespace == "__default__" else namespace, {})
        reply = getattr(self, f"do_{name}")(body, rows)
        if len(json.dumps(reply)) > MAX_REPLY_BYTES:
            refuse("Response size exceeds limit of 4194304 bytes")
        return reply

    def do_describe_index_stats(self, body, rows):
        counts = {name: {"vectorCount": len(rows)} for name, rows in self.namespaces.items()}
        stats = {"dimension": self.dimension, "metric": self.metric, "vectorType": "dense", "indexFullness": 0}
        return {**stats, "namespaces": counts, "totalVectorCount": sum(map(len, self.namespaces.values()))}

    def do_upsert(self, body, rows):
        for row in body["vectors"]:
            for name, value in row.get("metadata", {}).items():
                if not isinstance(value, str | int | float | bool | list):
                    refuse(f"Metadata value must be a string, number, boolean or list of strings, got {name}: {value}")
            if len(json.dumps(row.get("metadata", {}))) > 40_960:
                refuse("metadata size exceeds the limit of 40960 bytes per vector")
            rows[row["id"]] = row
        return {"upsertedCount": len(body["vectors"])}

    def do_query(self, body, rows):
        if not 1 <= body["topK"] <= 10_000:
            refuse("top_k must be between 1 and 10000")
        assert any(body["vector"])
        kept = [(row, row["values"]) for row in rows.values() if matches(body.get("filter") or {}, row["metadata"])]
        found = nearest(body["vector"], kept, body["topK"])
        matched = [
            {
                "id": row["id"],
                "score": score if self.metric == "cosine" else 2 - 2 * score,
                "values": row["values"] if body.get("includeValues") else [],
                **({"metadata": row["metadata"]} if body.get("includeMetadata") else {}),
            }
            for row, score in found
        ]
        return {"matches": matched, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}}

    def do_list(self, body, rows):
        keys = sorted(key for key in rows if key.startswith(body.get("prefix", "")))
        first = int(body.get("paginationToken", 0))
        page = {"vectors": [{"id": key} for key in keys[first : first + PAGE]]}
        more = {"pagination": {"next": str(first + PAGE)}} if first + PAGE < len(keys) else {}
        return {**page, **more, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}}

    def do_fetch(self, body, rows):
        found = {key: rows[key] for key in body["ids"] if key in rows}
        return {"vectors": found, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}}

    def do_delete(self, body, rows):
        where = body.get("filter")
        gone = body.get("ids", []) if where is None else [k for k in rows if matches(where, rows[k]["metadata"])]
        for key in gone:
            rows.pop(key, None)
        return {}


def refuse(message):
    raise RefusedError(400, {"code": 3, "message": message, "details": []})
