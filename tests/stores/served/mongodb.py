"""MongoDB Atlas over its wire protocol (OP_MSG), for a real pymongo."""

import socketserver
import struct
import threading
from contextlib import contextmanager

import bson

from .rows import fields_of, matches, nearest

HELLO = {
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "maxWireVersion": 21,
    "minWireVersion": 0,
    "helloOk": True,
}


class RefusedError(Exception):
    """An error as Atlas reports it."""


class Atlas:
    """Collections and their vector search indexes, as the server's documentation describes them."""

    def __init__(self):
        self.collections, self.indexes, self.asked = {}, {}, []

    def answer(self, command):
        name, value = next(iter(command.items()))
        place = (command["$db"], value)
        if name in ("hello", "isMaster", "ismaster"):
            return HELLO
        self.asked.append(command)
        rows = self.collections.get(place, {})
        method = getattr(self, f"do_{name}", None)
        return method(command, place, rows) if method else {}

    def do_listCollections(self, command, place, rows):  # noqa: N802
        found = [{"name": name, "type": "collection"} for database, name in self.collections if database == place[0]]
        return cursor(place[0], "$cmd.listCollections", found)

    def do_create(self, command, place, rows):
        self.collections[place] = {}
        return {}

    def do_update(self, command, place, rows):
        rows = self.collections.setdefault(place, {})
        for each in command["updates"]:
            assert each["upsert"]
            rows[each["q"]["_id"]] = each["u"]
        return {"n": len(command["updates"]), "nModified": len(command["updates"])}

    def do_insert(self, command, place, rows):
        rows = self.collections.setdefault(place, {})
        if double := [row["_id"] for row in command["documents"] if row["_id"] in rows]:
            error = {"index": 0, "code": 11000, "errmsg": f"E11000 duplicate key error: _id {double[0]!r}"}
            return {"n": 0, "writeErrors": [error]}
        rows.update({row["_id"]: row for row in command["documents"]})
        return {"n": len(command["documents"])}

    def do_delete(self, command, place, rows):
        gone = [key for key, row in rows.items() if any(matches(each["q"], row) for each in command["deletes"])]
        for key in gone:
            del rows[key]
        return {"n": len(gone)}

    def do_find(self, command, place, rows):
        found = [row for row in rows.values() if matches(command.get("filter", {}), row)]
        hidden = [name for name, shown in command.get("projection", {}).items() if not shown]
        return cursor(*place, [{name: row[name] for name in row if name not in hidden} for row in found])

    def do_createSearchIndexes(self, command, place, rows):  # noqa: N802
        for index in command["indexes"]:
            self.indexes[place, index["name"]] = index["definition"]
        return {"indexesCreated": [{"id": index["name"], "name": index["name"]} for index in command["indexes"]]}

    def do_updateSearchIndex(self, command, place, rows):  # noqa: N802
        self.indexes[place, command["name"]] = command["definition"]
        return {}

    def do_aggregate(self, command, place, rows):
        (stage, how), *rest = [next(iter(each.items())) for each in command["pipeline"]]
        if stage == "$listSearchIndexes":
            names = [name for at, name in self.indexes if at == place and how.get("name", name) == name]
            found = [
                {"name": name, "queryable": True, "status": "READY", "latestDefinition": self.indexes[place, name]}
                for name in names
            ]
            return cursor(*place, found)
        assert stage == "$vectorSearch"
        assert 1 <= how["limit"] <= how["numCandidates"] <= 10_000
        return cursor(*place, list(self._search(how, place, rows, dict(rest))))

    def _search(self, how, place, rows, rest):
        fields = self.indexes.get((place, how["index"]), {}).get("fields")
        if fields is None:
            # Atlas finds nothing by an index that doesn't exist.
            return
        allowed = {field["path"] for field in fields if field["type"] == "filter"}
        for name in fields_of(how.get("filter", {})):
            if name not in allowed:
                raise RefusedError(f"PlanExecutor error :: caused by :: Path '{name}' needs to be indexed as filter")
        [vector] = [field for field in fields if field["type"] == "vector"]
        assert vector["path"] == how["path"]
        kept = [(row, row[how["path"]]) for row in rows.values() if matches(how.get("filter", {}), row)]
        [score_field] = rest["$set"]
        for row, cosine in nearest(how["queryVector"], kept, how["limit"]):
            score = (1 + cosine) / 2 if vector["similarity"] == "cosine" else 1 / (1 + (2 - 2 * cosine))
            yield {name: row[name] for name in row if name != rest["$unset"]} | {score_field: score}


def cursor(database, name, rows):
    return {"cursor": {"id": 0, "ns": f"{database}.{name}", "firstBatch": rows}}


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.rfile.read(16):
            size, request, _, operation = struct.unpack("<iiii", head)
            body = self.rfile.read(size - 16)
            if operation == 2004:
                # OP_QUERY, of the first hello only.
                reply = bson.encode({**HELLO, "ok": 1.0})
                head = struct.pack("<iiiiiqii", 36 + len(reply), 0, request, 1, 8, 0, 0, 1)
            else:
                reply = b"\0" + bson.encode(self._answer(body))
                head = struct.pack("<iiiiI", 20 + len(reply), 0, request, 2013, 0)
            self.wfile.write(head + reply)

    def _answer(self, body):
        command, at = {}, 4
        while at < len(body):
            kind, at = body[at], at + 1
            size = struct.unpack_from("<i", body, at)[0]
            section = body[at : at + size]
            at += size
            if kind == 0:
                command = bson.decode(section) | command
            else:
                name, _, documents = section[4:].partition(b"\0")
                command[name.decode()] = bson.decode_all(documents)
        # The command's name comes first; what came in sections of its own is moved behind it.
        first = next(name for name in command if isinstance(command[name], (str, int)) and name[0] != "$")
        try:
            return {"ok": 1.0, **self.server.atlas.answer({first: command.pop(first), **command})}
        except RefusedError as error:
            return {"ok": 0.0, "errmsg": str(error), "code": 8, "codeName": "UnknownError"}


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def serve():
    """Yields the server's URI and what it holds."""
    with Server(("127.0.0.1", 0), Connection) as server:
        server.atlas = Atlas()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"mongodb://127.0.0.1:{server.server_address[1]}/?directConnection=true", server.atlas
        server.shutdown()
        thread.join()
