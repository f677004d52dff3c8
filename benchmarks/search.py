"""Search quality on the reel's 20 questions, and the overhead of fusion over the searches it makes.

    python benchmarks/search.py

The quality figures describe the stand-in's content model, not Marengo. They are a report and never fail a build.
"""

import logging
import math
import tempfile
import time
from pathlib import Path
from statistics import median

import chromadb
from langchain_chroma import Chroma
from langchain_core.vectorstores import InMemoryVectorStore

import marengo_local
from bedrock_marengo.search.fusion import SearchSettings
from bedrock_marengo.search.weights import weights_of
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, Media, Query, Segment, add_segments
from langchain_marengo.known_stores import find_known_store
from marengo_local import reel

TRACKS = ("visual", "audio", "transcription")
VIDEOS, VIDEO_SEC, RUNS, TARGET = 20, 300.0, 40, 1.2
DEPTH = 10


def main():
    logging.disable(logging.WARNING)
    quality()
    for k in (5, 10):
        overhead(k)


def quality():
    with marengo_local.serve() as local, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reel.mp4")
        reel.build(path)
        embeddings = MarengoEmbeddings(**local.client_options)
        loader = MarengoLoader(local.put(path), embeddings=embeddings, fused=True, show_progress=False)
        documents = loader.load()
        # Images as handles, so that each question is embedded once.
        questions = [(embeddings.query_handle(query(question)), question.answer) for question in reel.questions()]
        store = InMemoryVectorStore(embeddings)
        add_segments(store, documents)
        print(f"{len(documents)} segments of the reel, {len(questions)} questions")
        print(f"{'':28}recall@1  recall@5  nDCG@{DEPTH}")
        for name, search in searches(store, embeddings):
            show(name, [score(search(question), answer, documents) for question, answer in questions])


def query(question):
    if question.text is not None:
        return Query(text=question.text)
    return Query(image=Media.from_bytes(reel.query_image(question)))


def searches(store, embeddings):
    """Yields (name, function from a question to Documents, best first)."""
    for track in (*TRACKS, "fused"):
        yield f"{track} only", retriever(store, embeddings, {track: 1.0}, "scores")

    def separate(document):
        return document.metadata["embedding_option"] != "fused"

    yield "plain search, all tracks", lambda question: store.similarity_search(question, 50, filter=separate)
    for fusion in ("rrf", "scores"):
        for preset in ("visual", "balanced"):
            yield f"{fusion}, {preset}", retriever(store, embeddings, weights_of_tracks(preset), fusion)
        stores = dict.fromkeys(TRACKS, store)
        routed = MarengoRetriever(
            vectorstores=stores, embeddings=embeddings, weights="intent", fusion=fusion, k=DEPTH, fetch_k=50
        )
        yield f"{fusion}, intent", routed.invoke


def retriever(store, embeddings, weights, fusion):
    return MarengoRetriever(
        vectorstore=store, embeddings=embeddings, weights=weights, fusion=fusion, k=DEPTH, fetch_k=50
    ).invoke


def weights_of_tracks(preset):
    return weights_of(preset, TRACKS)


def score(found, answer, documents):
    """(recall@1, recall@5, nDCG) of one question. A moment is correct if its middle is in the answer's scene."""
    moments = list(dict.fromkeys((d.metadata["start_sec"], d.metadata["end_sec"]) for d in found))
    # A plain search returns a moment several times, and each takes a rank.
    ranking = [(d.metadata["start_sec"], d.metadata["end_sec"]) for d in found][:DEPTH]
    gains = [is_correct(moment, answer) and ranking.index(moment) == i for i, moment in enumerate(ranking)]
    correct = sum(is_correct(m, answer) for m in {(d.metadata["start_sec"], d.metadata["end_sec"]) for d in documents})
    ideal = sum(1 / math.log2(i + 2) for i in range(min(correct, DEPTH)))
    ndcg = sum(gain / math.log2(i + 2) for i, gain in enumerate(gains)) / ideal
    assert len(moments) <= len(found)
    return any(gains[:1]), any(gains[:5]), ndcg


def is_correct(moment, answer):
    return reel.scene_at(sum(moment) / 2).name == answer


def show(name, scores):
    recalls = [sum(score[i] for score in scores) for i in (0, 1)]
    ndcg = sum(score[2] for score in scores) / len(scores)
    print(f"{name:28}{recalls[0]:>5}/{len(scores)}  {recalls[1]:>5}/{len(scores)}  {ndcg:>7.3f}")


def overhead(k):
    with marengo_local.serve(synthetic_sec=VIDEO_SEC) as local:
        embeddings = MarengoEmbeddings(**local.client_options)
        uris = [local.put(f"video {i}".encode(), f"{i}.mp4") for i in range(VIDEOS)]
        space = {"hnsw": {"space": "cosine"}}
        store = Chroma("bench", embeddings, client=chromadb.EphemeralClient(), collection_configuration=space)
        rows = len(add_segments(store, MarengoLoader(uris, embeddings=embeddings, show_progress=False).lazy_load()))
        vector = embeddings.embed_query("a goal from a corner")
        handle = embeddings.query_handle(vector)
        settings = SearchSettings(weights=weights_of_tracks("visual"), k=k)
        search = find_known_store(store).search
        fused = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights=dict(settings.weights), k=k)

        def raw():
            return [search(store, vector, settings.depth, target, None) for target in settings.targets]

        assert all(Segment.find(hit.page_content) for hit in fused.invoke(handle))
        pairs = [(timed(raw), timed(lambda: fused.invoke(handle))) for _ in range(RUNS + 5)][5:]
        store.delete_collection()
    ratio = median(ours / theirs for theirs, ours in pairs)
    print(
        f"\n{rows} segments in Chroma, k={k}: three raw searches of {settings.depth} hits "
        f"{1000 * median(theirs for theirs, _ in pairs):.1f} ms, fused retriever "
        f"{1000 * median(ours for _, ours in pairs):.1f} ms, ratio {ratio:.2f} (target: {TARGET})"
    )


def timed(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
