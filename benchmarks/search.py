"""What search costs over its store's own searches, in both layouts, and search quality on the reel's 20 questions.

    python benchmarks/search.py                        6,000 segments in Chroma's server, LangChain; and the questions
    python benchmarks/search.py --store postgres --framework llama_index --segments 300000 --only cost

Each pair of times is of one run: the store's own searches, one after another, and the retriever. The quality figures
describe the stand-in's content model, not Marengo. Nothing here fails a build.
"""

import argparse
import logging
import math
import tempfile
import time
from pathlib import Path
from statistics import median

from _search_stores import FRAMEWORKS, STORES, TRACKS, Corpus, memory_of, running
from langchain_core.vectorstores import InMemoryVectorStore

import langchain_marengo
import llama_index_marengo
import marengo_local
from bedrock_marengo.search.weights import weights_of
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, Media, Query, add_segments
from marengo_local import reel

VIDEO_SEC, RUNS, HITS = 3600.0, 40, 51
TARGETS = {"a store for each track": 1.5, "one store": 1.2, "adding": 1.3}
DEPTH = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=STORES, default="chroma")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="langchain")
    parser.add_argument("--segments", type=int, default=6_000, help="of all three tracks together")
    parser.add_argument("--add", type=int, default=2_000, help="segments that are added to a filled store")
    parser.add_argument("--only", choices=("cost", "quality"))
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    if args.only != "quality":
        cost(args.store, args.framework, args.segments, args.add)
    if args.only != "cost":
        quality()


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


def cost(kind, framework, count, add):
    with marengo_local.serve(synthetic_sec=VIDEO_SEC) as local:
        framework = FRAMEWORKS[framework](local)
        corpus = Corpus(count, framework.embeddings.core.dimension)
        print(
            f"{3 * corpus.clips:,} segments in {kind}, {type(framework).__name__}, {HITS} hits of each track",
            flush=True,
        )
        with running(kind, framework) as server:
            by_track, one = server.by_track(), server.one()
            for track, store in by_track.items():
                server.fill(store, corpus, [track])
            by_track = server.by_track()
            server.finish()
            measure("a store for each track", framework, corpus, by_track, dict.fromkeys(TRACKS))
            server.fill(one, corpus, TRACKS)
            index(framework, one)
            server.finish()
            measure("one store", framework, corpus, one, {track: track for track in TRACKS})
            print(f"memory of the server, both layouts: {memory_of(server.pid) / 2**20:,.0f} MiB", flush=True)
            if isinstance(framework, FRAMEWORKS["langchain"]):
                adding(framework, server, local, add)


def index(framework, one):
    module = langchain_marengo if isinstance(framework, FRAMEWORKS["langchain"]) else llama_index_marengo
    began = time.perf_counter()
    names = module.create_indexes(one)
    print(f"create_indexes: {len(names)} in {time.perf_counter() - began:.0f} s", flush=True)


def measure(layout, framework, corpus, stores, filters):
    """Pairs of the store's own searches and the retriever; and the recall of both."""
    vectors = [corpus.query(seed) for seed in range(RUNS + 5)]
    search = framework.retriever(stores, weights_of_tracks("visual"), 5)

    def raw(vector):
        for track, wanted in filters.items():
            framework.raw(stores[track] if isinstance(stores, dict) else stores, vector.tolist(), HITS, wanted)

    pairs = [(timed(lambda v=v: raw(v)), timed(lambda v=v: search(v.tolist()))) for v in vectors][5:]
    ratio = median(ours / theirs for theirs, ours in pairs)
    print(
        f"{layout}: the store's own searches {1000 * median(theirs for theirs, _ in pairs):.1f} ms, retriever "
        f"{1000 * median(ours for _, ours in pairs):.1f} ms, ratio {ratio:.2f} (target: {TARGETS[layout]})"
    )
    print(f"{layout}: recall of {HITS - 1} hits {recall(framework, corpus, stores, vectors[:10]):.3f}", flush=True)


def recall(framework, corpus, stores, vectors):
    """The share of each track's nearest clips that the retriever finds."""
    found = []
    for track in TRACKS:
        search = framework.retriever(stores, {track: 1.0}, HITS - 1)
        for vector in vectors:
            right = corpus.nearest(track, vector, HITS - 1)
            found.append(len(right & {framework.id_of(hit) for hit in search(vector.tolist())}) / len(right))
    return sum(found) / len(found)


def adding(framework, server, local, count):
    """Segments added to new stores, in turn: by the store's own method, and by add_segments."""
    uris = [local.put(f"video {i}".encode(), f"{i}.mp4") for i in range(max(1, round(count / 1800)))]
    loader = MarengoLoader(uris, embeddings=framework.embeddings, show_progress=False)
    documents = loader.load()[:count]
    stores = [server.by_track(name)["visual"] for name in ("theirs", "ours")]
    theirs = ours = 0.0
    for first in range(0, len(documents), 500):
        chunk = documents[first : first + 500]
        theirs += timed(lambda c=chunk: stores[0].add_documents(c, ids=[document.id for document in c]))
        ours += timed(lambda c=chunk: add_segments(stores[1], c))
    print(
        f"adding {len(documents):,} segments: the store's own method {theirs:.1f} s, add_segments {ours:.1f} s, ratio "
        f"{ours / theirs:.2f} (target: {TARGETS['adding']})"
    )


def timed(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
