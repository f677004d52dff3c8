"""README, docs and docstrings: Python runs page by page against the stand-in, command lines parse, the site builds."""

import doctest
import json
import re
import shlex
import textwrap
import tomllib
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distribution
from itertools import cycle
from pathlib import Path

import pytest
import typer
from chromadb.api.shared_system_client import SharedSystemClient
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
REEL = ROOT / "marengo_local/marengo_local/reel"
PACKAGES = ("bedrock_marengo", "langchain_marengo", "llama_index_marengo", "marengo_mcp", "marengo_ray", "marengo_view")
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
LANGUAGES = {"json", "python", "sh", "text"}

# (page, a line of the block) -> what runs it instead of this file.
NOT_RUN_HERE = {
    ("docs/lambda.md", "# start.py"): "tests/core/test_schedulers.py: each handler has a process of its own",
    ("docs/lambda.md", "# collect.py"): "tests/core/test_schedulers.py: each handler has a process of its own",
    ("docs/logging.md", "from opentelemetry import trace"): "tests/core/test_instrumentation.py: exports to memory",
    ("docs/mcp.md", "from strands import Agent"): "nothing: no release of Strands works with the newest mcp",
    ("docs/ray.md", "import ray"): "tests/cluster/test_pages.py: on a cluster",
    ("marengo_ray/job_slots.py", 'ray.init("auto")'): "tests/cluster/test_pages.py: in the programs of docs/ray.md",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str

    def __str__(self):
        return f"{self.page}:{self.line}"

    def compiled(self, bucket):
        code = self.code.replace("s3://bucket/", f"s3://{bucket}/")
        return compile("\n" * (self.line - 1) + code, ROOT / self.page, "exec")


def blocks_of(page):
    text = (ROOT / page).read_text("utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(page, line, found["language"], textwrap.dedent(found["code"]))


def files(folder, pattern):
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob(pattern))]


PAGES = [*files("docs", "**/*.md"), *files("distributions", "*/README.md"), "README.md", "marengo_local/README.md"]
MODULES = [page for package in PACKAGES for page in files(package, "*.py")]
BLOCKS = [block for page in [*PAGES, *MODULES] for block in blocks_of(page)]


def in_language(language):
    return [block for block in BLOCKS if block.language == language]


def is_run_here(block):
    return not any((block.page, line) in NOT_RUN_HERE for line in block.code.splitlines())


PYTHON = [block for block in in_language("python") if is_run_here(block)]


class TestPython:
    """Each page is one program: its blocks run one after another, over what its prelude gives them."""

    @pytest.fixture
    def world(self, marengo_bedrock, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        # Chroma keeps open stores by their relative path: "store" would be that of an earlier test's folder.
        SharedSystemClient.clear_system_cache()
        return World(marengo_bedrock, monkeypatch)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("page", sorted({block.page for block in PYTHON if block.page in PAGES} - {"README.md"}))
    def test_a_page_runs(self, world, page):
        names = PRELUDES.get(page, nothing)(world)
        for block in PYTHON:
            if block.page == page:
                exec(block.compiled(world.local.bucket), names)
        CHECKS.get(page, nothing)(names)
        for name in [name for name in names if name.startswith("test_")]:
            world.local.reset()
            names[name](world.local)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("block", [block for block in PYTHON if block.page == "docs/testing.md"], ids=str)
    def test_each_test_of_the_page_on_testing_runs_on_its_own(self, world, block):
        names = {}
        exec(block.compiled(world.local.bucket), names)
        for name in [name for name in names if name.startswith("test_")]:
            world.local.reset()
            names[name](world.local)

    @pytest.mark.filterwarnings("ignore")
    def test_the_readme_runs(self, world, capsys):
        from llama_index.core.llms import MockLLM

        names = {}
        for block in PYTHON:
            if block.page == "README.md":
                # The reader's own model, of the framework that the block is about.
                is_llama = "llama_index" in block.code
                names["llm"] = MockLLM() if is_llama else FakeListChatModel(responses=["At 00:00."])
                exec(block.compiled(world.local.bucket), names)
        assert names["response"]["answer"] == "At 00:00."
        assert "match.mp4 at 00:00" in capsys.readouterr().out

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("package", sorted({block.page.split("/")[0] for block in PYTHON if block.page in MODULES}))
    def test_a_docstrings_example_runs(self, world, package):
        names = PRELUDES[package](world)
        for block in PYTHON:
            if block.page in MODULES and block.page.startswith(package):
                exec(block.compiled(world.local.bucket), {**names})

    @pytest.mark.parametrize("module", [page for page in MODULES if ">>> " in (ROOT / page).read_text("utf-8")])
    def test_a_doctest_runs(self, module):
        name = module.removesuffix(".py").replace("/", ".")
        assert doctest.testmod(import_module(name)).failed == 0

    def test_what_is_not_run_here_is_there(self):
        missing = {
            (page, line)
            for page, line in NOT_RUN_HERE
            if not any(block.page == page and line in block.code.splitlines() for block in BLOCKS)
        }
        assert not missing


class TestOtherBlocks:
    def test_a_block_names_a_language_that_is_tested(self):
        assert not [f"{block} {block.language}" for block in BLOCKS if block.language not in LANGUAGES]

    @pytest.mark.parametrize("block", in_language("json"), ids=str)
    def test_json_parses(self, block):
        json.loads(block.code)

    def test_the_request_json_of_the_docs_is_one(self):
        from bedrock_marengo.jobs.fingerprint import RequestFile

        [block] = [block for block in in_language("json") if block.page == "docs/segments.md"]
        assert RequestFile.decode(block.code.encode(), str(block)).attempt == 1

    @pytest.mark.parametrize("block", in_language("sh"), ids=str)
    def test_a_command_line_parses(self, block, tmp_path, monkeypatch):
        for line in block.code.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                if words := shlex.split(command, comments=True):
                    assert words[0] in COMMANDS, f"{block}: no check for {words[0]}"
                    COMMANDS[words[0]](words[1:])

    @pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
    def test_what_a_page_names_in_the_repository_is_there(self, page):
        text = (ROOT / page).read_text("utf-8")
        named = re.findall(r"(?<![\w/.<-])(?:benchmarks|docs|notebooks|tests)/[\w./-]*\w", text)
        assert not [path for path in named if not (ROOT / path).exists()]
        for command, words in re.findall(r"`(make|marengo) ([\w-]+)[^`]*`", text):
            assert words in (make_targets() if command == "make" else marengo().commands), f"{command} {words}"

    # mkdocs checks the links of docs/.
    @pytest.mark.parametrize("page", ["README.md", "marengo_local/README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
    def test_a_link_leads_somewhere(self, page):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
        assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def check_pip(words):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert words[0] == "install"
    for word in words[1:]:
        if word == "-e":
            continue
        if word.startswith("./"):
            assert (ROOT / word / "pyproject.toml").exists(), word
            continue
        wanted = Requirement(word.replace(".[", f"{project['name']}[", 1) if word.startswith(".") else word)
        assert (ROOT / "distributions" / wanted.name).is_dir() or distribution(wanted.name)
        assert wanted.extras <= set(project["optional-dependencies"] if wanted.name == project["name"] else ()), word


def check_make(words):
    assert set(words) <= make_targets()


def check_marengo(words):
    command, name = marengo(), "marengo"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    try:
        command.make_context(name, list(words))
    except typer.Exit as help_shown:
        assert help_shown.exit_code == 0


def check_python(words):
    if words[0] != "-m":
        source = (ROOT / words[0]).read_text("utf-8")
        assert not [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in source]
    elif words[1] == "marengo_local":
        import_module("marengo_local.__main__")._parser().parse_args(words[2:])
    else:
        assert import_module(words[1])


def make_targets():
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def marengo():
    return typer.main.get_command(import_module("marengo_cli.app").app)


COMMANDS = {
    "pip": check_pip,
    "make": check_make,
    "claude": lambda words: check_marengo(words[words.index("--") + 2 :]),
    "marengo": check_marengo,
    "python": check_python,
    ".": lambda words: None,  # an environment is entered
    "export": lambda words: None,
}


class World:
    """What pages take for granted: a bucket and a folder with the same media; vectors are drawn from a hash."""

    def __init__(self, local, monkeypatch):
        self.local = local
        self.patch = monkeypatch
        self.videos = f"s3://{local.bucket}/videos/"
        local.synthetic_sec = 12.0
        Path("captions").mkdir()
        for words in ("captions/match.srt", "match.srt"):
            Path(words).write_text("1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n")
        for key, clip in MEDIA.items():
            local.put(REEL / clip, key)
            Path(Path(key).name).write_bytes((REEL / clip).read_bytes())
        local.put(Path("match.srt"), "videos/match.srt")

    def langchain(self, model="3.0"):
        """Embeddings, and a store that holds the videos' segments."""
        from langchain_chroma import Chroma

        from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments

        embeddings = MarengoEmbeddings(model_id=model, **self.local.client_options)
        store = Chroma(f"{self.local.bucket}-{model}", embeddings, collection_configuration=COSINE)
        own = {"metadata": lambda source: {"tenant": "acme"}, "show_progress": False}
        add_segments(store, MarengoLoader(self.videos, embeddings=embeddings, **own).load())
        return {"client": embeddings.core, "embeddings": embeddings, "store": store}

    def llama_index(self):
        """An embedding model, and an index that holds the videos' segments."""
        from llama_index.core import Settings, VectorStoreIndex
        from llama_index.core.llms import MockLLM

        from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter

        embed_model = MarengoEmbedding(**self.local.client_options)
        self.patch.setattr(Settings, "_embed_model", embed_model)
        self.patch.setattr(Settings, "_llm", MockLLM())
        segmenter = MarengoSegmenter(embed_model=embed_model)
        media = MarengoReader(self.videos, embed_model=embed_model).load_data()
        index = VectorStoreIndex.from_documents(media, embed_model=embed_model, transformations=[segmenter])
        return {"embed_model": embed_model, "segmenter": segmenter, "media": media, "index": index}


MEDIA = {"videos/match.mp4": "big_buck_bunny.mp4", "match.mp4": "grand_prix_1906.mp4", "stills/goal.jpg": "cat.jpg"}
COSINE = {"hnsw": {"space": "cosine"}}


def nothing(names):
    return {}


def real_content(world):
    world.local.synthetic_sec = None
    return {}


def decoded(world):
    """What is asked about is decoded."""
    world.local.synthetic_sec = None
    return both(world)


def both(world):
    return {**world.langchain(), **world.llama_index(), "llm": FakeListChatModel(responses=["At 00:00."])}


def a_folder(world):
    Path("clips").mkdir()
    for name in ("match.mp4", "goal.jpg"):
        Path(name).rename(Path("clips", name))
    return {}


def with_questions(world):
    """The page's own questions, as a file."""
    [block] = [block for block in in_language("text") if block.page == "docs/evaluate.md" and block.code[0] == "{"]
    Path("questions.jsonl").write_text(block.code.replace("s3://bucket/", f"s3://{world.local.bucket}/"))
    return world.langchain()


def two_models(world):
    from langchain_chroma import Chroma

    old, embeddings = world.langchain("2.7")["store"], world.langchain()["embeddings"]
    return {
        **world.llama_index(),
        "old": old,
        "new": Chroma(f"{world.local.bucket}-new", embeddings),
        "embeddings": embeddings,
        "price": lambda kind, seconds: 0.0007 * seconds,
        "serve_from": print,
        "collection": old._collection,
    }


def without_ray(world):
    """LlamaIndex's own pipeline in the place of Ray's: the block is about what stands before and behind it."""
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.storage.docstore import SimpleDocumentStore
    from llama_index.core.vector_stores import SimpleVectorStore

    names = world.llama_index()
    pipeline = IngestionPipeline(transformations=[names["segmenter"]])
    return {**names, "pipeline": pipeline, "docstore": SimpleDocumentStore(), "vector_store": SimpleVectorStore()}


def s3_vectors(world):
    """The stand-in's S3 Vectors."""
    import boto3

    pytest.importorskip("llama_index.vector_stores.s3")
    boto3.client("s3vectors").create_vector_bucket(vectorBucketName="my-vectors")
    return {}


def an_app(world):
    """The reader's own index, of the stand-in's README."""
    from bedrock_marengo import MarengoClient

    class Index:
        def __init__(self, video):
            self.segments = MarengoClient(output_s3_uri=world.local.output_s3_uri).embed_media(video)

        def search(self, text):
            return list(self.segments)

    return {"my_index": Index}


class Caller(GenericFakeChatModel):
    """A chat model that accepts tools, searches, and answers."""

    def bind_tools(self, tools, **settings):
        return self


def with_agents(world):
    """The reader's own models, which call a tool."""
    from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    search = {"name": "search_moments", "args": {"query": "a goal"}, "id": "1"}

    def reply(messages, **settings):
        if any(message.role == "tool" for message in messages):
            return ChatMessage("At 00:00.", role="assistant")
        call = ToolCallBlock(tool_call_id="1", tool_name=search["name"], tool_kwargs=search["args"])
        return ChatMessage(role="assistant", blocks=[call])

    replies = cycle([AIMessage("", tool_calls=[search]), AIMessage("At 00:00.")])
    return {
        **both(world),
        "model": Caller(messages=replies),
        "function_calling_llm": MockFunctionCallingLLM(response_generator=reply),
    }


def langchain_docstrings(world):
    from langchain.agents import create_agent
    from langchain_chroma import Chroma
    from langchain_core.messages import HumanMessage
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnablePassthrough

    names = {**vars(import_module("langchain_marengo")), **with_agents(world)}
    return {
        **names,
        "create_agent": create_agent,
        "Chroma": Chroma,
        "HumanMessage": HumanMessage,
        "Path": Path,
        "RunnablePassthrough": RunnablePassthrough,
        "prompt": ChatPromptTemplate.from_template("{context} {question}"),
        "retriever": names["MarengoRetriever"](vectorstore=names["store"], embeddings=names["embeddings"]),
    }


def llama_index_docstrings(world):
    from llama_index.core import Settings, StorageContext, VectorStoreIndex
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.llms import ChatMessage, TextBlock

    names = {**vars(import_module("llama_index_marengo")), **world.llama_index()}
    return {
        **names,
        "ChatMessage": ChatMessage,
        "FunctionAgent": FunctionAgent,
        "IngestionPipeline": IngestionPipeline,
        "Path": Path,
        "Settings": Settings,
        "StorageContext": StorageContext,
        "TextBlock": TextBlock,
        "VectorStoreIndex": VectorStoreIndex,
        "llm": Settings.llm,
        "question": "When is the goal?",
        "retriever": names["MarengoRetriever"](names["index"]),
    }


def view_docstrings(world):
    names = both(world)
    return {**names, **vars(import_module("marengo_view")), "retriever": names["store"].as_retriever()}


# A page, or a package's docstrings -> what it finds there.
PRELUDES = {
    "docs/agents.md": with_agents,
    "docs/ask.md": decoded,
    "docs/cost.md": both,
    "docs/evaluate.md": with_questions,
    "docs/migrating.md": two_models,
    "docs/ray.md": without_ray,
    "docs/s3-vectors.md": s3_vectors,
    "docs/search.md": both,
    "docs/show.md": both,
    "docs/transcribe.md": both,
    "docs/transcripts.md": both,
    "docs/tutorial-llama-index.md": real_content,
    "docs/tutorial.md": real_content,
    "docs/your-own-folder.md": a_folder,
    "marengo_local/README.md": an_app,
    "langchain_marengo": langchain_docstrings,
    "llama_index_marengo": llama_index_docstrings,
    "marengo_view": view_docstrings,
}


def tutorial_tells_the_truth(names):
    assert names["results"][0].metadata["start_sec"] == 18.0
    assert Path("results.html").stat().st_size > 10_000


def llama_tutorial_tells_the_truth(names):
    assert names["results"][0].node.metadata["start_sec"] == 18.0
    assert names["answer"].source_nodes[0].node.metadata["citation"] == "reel.mp4 at 00:18"
    assert Path("results.html").stat().st_size > 10_000


def folder_was_searched(names):
    assert {name for _, name, *_ in names["found"]} == {"clips/match.mp4", "clips/goal.jpg"}


# A page -> what must hold at its end.
CHECKS = {
    "docs/tutorial-llama-index.md": llama_tutorial_tells_the_truth,
    "docs/tutorial.md": tutorial_tells_the_truth,
    "docs/your-own-folder.md": folder_was_searched,
}
