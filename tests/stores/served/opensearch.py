"""A vector search collection of OpenSearch Serverless over HTTP: it signs for `aoss` and gives IDs of its own."""

import math
import re
import uuid

from .over_http import RefusedError
from .rows import nearest


def matches(query, row):
    [(kind, how)] = query.items()
    if kind == "match_all":
        return True
    if kind == "bool":
        terms = [each for name in ("filter", "must") for each in _listed(how.get(name, []))]
        # Where nothing must be, one of what should be must.
        if any(matches(each, row) for each in _listed(how.get("must_not", []))):
            return False
        should = _listed(how.get("should", []))
        return all(matches(each, row) for each in terms) and (not should or any(matches(each, row) for each in should))
    [(name, wanted)] = how.items()
    if kind == "match":
        return not _words(wanted["query"]).isdisjoint(_words(row[name]))
    own = row
    for part in name.removesuffix(".keyword").split("."):
        own = (own or {}).get(part)
    if isinstance(own, str) and not name.endswith((".keyword", "doc_id")):
        # An analyzed text has none of the whole terms. LlamaIndex maps the IDs of documents as keywords.
        return False
    if kind == "term":
        return own == (wanted["value"] if isinstance(wanted, dict) else wanted)
    if kind == "terms":
        return own in wanted
    assert kind == "range"
    compare = {"gt": lambda value: own > value, "gte": lambda value: own >= value, "lt": lambda value: own < value}
    return own is not None and all(compare[operator](value) for operator, value in wanted.items())


def relevance(query, row, rows):
    """A score of a row that matches, by how rare the words are that it has of the query's match."""
    [match] = query["bool"]["must"]
    [(field, wanted)] = match["match"].items()
    words = [_words(each[field]) for each in rows.values()]
    shared = _words(wanted["query"]) & _words(row[field])
    return sum(math.log(1 + len(words) / sum(word in each for each in words)) for word in shared)


def has_match(query):
    return any("match" in each for each in query.get("bool", {}).get("must", []))


def _words(text):
    return {*re.findall(r"\w+", text.lower())}


def _listed(each):
    return each if isinstance(each, list) else [each]


class Collection:
    """Its indexes. What is written is found once it is refreshed, which takes up to a minute: ``visible``."""

    def __init__(self):
        self.indexes, self.waiting, self.asked, self.is_late = {}, [], [], False

    def refresh(self):
        for rows, key, row in self.waiting:
            rows[key] = row
        self.waiting.clear()

    def answer(self, request, path, query, body):
        assert "/aoss/aws4_request" in request.headers["Authorization"]
        assert request.headers["x-amz-content-sha256"]
        self.asked.append((request.command, path, body))
        if query.get("refresh", ["false"]) == ["true"]:
            refuse(400, "illegal_argument_exception", "true refresh policy is not supported.")
        name, _, what = path.strip("/").partition("/")
        if name == "_bulk" or what == "_bulk":
            return self._bulk(name, body)
        if name not in self.indexes and request.command != "PUT":
            refuse(404, "index_not_found_exception", f"no such index [{name}]")
        if what == "_search":
            if query.get("scroll"):
                refuse(404, "", "")
            return self._search(self.indexes[name], body[0])
        if what:
            # Such as _delete_by_query.
            refuse(404, "", "")
        if request.command == "PUT":
            self.indexes[name] = {}
        return {name: {}}

    def _bulk(self, index, lines):
        items, lines = [], iter(lines)
        for line in lines:
            [(action, how)] = line.items()
            rows = self.indexes[how.get("_index", index)]
            if action == "delete":
                status = 200 if rows.pop(how["_id"], None) else 404
                items.append({"delete": {"_id": how["_id"], "status": status}})
                continue
            row, key = next(lines), uuid.uuid4().hex
            if "_id" in how:
                error = {"type": "illegal_argument_exception", "reason": "Document ID is not supported in create/index"}
                items.append({action: {"status": 400, "error": error}})
                continue
            self.waiting.append((rows, key, row))
            items.append({action: {"_id": key, "status": 201}})
        if not self.is_late:
            self.refresh()
        return {"errors": any(next(iter(item.values()))["status"] >= 400 for item in items), "items": items}

    def _search(self, rows, body):
        assert body.get("from", 0) + body["size"] <= 10_000
        [(kind, how)] = body["query"].items()
        if kind == "knn":
            [(field, how)] = how.items()
            kept = [((key, row), row[field]) for key, row in rows.items() if matches(how.get("filter", ALL), row)]
            found = nearest(how["vector"], kept, min(how["k"], body["size"]))
        else:
            kept = [(key, row) for key, row in rows.items() if matches(body["query"], row)]
            is_text = has_match(body["query"])
            found = [((key, row), relevance(body["query"], row, rows) if is_text else 1.0) for key, row in kept]
            found.sort(key=lambda hit: -hit[1])
            found.sort(key=lambda hit: hit[0][1]["id"] if body.get("sort") == ["id.keyword"] else 0)
        hits = [{"_id": key, "_score": (1 + score) / 2, "_source": row} for (key, row), score in found[: body["size"]]]
        return {"hits": {"hits": hits}}


ALL = {"match_all": {}}


def refuse(status, kind, reason):
    raise RefusedError(status, {"error": {"type": kind, "reason": reason}, "status": status})
