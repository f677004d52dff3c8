"""Whether LlamaIndex indexes a long file in linear time: 1,500 compared with 6,000 segments of one source.

    python benchmarks/llama_index_long_media.py

MarengoSegmenter makes the segments from the stand-in's output. They are indexed by a VectorStoreIndex: with
SegmentDocumentStore, with LlamaIndex's SimpleDocumentStore, and in Chroma, which needs no document store.
"""

import time

import chromadb
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.chroma import ChromaVectorStore

import marengo_local
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter, Segmentation, SegmentDocumentStore

FEW, MANY = 1500, 6000


def chroma():
    collection = chromadb.EphemeralClient().create_collection(f"segments-{time.monotonic_ns()}")
    return StorageContext.from_defaults(vector_store=ChromaVectorStore(collection))


STORES = {
    "SegmentDocumentStore": lambda: StorageContext.from_defaults(docstore=SegmentDocumentStore()),
    "SimpleDocumentStore": lambda: StorageContext.from_defaults(docstore=SimpleDocumentStore()),
    "Chroma": chroma,
}


def seconds(call):
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def show(name, few, many):
    print(f"{name:<24} {few:6.2f} s  {many:6.2f} s  {many / few:5.1f}x")


def main():
    with marengo_local.serve() as local:
        embed_model = MarengoEmbedding(**local.client_options)
        segmenter = MarengoSegmenter(embed_model=embed_model, options=["visual"], segmentation=Segmentation.fixed(2))
        took, nodes = {}, {}
        for count in (FEW, MANY):
            local.synthetic_sec = 2.0 * count
            media = MarengoReader(local.put(b"a film", f"{count}.mp4"), embed_model=embed_model).load_data()
            segmenter(media)  # a first time, to exclude the job itself
            took[count], nodes[count] = seconds(lambda media=media: segmenter(media))
            assert len(nodes[count]) == count
        print(f"{'segments':<24} {FEW:>8} {MANY:>9}  {MANY / FEW:5.1f}x")
        show("MarengoSegmenter", *took.values())
        for name, make in STORES.items():
            index = [
                seconds(
                    lambda made=made, make=make: VectorStoreIndex(made, storage_context=make(), embed_model=embed_model)
                )
                for made in nodes.values()
            ]
            show(name, *(sec for sec, _ in index))


if __name__ == "__main__":
    main()
