"""What the served stores hold: rows with vectors, found exactly. MongoDB's query language is Pinecone's, too."""

import numpy as np

COMPARE = {
    "$eq": lambda own, value: own == value,
    "$ne": lambda own, value: own != value,
    "$in": lambda own, value: own in value,
    "$nin": lambda own, value: own not in value,
    "$gt": lambda own, value: own is not None and own > value,
    "$gte": lambda own, value: own is not None and own >= value,
    "$lt": lambda own, value: own is not None and own < value,
    "$lte": lambda own, value: own is not None and own <= value,
}
JOIN = {"$and": all, "$or": any, "$nor": lambda each: not any(each)}


def matches(where, row):
    """Whether a row meets a query. An operator that isn't known is an error, as in the real ones."""
    for name, wanted in where.items():
        if name in JOIN:
            if not JOIN[name](matches(each, row) for each in wanted):
                return False
        else:
            own = row
            for part in name.split("."):
                own = (own or {}).get(part)
            terms = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            if not all(COMPARE[operator](own, value) for operator, value in terms.items()):
                return False
    return True


def fields_of(where):
    """The fields that a query is about."""
    for name, wanted in where.items():
        if name in JOIN:
            for each in wanted:
                yield from fields_of(each)
        else:
            yield name


def cosines(query, vectors):
    query, vectors = np.asarray(query, np.float64), np.asarray(vectors, np.float64)
    return vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))


def nearest(query, rows, k):
    """``(row, vector)`` -> the nearest rows and their cosines."""
    rows = list(rows)
    if not rows:
        return []
    scores = cosines(query, [vector for _, vector in rows])
    return [(rows[i][0], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]
