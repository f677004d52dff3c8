"""Both retrievers against docs/search.md, written out by brute force, on random corpora."""

from dataclasses import dataclass

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode

import langchain_marengo
import llama_index_marengo
from bedrock_marengo import Segment
from bedrock_marengo.search.weights import tracks_of, weights_of

QUESTION = "a goal from a corner"
WEIGHTS = {**weights_of("balanced", ("visual", "audio", "transcription", "fused", "image")), "audio": 0.2}
SEPARATE = ("visual", "audio", "transcription")


@dataclass
class Row:
    """A segment and its cosine with the question."""

    segment: Segment
    cosine: float

    @property
    def clip(self):
        return self.segment.source, self.segment.start_sec, self.segment.end_sec


def corpus(seed, *, videos=4, clips=8, photographs=6, fused=0.3, coarse=True, silent=()):
    """Videos that lack some tracks, photographs and assets. ``coarse`` cosines are often equal."""
    random = np.random.default_rng(seed)

    def row(name, start, end, track, scope="clip"):
        cosine = 0.05 if track in silent else random.uniform(-0.05, 0.3)
        segment = Segment(f"s3://b/{name}", float(start), float(end), track, scope, f"{seed:016x}")
        return Row(segment, round(cosine, 2) if coarse else cosine)

    rows = [row(f"{i}.jpg", 0, 0, "image") for i in range(photographs)]
    for i in range(videos):
        # One has a single track, one only a fused vector.
        kept = [("fused",), ("visual",)][i % 2] if i % 3 == 2 else [t for t in SEPARATE if random.uniform() < 0.8]
        tracks = [*kept, *(["fused"] if random.uniform() < fused and "fused" not in kept else [])]
        rows += [row(f"{i}.mp4", 6 * n, 6 * n + 6, track) for track in tracks for n in range(clips)]
        rows += [row(f"{i}.mp4", 0, 6 * clips, track, "asset") for track in tracks]
    return rows


def places(rows):
    """Row -> its rank: how many of its list are at least as good."""
    ranks = {}
    for row in rows:
        track, rivals = row.segment.option, [r for r in rows if r.segment.option == row.segment.option]
        if track in ("visual", "fused"):
            rivals += [r for r in rows if r.segment.option == "image"]
        if track == "image":
            shown = [r for r in rows if r.segment.option == "visual"]
            rivals += shown + [r for r in rows if r.segment.option == "fused" and r.clip not in {s.clip for s in shown}]
        ranks[id(row)] = sum(r.cosine >= row.cosine - 1e-9 for r in rivals)
    return ranks


def fused_scores(rows, weights, fusion, fetch_k):
    """Clip -> its score."""
    kept, counted = [], []
    for track in weights:
        found = sorted((r for r in rows if r.segment.option == track), key=lambda r: -r.cosine)
        kept += found[:fetch_k]
        edge = found[fetch_k].cosine if len(found) > fetch_k else None
        counted += [r for r in found[:fetch_k] if edge is None or r.cosine > edge + 1e-9]
    ranks, present = places(kept), {row.segment.option for row in kept}
    clips = {row.clip: [r for r in kept if r.clip == row.clip] for row in kept}
    both = any({"fused"} < {r.segment.option for r in of} for of in clips.values())
    total = sum(w for t, w in weights.items() if (t in SEPARATE and present & set(SEPARATE)) or t == "fused" in present)
    total = total or weights["image"]
    scores = dict.fromkeys(clips, 0.0)
    for row in counted:
        weight = weights[row.segment.option] * (2 if both and fusion == "rrf" and row.segment.option == "image" else 1)
        share = weight / (60 + ranks[id(row)]) if fusion == "rrf" else weight * row.cosine / total
        scores[row.clip] += share
    if fusion == "rrf":
        for clip, [row, *_] in clips.items():
            if row.segment.option == "image":
                better = [
                    other for other, of in clips.items() if (seen := picture(of)) is not None and seen >= row.cosine
                ]
                scores[clip] = min([scores[clip], *(scores[other] for other in better)])
    return scores


def picture(rows):
    """The cosine of what a clip shows; None for a photograph, and for a clip of which no picture was found."""
    by_track = {row.segment.option: row.cosine for row in rows}
    return by_track.get("visual", by_track.get("fused"))


def reference(rows, *, k=5, fusion="rrf", merge_gap_sec=None, max_per_source=None, fetch_k=None, **limits):
    """(source, start, end, score) of each moment, best first."""
    fetch_k = fetch_k or (max(50, 10 * k) if merge_gap_sec is None else max(100, k))
    start, end = limits.get("start_sec", 0), limits.get("end_sec") or 1e9
    clips = [r for r in rows if r.segment.scope == "clip"]
    clips = [r for r in clips if (not start or r.segment.end_sec > start) and r.segment.start_sec < end]
    scores = fused_scores(clips, WEIGHTS, fusion, fetch_k)
    gate, boost = limits.get("asset_gate"), limits.get("asset_boost", 0.0)
    if gate or boost:
        assets = fused_scores([r for r in rows if r.segment.scope == "asset"], WEIGHTS, fusion, fetch_k)
        best = sorted(assets, key=lambda asset: (-assets[asset], asset))[:gate]
        by_source = {source: score for (source, _, _), score in assets.items()}
        scores = {c: s + boost * by_source.get(c[0], 0.0) for c, s in scores.items()}
        scores = {c: s for c, s in scores.items() if not gate or c[0] in {source for source, _, _ in best}}
    ranking = sorted(scores, key=lambda c: (-scores[c], c[1] == c[2], c))
    moments = [[clip] for clip in ranking]
    if merge_gap_sec is not None:
        for clip in ranking[:20]:
            near = [m for m in moments if any(m[0][0] == clip[0] and apart(c, clip) <= merge_gap_sec for c in m)]
            near = [m for m in near if m[0] in ranking[:20]]
            moments = [m for m in moments if m not in near] + [[c for m in near for c in m]]
    moments.sort(key=lambda m: max(scores[c] for c in m), reverse=True)
    found, of = [], {}
    for moment in moments:
        source = moment[0][0]
        if max_per_source is None or of.get(source, 0) < max_per_source:
            of[source] = of.get(source, 0) + 1
            best = max(scores[c] for c in moment)
            found.append((source, min(c[1] for c in moment), max(c[2] for c in moment), best))
    return found[:k], found


def apart(a, b):
    """The gap between two clips, in seconds."""
    return max(a[1] - b[2], b[1] - a[2])


@pytest.fixture(scope="module")
def embed_model(local):
    return llama_index_marengo.MarengoEmbedding(**local.client_options)


def stored(rows, query):
    """(id, text, metadata, vector) of each row, the vectors with exactly these cosines."""
    random = np.random.default_rng(0)
    query = np.asarray(query) / np.linalg.norm(query)
    for row in rows:
        aside = random.normal(size=len(query))
        aside -= query * (aside @ query)
        vector = row.cosine * query + np.sqrt(1 - row.cosine**2) * aside / np.linalg.norm(aside)
        segment = row.segment
        metadata = {
            "source": segment.source,
            "start_sec": segment.start_sec,
            "end_sec": segment.end_sec,
            "embedding_option": segment.option,
            "embedding_scope": segment.scope,
            "media_type": "image" if segment.option == "image" else "video",
            "model_id": "twelvelabs.marengo-embed-3-0-v1:0",
            "job_id": segment.job,
        }
        yield segment.id, segment.uri, metadata, vector.astype(np.float32).tolist()


@pytest.fixture
def ask(embeddings, embed_model):
    """(rows, settings) -> what each framework's retriever finds, as (source, start, end, score)."""

    def ask(rows, **settings):
        query = embeddings.embed_query(QUESTION)
        store = InMemoryVectorStore(embeddings)
        nodes = []
        for id_, text, metadata, vector in stored(rows, query):
            store.store[id_] = {"id": id_, "text": text, "metadata": metadata, "vector": vector}
            nodes.append(TextNode(id_=id_, text=text, metadata=metadata, embedding=vector))
        langchain = langchain_marengo.MarengoRetriever(vectorstore=store, embeddings=embeddings, weights=WEIGHTS)
        index = VectorStoreIndex(nodes, embed_model=embed_model)
        k = {"similarity_top_k": settings["k"]} if "k" in settings else {}
        rest = {name: value for name, value in settings.items() if name != "k"}
        llama_index = llama_index_marengo.MarengoRetriever(index, weights=WEIGHTS, **k, **rest)
        found = [document.metadata for document in langchain.invoke(QUESTION, **settings)]
        yield [tuple(m[name] for name in ("source", "start_sec", "end_sec", "score")) for m in found]
        found = [node.metadata for node in llama_index.retrieve(QUESTION)]
        yield [tuple(m[name] for name in ("source", "start_sec", "end_sec", "score")) for m in found]
        # A store for each track, clips and assets.
        stores = {track: InMemoryVectorStore(embeddings) for track in WEIGHTS}
        for id_, row in store.store.items():
            stores[row["metadata"]["embedding_option"]].store[id_] = row
        by_track = langchain_marengo.MarengoRetriever(vectorstores=stores, embeddings=embeddings, weights=WEIGHTS)
        found = [document.metadata for document in by_track.invoke(QUESTION, **settings)]
        yield [tuple(m[name] for name in ("source", "start_sec", "end_sec", "score")) for m in found]

    return ask


SETTINGS = [
    {},
    {"k": 3},
    {"k": 500},
    {"k": 2, "fetch_k": 6},
    {"fusion": "scores"},
    {"fusion": "scores", "k": 2, "fetch_k": 6},
    {"start_sec": 7.0, "end_sec": 20.0},
    {"end_sec": 6.0},
    {"max_per_source": 1, "k": 20},
    {"asset_gate": 2, "k": 30},
    {"asset_boost": 0.5, "k": 30},
    {"asset_gate": 1, "asset_boost": 2.0, "fusion": "scores"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3])
def test_moments_and_scores_are_those_of_the_docs(ask, seed, settings):
    rows = corpus(seed, silent=("audio",) if seed == 3 else ())
    right, everything = reference(rows, **settings)
    known = {moment[:3]: moment[3] for moment in everything}
    for found in ask(rows, **settings):
        assert [score for *_, score in found] == pytest.approx([score for *_, score in right], abs=1e-6)
        # Of moments with equal scores, any may come first.
        assert [known[moment[:3]] for moment in found] == pytest.approx([score for *_, score in found], abs=1e-6)


@pytest.mark.parametrize("seed, gap", [(0, 0.0), (1, 6.0), (2, 100.0)])
def test_merged_moments_are_those_of_the_docs_whatever_k(ask, seed, gap):
    rows = corpus(seed, coarse=False, videos=5, clips=20)
    for k in (1, 12):
        right, _ = reference(rows, k=k, merge_gap_sec=gap)
        for found in ask(rows, k=k, merge_gap_sec=gap):
            assert [moment[:3] for moment in found] == [moment[:3] for moment in right]


def test_every_track_of_the_model_is_in_the_corpus(embeddings):
    assert set(WEIGHTS) == set(tracks_of(embeddings.core.model))
