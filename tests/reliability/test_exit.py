"""The end of a program: nothing of ours holds it up, and nothing of ours is gone before its last thread."""

import json
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.promise("A program ends when its own code does")]

OPEN = {
    "sync": "run = client.embed_many(argv); print(next(run).error)",
    "read ahead": "run = client.embed_many(argv, read_ahead=True); print(next(run).error)",
    "async": """
import asyncio
async def main():
    global run
    run = client.aembed_many(argv)
    print((await anext(run)).error)
asyncio.run(main())
""",
    "LangChain": """
from langchain_marengo import MarengoEmbeddings, MarengoLoader
embeddings = MarengoEmbeddings(**json.loads(sys.argv[1]))
run = MarengoLoader(argv, embeddings=embeddings, show_progress=False).lazy_load()
print(next(run) and None)
""",
}


@pytest.mark.parametrize("code", OPEN.values(), ids=OPEN)
def test_a_run_that_is_still_open(code, child, local):
    """Its first job ends, the others don't."""
    durations = iter([0.0])
    local.job_duration_sec = lambda job: next(durations, 3600.0)
    uris = [local.put(bytes([i]), f"{i}.mp4") for i in range(4)]
    process = child(code + "\nprint('the end')", *uris)
    assert process.stdout.readline() == "None\n"
    assert process.stdout.readline() == "the end\n"
    began = time.monotonic()
    _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    assert time.monotonic() - began < 5


LATE = """
import asyncio, pathlib, threading, time
from langchain_marengo import MarengoEmbeddings, MarengoLoader
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter
options, (folder, *uris) = json.loads(sys.argv[1]), argv
embeddings, embed_model = MarengoEmbeddings(**options), MarengoEmbedding(**options)
files = sorted(pathlib.Path(folder).iterdir())

async def each(run):
    return [done.error async for done in run]

def calls():
    yield client.embed_texts(["a", "b"]).shape
    yield asyncio.run(client.aembed_texts(["a", "b"])).shape
    yield len(client.embed_media(files[0]))
    yield len(asyncio.run(client.aembed_media(files[1])))
    yield [done.error for done in client.embed_many(uris)]
    yield asyncio.run(each(client.aembed_many(uris, force=True)))
    loader = MarengoLoader(files, embeddings=embeddings, show_progress=False)
    yield len(loader.load()), len(asyncio.run(loader.aload()))
    yield len(asyncio.run(embeddings.aembed_documents(["a", "b"])))
    documents = MarengoReader(uris, embed_model=embed_model).load_data()
    segmenter = MarengoSegmenter(embed_model=embed_model)
    yield len(segmenter(documents)), len(asyncio.run(segmenter.acall(documents)))

def work():
    threading.main_thread().join()
    time.sleep(0.2)
    for result in calls():
        print(json.dumps(result))

threading.Thread(target=work).start()
"""


def test_threads_that_outlive_the_main_thread(child, local, tmp_path):
    # The first is uploaded in parts.
    for i, size in enumerate((9_000_000, 1)):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]) * size)
    uris = [local.put(bytes([i]), f"{i}.mp4") for i in range(2)]
    told, complaints = child(LATE, tmp_path, *uris).communicate(timeout=60)
    results = [json.loads(line) for line in told.splitlines()]
    assert (complaints, len(results)) == ("", 9)
    assert results == [[2, 512], [2, 512], 12, 12, [None] * 2, [None] * 2, [18, 18], 2, [18, 18]]
