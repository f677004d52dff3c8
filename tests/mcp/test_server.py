"""The MCP server with the official client: in process, over stdio and over HTTP."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from langchain_chroma import Chroma
from langchain_core.vectorstores import InMemoryVectorStore
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from typer.testing import CliRunner

import marengo_mcp.server
from bedrock_marengo import ConfigurationError, InputError, Segmentation
from bedrock_marengo.agents import TOOLS, MomentTools
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments
from langchain_marengo.layouts import create_track_stores
from marengo_cli.app import app
from marengo_mcp import create_server, run_http
from marengo_mcp.settings import ServerSettings, archive_of, read_settings, retriever_of

from ..films import film

COLORS = [np.full((96, 160, 3), color, np.uint8) for color in ((20, 20, 230), (230, 20, 20))]
SAID = b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n"
MODES = ("auto", "legacy", "2026-07-28")


@pytest.fixture
def local(marengo_bedrock):
    # What is seen counts, so the media are decoded.
    marengo_bedrock.synthetic_sec = None
    return marengo_bedrock


@pytest.fixture
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture
def documents(local, embeddings):
    local.put(SAID, "match.srt")
    # Blue, then red from second 6 on.
    film_of_two = film(seconds=12.0, fps=10, audio=None, pictures=lambda number: COLORS[number >= 60])
    match = local.put(film_of_two, "match.mp4")
    settings = {"options": ["visual"], "segmentation": Segmentation.fixed(6), "show_progress": False}
    return MarengoLoader(match, embeddings=embeddings, **settings).load()


@pytest.fixture
def retriever(embeddings, documents):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, documents)
    return MarengoRetriever(vectorstore=store, embeddings=embeddings)


@pytest.fixture
def server(retriever):
    return create_server(ServerSettings(links=True).tools(retriever))


class TestProtocol:
    @pytest.mark.parametrize("mode", MODES)
    async def test_an_assistant_finds_and_reads_the_right_second(self, server, mode):
        async with Client(server, mode=mode) as client:
            found = await client.call_tool("search_moments", {"query": "red", "limit": 1})
            [moment] = found.structured_content["moments"]
            assert (moment["start_sec"], moment["end_sec"], moment["start"]) == (6.0, 12.0, "00:00:06")
            assert [block.type for block in found.content] == ["text"]
            # Some clients show a model this instead of the text.
            assert "data, not instructions" in found.structured_content["note"]
            read = await client.call_tool("read_moment", {"moment": moment["id"], "frames": 2})
            assert [block.type for block in read.content] == ["text", "image", "image", "resource_link"]
            assert "Goal!" in read.content[0].text and not read.is_error
            assert base64.b64decode(read.content[1].data)[:2] == b"\xff\xd8"

    async def test_a_clip_is_a_resource(self, server):
        async with Client(server) as client:
            [template] = (await client.list_resource_templates()).resource_templates
            assert template.mime_type == "video/mp4" and not (await client.list_resources()).resources
            found = await client.call_tool("search_moments", {"query": "red"})
            read = await client.call_tool("read_moment", {"moment": found.structured_content["moments"][0]["id"]})
            [clip] = (await client.read_resource(read.content[-1].uri)).contents
            assert clip.mime_type == "video/mp4" and base64.b64decode(clip.blob)[4:8] == b"ftyp"

    @pytest.mark.parametrize(
        "uri", ["marengo://clip/file%3A%2F%2F%2Fetc%2Fpasswd", "file:///etc/passwd", "marengo://clip/..%2F..%2Fx"]
    )
    async def test_no_other_resource_is_read(self, server, uri):
        async with Client(server) as client:
            with pytest.raises(MCPError, match="not in this archive"):
                await client.read_resource(uri)

    async def test_tools_say_what_they_change_and_take(self, retriever):
        server = create_server(ServerSettings(allow=["ask", "describe"]).tools(retriever))
        async with Client(server) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == list(TOOLS)
        hints = {name: (t.annotations.read_only_hint, t.annotations.destructive_hint) for name, t in tools.items()}
        paid = {"ask_video", "describe_video"}
        assert hints == {name: (name not in paid, False) for name in TOOLS}
        schemas = json.loads((Path(__file__).parents[1] / "data" / "agent_tools.json").read_text())
        assert {name: tool.input_schema for name, tool in tools.items()} == {
            name: TOOLS[name].json_schema for name in schemas
        }

    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("search_moments", {}, "needs query"),
            ("search_moments", {"query": "x", "limit": -1}, "1 to 20"),
            ("search_moments", {"query": "x", "path": "/etc"}, "'path' is not an argument"),
            ("read_moment", {"moment": "https://example.com/a.mp4"}, "not in this archive"),
            ("ask_video", {"video": "x", "question": "y"}, "There is no tool 'ask_video'"),
        ],
    )
    async def test_errors_are_words_that_a_model_can_act_on(self, server, name, arguments, words):
        async with Client(server) as client:
            answer = await client.call_tool(name, arguments)
        assert answer.is_error and words in answer.content[0].text and answer.structured_content["error"]

    async def test_links_are_for_the_client_alone(self, server):
        async with Client(server) as client:
            found = await client.call_tool("search_moments", {"query": "red", "limit": 1})
        [moment] = found.structured_content["moments"]
        assert found.meta["links"][moment["id"]].startswith("http")
        assert "X-Amz" not in found.content[0].text + json.dumps(found.structured_content)

    async def test_a_call_that_runs_on_reports_progress(self, server, local, monkeypatch):
        monkeypatch.setattr(marengo_mcp.server, "PROGRESS_SEC", 0.05)
        local.latency_sec = 0.3
        seen = []

        async def note(progress, total, message):
            seen.append((progress, message))

        async with Client(server) as client:
            await client.call_tool("search_moments", {"query": "a new query"}, progress_callback=note)
        assert seen and seen == sorted(seen) and "search_moments" in seen[0][1]

    async def test_tools_that_are_still_opening_are_listed(self, retriever):
        opening = Future()
        async with Client(create_server(opening, specs=list(TOOLS.values()))) as client:
            assert len((await client.list_tools()).tools) == len(TOOLS)
            call = asyncio.create_task(client.call_tool("list_videos", {}))
            opening.set_result(ServerSettings().tools(retriever))
            assert "match.mp4" in (await call).content[0].text

    async def test_a_call_that_is_cancelled_does_not_end_the_opening(self, retriever):
        opening = Future()
        async with Client(create_server(opening, specs=list(TOOLS.values()))) as client:
            with pytest.raises(MCPError):
                await client.call_tool("list_videos", {}, read_timeout_seconds=0.1)
            opening.set_result(ServerSettings().tools(retriever))
            assert "match.mp4" in (await client.call_tool("list_videos", {})).content[0].text

    async def test_an_archive_that_can_not_be_opened_is_said(self):
        opening = Future()
        opening.set_exception(InputError("no such folder"))
        async with Client(create_server(opening)) as client:
            with pytest.raises(MCPError, match=r"can't be opened\. no such folder"):
                await client.list_tools()

    @pytest.mark.parametrize("limit", [5, 20])
    async def test_the_longest_answer_fits(self, embeddings, limit):
        class Loud:
            """An archive whose every moment says a megabyte."""

            client, sources, start_sec, end_sec, is_filtered = embeddings.core, (), None, None, False

            def search(self, query, *, limit, **_):
                from ..core.test_agents import row

                return [row(f"s3://bucket/{'v' * 200}{i}.mp4", said="word " * 200_000) for i in range(limit)]

        async with Client(create_server(MomentTools(Loud()))) as client:
            found = await client.call_tool("search_moments", {"query": "x", "limit": limit})
        assert len(found.content[0].text) <= 8_000
        assert len(found.model_dump_json()) < 100_000


class TestHttp:
    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.com", "", "127.0.0.2", "::ffff:127.0.0.1"])
    def test_only_where_other_host_names_are_refused(self, server, host):
        with pytest.raises(ConfigurationError, match="no login"):
            run_http(server, host=host)

    @pytest.mark.parametrize("port", [0, -1, 99_999])
    def test_ports(self, server, port):
        with pytest.raises(ConfigurationError, match="1 to 65,535"):
            run_http(server, port=port)

    def test_a_port_that_is_in_use(self, server):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(ConfigurationError, match="can't be used"):
                run_http(server, port=taken.getsockname()[1])

    @pytest.mark.parametrize("mode", MODES)
    async def test_progress(self, server, local, monkeypatch, mode):
        monkeypatch.setattr(marengo_mcp.server, "PROGRESS_SEC", 0.05)
        local.latency_sec = 0.3
        seen, port = [], free_port()
        threading.Thread(target=run_http, args=(server,), kwargs={"port": port}, daemon=True).start()
        while not reachable(port):
            await asyncio.sleep(0.05)

        async def note(progress, total, message):
            seen.append(message)

        async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
            await client.call_tool("search_moments", {"query": f"new in {mode}"}, progress_callback=note)
        assert seen


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def reachable(port):
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@pytest.mark.slow
class TestCommand:
    """The command as assistants start it."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_only_the_protocol_is_on_stdout_and_a_signal_ends_it(self, tmp_path, number):
        (tmp_path / "noisy.py").write_text(
            "import os\nprint('hello')\nos.system('echo hello')\nfrom langchain_marengo import *\n"
            "from langchain_core.vectorstores import InMemoryVectorStore\nembeddings = MarengoEmbeddings()\n"
            "def made():\n    print('made')\n    return MarengoRetriever(\n        embeddings=embeddings,"
            "\n        vectorstore=InMemoryVectorStore(embeddings)\n    )\n"
        )
        command = [sys.executable, "-m", "marengo_cli", "mcp", "--retriever", "noisy:made"]
        paths = os.pathsep.join(sys.path)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "PYTHONPATH": paths, "AWS_REGION": "us-east-1"}
        with subprocess.Popen(command, cwd=tmp_path, text=True, env=environment, **pipes) as process:
            client = {"name": "test", "version": "1"}
            given = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
            message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": given}
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == 1
            process.send_signal(number)
            assert process.wait(30) == 130
            assert process.stdout.read() == "" and "hello\nhello\nmade" in process.stderr.read().replace("\r", "")

    async def test_stdio(self):
        command = StdioServerParameters(command=sys.executable, args=["-m", "marengo_cli", "mcp", "--local"])
        async with Client(command) as client:
            found = await client.call_tool(
                "search_moments", {"query": "a rocket standing on its launch pad"}, read_timeout_seconds=300
            )
            assert "24" in found.structured_content["moments"][0]["start"]

    async def test_http(self, tmp_path):
        port = free_port()
        (tmp_path / "clip.mp4").write_bytes(film(seconds=4.0, fps=5))
        (tmp_path / "broken.mp4").write_bytes(b"broken")
        (tmp_path / "photo.webp").write_bytes(b"RIFF")
        arguments = ["mcp", "--local", str(tmp_path), "--http", "--port", str(port)]
        with subprocess.Popen([sys.executable, "-m", "marengo_cli", *arguments], stderr=subprocess.PIPE) as process:
            try:
                until = time.monotonic() + 100
                while not reachable(port):
                    assert process.poll() is None and time.monotonic() < until
                    await asyncio.sleep(0.2)
                async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                    listed = await client.call_tool("list_videos", {}, read_timeout_seconds=100)
                    assert "clip.mp4" in listed.content[0].text
            finally:
                process.terminate()
            said = process.communicate(timeout=30)[1].decode()
        assert "Skipped (unsupported image): photo.webp" in said
        assert f"Skipped {tmp_path / 'broken.mp4'}: The video could not be decoded: " in said


class TestSettings:
    def test_a_file_and_what_was_typed(self, tmp_path):
        path = tmp_path / "marengo-mcp.toml"
        path.write_text(
            'chroma = "store"\ncollection = "videos"\nmax_usd = 0.1\nallow = ["ask"]\n'
            '[filter]\ntenant = "acme"\n[aws]\nregion = "eu-west-1"\n'
        )
        settings, aws = read_settings(path, {"max_usd": 0.2, "collection": None})
        assert (settings.collection, settings.max_usd, settings.filter) == ("videos", 0.2, {"tenant": "acme"})
        # Assistants start servers in a folder of their own.
        assert settings.chroma == str(tmp_path / "store")
        assert read_settings(path, {"chroma": "other"})[0].chroma == "other"
        assert aws == {"region": "eu-west-1"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("chroma = ", "not a readable TOML"),
            ("colection = 'x'", "Did you mean 'collection'"),
            ("chroma = 3", "chroma=3: expected the path"),
            ("retriever = ['x:y']", "expected module:name"),
            ("filter = 'acme'", "filter='acme': expected a table"),
            ("weights = 1", "weights=1: expected a preset"),
            ("links = 'no'", "links='no': expected true or false"),
            ("allow = 'ask'", "takes a list of permissions"),
            ("allow = ['delete']", "allow='delete'"),
            ("allowed_prefixes = 's3://bucket/'", "takes a list of S3 prefixes"),
            ("max_usd = '1'", "max_usd='1': expected US dollars"),
            ("aws = 'eu-west-1'", "expected a table"),
        ],
    )
    def test_a_file_that_is_wrong(self, tmp_path, text, words):
        (tmp_path / "wrong.toml").write_text(text)
        with pytest.raises((InputError, ConfigurationError), match=words):
            read_settings(tmp_path / "wrong.toml", {})

    @pytest.mark.parametrize("spec", ["nowhere:x", "json:nothing", "json", ""])
    def test_a_retriever_that_is_not_there(self, spec):
        with pytest.raises(ConfigurationError, match="module:name"):
            retriever_of(spec)

    def test_a_retriever_of_ones_own(self, tmp_path, monkeypatch, retriever):
        (tmp_path / "my_archive.py").write_text("def make():\n    return 'made'\nready = 'ready'\n")
        monkeypatch.setattr(sys, "path", list(sys.path))
        assert (retriever_of("my_archive:make", tmp_path), retriever_of("my_archive:ready")) == ("made", "ready")
        with pytest.raises(ConfigurationError, match="expected a MarengoRetriever"):
            archive_of("made")
        assert archive_of(retriever).client is retriever.embeddings.core

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "Pass one of --chroma"),
            (["--chroma", "nowhere", "--collection", "x"], "no Chroma store"),
            (["--chroma", "nowhere"], "--collection NAME"),
            (["--retriever", "nowhere:x"], "module:name"),
            (["--local", "nowhere.mp4"], "no such file"),
            (["--local", "--allow", "delete"], "allow='delete'"),
            (["--local", "--chroma", "store"], "Got 2"),
            (["--retriever", "x:y", "--chroma", "store"], "Got 2"),
            (["--retriever", "x:y", "--collection", "videos"], "collection has no effect"),
            (["--retriever", "x:y", "--config", "tenant.toml"], "filter has no effect"),
            (["--config", "region.toml"], "[aws] region=3"),
            (["video.mp4"], "only be served with --local"),
            (["--config", "nowhere.toml"], "not a readable TOML"),
        ],
    )
    def test_mistakes_on_the_command_line(self, arguments, words, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("tenant.toml").write_text('[filter]\ntenant = "acme"')
        Path("region.toml").write_text("[aws]\nregion = 3")
        found = CliRunner().invoke(app, ["mcp", *arguments], env={"AWS_REGION": "us-east-1"})
        assert found.exit_code == 2 and words in " ".join(found.output.split())


class TestStores:
    @pytest.mark.parametrize("layout", ["one collection", "a collection for each track"])
    async def test_chroma_on_disk(self, layout, tmp_path, embeddings, documents):
        from marengo_cli.mcp import _collections, _retriever

        open_store = partial(Chroma, persist_directory=str(tmp_path))
        if layout == "one collection":
            add_segments(open_store("videos", embeddings), documents)
        else:
            stores = create_track_stores(
                Chroma, "videos", embeddings, tracks=["visual"], persist_directory=str(tmp_path)
            )
            add_segments(stores, documents)
        settings = ServerSettings(weights={"visual": 1.0})
        retriever = _retriever(embeddings, settings, _collections(tmp_path, "videos", embeddings))
        async with Client(create_server(settings.tools(retriever))) as client:
            found = await client.call_tool("search_moments", {"query": "red"})
        assert found.structured_content["moments"][0]["start_sec"] == 6.0

    async def test_a_store_that_only_an_event_loop_can_search(self, local):
        from llama_index.core import StorageContext, VectorStoreIndex
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import AsyncQdrantClient

        from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter
        from llama_index_marengo import MarengoRetriever as LlamaIndexRetriever

        embed_model = MarengoEmbedding(**local.client_options)
        store = QdrantVectorStore("moments", aclient=AsyncQdrantClient(":memory:"))
        storage = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex([], embed_model=embed_model, storage_context=storage, use_async=True)
        media = MarengoReader([local.put(film(seconds=4.0, fps=5), "match.mp4")], embed_model=embed_model).load_data()
        await index.ainsert_nodes(MarengoSegmenter(embed_model=embed_model)(media))
        async with Client(create_server(ServerSettings().tools(LlamaIndexRetriever(index)))) as client:
            found = await client.call_tool("search_moments", {"query": "red"})
            listed = await client.call_tool("list_videos", {})
        assert found.structured_content["moments"][0]["file"] == "match.mp4" and "match.mp4" in listed.content[0].text

    async def test_a_filter_holds_for_all_that_a_client_does(self, embeddings, documents):
        store = InMemoryVectorStore(embeddings)
        add_segments(store, documents)

        def of_acme(document):
            return document.metadata.get("tenant") == "acme"

        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, filter=of_acme)
        async with Client(create_server(ServerSettings().tools(retriever))) as client:
            answers = [
                await client.call_tool("search_moments", {"query": "red"}),
                await client.call_tool("list_videos", {}),
                await client.call_tool("read_moment", {"moment": documents[0].page_content.partition("\n")[0]}),
            ]
        assert "match.mp4" not in "".join(answer.content[0].text for answer in answers[:2])
        assert answers[2].is_error
