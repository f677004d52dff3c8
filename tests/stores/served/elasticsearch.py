"""An Elasticsearch index over HTTP: what LlamaIndex's store sends to it."""

from .opensearch import ALL, has_match, matches, relevance
from .over_http import RefusedError
from .rows import nearest


class Elasticsearch:
    def __init__(self):
        self.indexes, self.asked = {}, []

    def answer(self, request, path, query, body):
        self.asked.append((path, body))
        name, _, what = path.strip("/").partition("/")
        if not name:
            return {"version": {"number": "8.19.0", "build_flavor": "default"}, "tagline": "You Know, for Search"}
        if name == "_bulk":
            return self._bulk(body)
        if request.command == "PUT":
            self.indexes[name] = {}
        elif name not in self.indexes:
            raise RefusedError(404, {"error": {"type": "index_not_found_exception"}, "status": 404})
        if what == "_delete_by_query":
            rows = self.indexes[name]
            for key in [key for key, row in rows.items() if matches(body[0]["query"], row)]:
                del rows[key]
        return self._search(self.indexes[name], body[0]) if what == "_search" else {"acknowledged": True}

    def _bulk(self, lines):
        items = []
        for action, row in zip(lines[::2], lines[1::2], strict=True):
            [(kind, how)] = action.items()
            self.indexes[how["_index"]][how["_id"]] = row
            items.append({kind: {"_id": how["_id"], "status": 201}})
        return {"errors": False, "items": items}

    def _search(self, rows, body):
        if "knn" not in body:
            query = body.get("query", ALL)
            score = relevance if has_match(query) else lambda *_: 1.0
            hits = [{"_id": key, "_source": row} for key, row in rows.items() if matches(query, row)]
            hits = [{**hit, "_score": score(query, hit["_source"], rows)} for hit in hits]
            return {"hits": {"hits": sorted(hits, key=lambda hit: -hit["_score"])[: body.get("size", 10)]}}
        how = body["knn"]
        assert 1 <= how["k"] <= how["num_candidates"] <= 10_000
        where = {"bool": {"filter": how.get("filter", [])}}
        kept = [((key, row), row[how["field"]]) for key, row in rows.items() if matches(where, row)]
        found = nearest(how["query_vector"], kept, how["k"])
        return {"hits": {"hits": [{"_id": k, "_score": (1 + s) / 2, "_source": row} for (k, row), s in found]}}
