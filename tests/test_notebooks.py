"""Each notebook runs against the stand-in as it is committed, shows what it promises, and would run on AWS."""

import ast
import os
import re
import runpy
from pathlib import Path

import nbformat
import pytest

from marengo_local import reel

ROOT = Path(__file__).parents[1]
RUNNER = runpy.run_path(str(ROOT / "notebooks/execute.py"))
NOTEBOOKS = [path.stem for path in RUNNER["NOTEBOOKS"]]
SCENES = {scene.name: scene for scene in reel.scenes()}


class Shown:
    """What the cells of a notebook show, by their ids."""

    def __init__(self, notebook):
        self._outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}

    def text(self, cell_id):
        return "".join(output.text for output in self._outputs[cell_id] if output.output_type == "stream")

    def html(self, cell_id):
        [output] = self._outputs[cell_id]
        return output.data["text/html"]

    def hits(self, cell_id):
        """File name and first second of each hit that is drawn."""
        drawn = re.findall(r'data-source="([^"]*)" data-start-sec="([^"]*)"', self.html(cell_id))
        return [(source.rpartition("/")[2], float(start)) for source, start in drawn]

    def plays(self, cell_id):
        return len(re.findall(r'<video [^>]*src="data:video/mp4;base64,', self.html(cell_id)))

    def kinds(self):
        return {
            cell_id: [(output.output_type, sorted(output.get("data", {}))) for output in outputs]
            for cell_id, outputs in self._outputs.items()
        }


def read(name):
    return nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)


def at(scene):
    """A hit of the reel's scene."""
    return "reel.mp4", SCENES[scene].start_sec


def quick_start_langchain(shown):
    assert shown.text("embed") == "512 numbers\n"
    assert shown.text("load").startswith("9 segments\ns3://demo/videos/reel.mp4#t=0,5&track=fused&job=")
    starts = [float(line.split()[0]) for line in shown.text("ask").splitlines()]
    assert starts == [SCENES[name].start_sec for name in ("coffee", "rocket", "grand_prix")]
    assert shown.hits("show")[0] == at("rabbit") and shown.plays("show") == 2
    assert re.search(r"segments: True\n.*now:  0\n", shown.text("again"))


def quick_start_llama_index(shown):
    assert len(shown.text("read").splitlines()) == 9
    assert shown.text("index") == "9 nodes from 3 jobs and 6 images\n"
    found = [line.rpartition("/")[2] for line in shown.text("ask").splitlines()]
    assert found == ["coffee.jpg", "big_buck_bunny.mp4", "terminal_speech.mp4"]
    assert shown.hits("show")[0] == ("grand_prix_1906.mp4", 0.0) and shown.plays("show") >= 1
    assert shown.hits("ask-by-image")[0] == ("astronaut.jpg", 0.0)
    assert re.findall(r": +(\d+)", shown.text("again")) == ["9", "0", "0"]


def video_rag(shown):
    assert f"\n{SCENES['rabbit'].holds}\n" in shown.text("load")
    assert shown.text("retrieve").startswith(f"[1] reel.mp4, 00:18 to 00:24\nwords: {SCENES['coffee'].holds}\n")
    assert len(shown.text("budget")) <= 130 + 1
    assert shown.text("chain") == f'reel.mp4 at 00:18: "{SCENES["coffee"].holds}" [1]\n'
    assert shown.hits("show") == [at("coffee")] and shown.plays("show") == 1
    assert re.findall(r"reel.mp4 at (\S+):", shown.text("more")) == ["00:24", "00:00"]
    assert [line.split()[0] for line in shown.text("frames").splitlines()].count("image") == 4
    answer = shown.text("ask-with-frames")
    assert answer.startswith("reel.mp4 at 00:05:") and "given 4 images" in answer


def search_by_image_sound_and_clip(shown):
    assert shown.text("load") == "Counter({'visual': 9, 'audio': 9, 'transcription': 9})\n"
    assert shown.text("ask-in-words").split()[:3] == ["24", "to", "30"]
    for cell_id, scene in {
        "ask-by-image": "astronaut",
        "ask-by-clip": "grand_prix",
        "ask-by-sound": "terminal",
    }.items():
        assert shown.hits(cell_id) == [at(scene)] and shown.plays(cell_id) == 1
    weighed = {line[:15].strip(): int(line[15:].split()[0]) for line in shown.text("weigh").splitlines()}
    assert weighed["intent"] == weighed["{'audio': 1}"] == 0 and weighed["visual"] == weighed["{'visual': 1}"] != 0
    assert [line.split("[(")[1].split(",")[0] for line in shown.text("fusion").splitlines()] == ["18.0", "18.0"]
    assert shown.html("timeline").count("<rect") == 3 * 9 and "<a href" not in shown.html("timeline")
    assert shown.html("map").count("<circle") == 9


def a_whole_bucket(shown):
    plan = shown.text("plan")
    assert "to start   9 (6 image, 3 video)" in plan and "skipped    1 not media" in plan
    assert len(shown.text("break-off").splitlines()) == 3
    *done, last = shown.text("resume").splitlines()
    assert len(done) == 8 and all(line.endswith(" done") for line in done) and "would exceed max_cost_usd" in last
    days = re.findall(r"(\d) jobs, (\d) images, (\S+) USD", shown.text("finish"))
    assert [sum(float(day[place]) for day in days) for place in (0, 1)] == [3, 6]
    assert sum(float(day[2]) for day in days) == pytest.approx(float(plan.split()[-2]), abs=1e-4)
    assert "to reuse   9" in shown.text("plan-again")
    assert re.findall(r"\d+", shown.text("stores")) == ["9", "9", "0"]
    chroma, qdrant = (line.partition(" ")[2] for line in shown.text("rank").splitlines())
    assert chroma == qdrant and chroma.startswith("['coffee.jpg'")
    assert "would delete 1 outputs" in shown.text("forget-dry")
    assert "\ndeleted 1 outputs" in "\n" + shown.text("forget") and "coffee" not in shown.text("forget").splitlines()[1]
    assert shown.text("plan-after").startswith("1 to start, 8 to reuse")


def measure_your_retrieval(shown):
    assert len(shown.text("questions").splitlines()) == 1 + 4 and shown.text("questions").startswith("20 questions")
    table = shown.html("compare")
    rows = re.findall(r"<tr><td [^>]*>(\w+)</td>(.*?)</tr>", table)
    assert [name for name, _ in rows] == ["plain", "fused", "hybrid", "decomposed"]
    assert table.count("baseline") >= 6 and len(re.findall(r"\[[+-]0\.\d+, [+-]0\.\d+\]", table)) >= 3 * 6
    ndcg = [re.findall(r">(\d\.\d{3})<br", cells)[3] for _, cells in rows]
    said = "plain search {}, fused {}, with\nwords {}, with words and `decompose=` {}.".format(*ndcg)
    assert said in (ROOT / "docs/search.md").read_text("utf-8")
    steps = re.findall(r"^(\w+) to (\w+): \S+ \[(\S+), (\S+)\]  (\w+)", shown.text("steps"), re.MULTILINE)
    assert [step[:2] for step in steps] == [("plain", "fused"), ("fused", "hybrid"), ("hybrid", "decomposed")]
    assert [says for *_, says in steps] == ["may", "better", "may"]
    assert [float(low) > 0 for _, _, low, _, _ in steps] == [False, True, False]
    changes = [line.split()[:3] for line in shown.text("changes").splitlines()[1:]]
    assert sum(words < fused for fused, words, _ in changes) == 4 and all(words <= fused for fused, words, _ in changes)
    assert [sum(own < words for _, words, own in changes), sum(own > words for _, words, own in changes)] == [2, 3]
    assert {"words alone", "rrf, intent", "scores, balanced"} <= set(
        re.findall(r"^(\S+(?: \S+)*)  ", shown.text("tracks"), re.M)
    )
    assert shown.text("weights").startswith("weights: keep those you have\n")
    assert "10 questions are too few" in shown.text("weights")


def an_agent_that_watches(shown):
    tools = [line.split()[0] for line in shown.text("load").splitlines()]
    assert tools == ["search_moments", "read_moment", "list_videos", "estimate_cost"]
    said = [line.split(maxsplit=1) for line in shown.text("ask").splitlines()]
    assert [line.split("(")[0] for who, line in said if who == "ai"][:2] == [
        "calls search_moments",
        "calls read_moment",
    ]
    rocket, answer = SCENES["rocket"], said[-1][1]
    assert answer.startswith(f'reel.mp4 at 00:00:{rocket.start_sec:.0f}: "{rocket.holds}"') and "2 frames" in answer
    assert ["tool", f"<video_words>{rocket.holds}</video_words>"] in said
    assert shown.text("artifact").startswith("1 reel.mp4 24.0 30.0")
    assert shown.hits("show") == [at("rocket")] and shown.plays("show") == 1
    estimate, refused = shown.text("budget").splitlines()
    assert "at most 0.0184" in estimate and refused.startswith("Not called, nothing was billed")
    coffee = SCENES["coffee"]
    assert shown.text("stop").startswith("ask_video {'video': 's3://demo/videos/reel.mp4#t=18,24")
    assert shown.text("stop").endswith("spent: 0.0000 US dollars\n")
    answer, spent = shown.text("approve").splitlines()
    assert answer.startswith(f'reel.mp4 at 00:00:{coffee.start_sec:.0f}: "') and " red " in answer
    assert 0 < float(spent.split()[1]) < 0.0184


PROMISES = {
    "1_quick_start_langchain": quick_start_langchain,
    "2_quick_start_llama_index": quick_start_llama_index,
    "3_video_rag_with_time_codes": video_rag,
    "4_search_by_image_sound_and_clip": search_by_image_sound_and_clip,
    "5_a_whole_bucket": a_whole_bucket,
    "6_measure_your_retrieval": measure_your_retrieval,
    "7_an_agent_that_watches": an_agent_that_watches,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_shows_what_it_promises(name, tmp_path):
    committed = read(name)
    shown = Shown(RUNNER["run"](read(name), tmp_path))
    PROMISES[name](shown)
    assert shown.kinds() == Shown(committed).kinds()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_committed_was_run_and_is_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert RUNNER["problems_of"](notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    PROMISES[name](Shown(notebook))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_cell_alone_knows_the_stand_in(name):
    settings, *others = [cell.source for cell in read(name).cells if cell.cell_type == "code"]
    rest = "\n".join(others)
    assert "marengo_local" not in rest
    needed = stored(settings) & loaded(rest) - stored(rest)
    assert needed and needed <= stored(for_aws(settings))


@pytest.mark.slow
def test_a_notebook_runs_on_what_looks_like_aws(tmp_path, marengo_bedrock):
    """The lines for AWS as they stand: a region, a prefix, and credentials where boto3 finds them."""
    for name, path in reel.media().items():
        marengo_bedrock.put(path, f"videos/{name}")
    marengo_bedrock.put(b"Not a media file.", "videos/notes.txt")
    notebook = read("5_a_whole_bucket")
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source = for_aws(cell.source).replace("your-bucket", marengo_bedrock.bucket).replace("5.00", "0.006")
    a_whole_bucket(Shown(RUNNER["run"](notebook, tmp_path)))
    assert marengo_bedrock.calls["StartAsyncInvoke"] == 3
    assert marengo_bedrock.calls["sts:GetCallerIdentity"]


def test_problems_are_found():
    notebook = read("1_quick_start_langchain")
    cell = next(cell for cell in notebook.cells if cell.id == "embed")
    planted = {
        "a presigned URL": "https://bucket/a?X-Amz-Signature=1",
        "an access key": "AKIAIOSFODNN7EXAMPLE",
        "a local address": "http://127.0.0.1:4000",
        "a local path": f"in {os.sep}tmp{os.sep}x",
    }
    for what, text in planted.items():
        cell.outputs = [nbformat.v4.new_output("stream", text=text)]
        [problem] = RUNNER["problems_of"](notebook)
        assert problem.startswith(f"embed contains {what}")
    cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="UserWarning: no")]
    assert RUNNER["problems_of"](notebook) == ["embed has errors or warnings"]


def for_aws(settings):
    """The lines for AWS of a settings cell, as code."""
    _, _, lines = settings.partition("\n# To use AWS, replace all the lines above with these:\n")
    return "\n".join(line.removeprefix("# ") for line in lines.splitlines())


def stored(source):
    """The names that a cell binds."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imported = (alias.asname or alias.name for node in nodes if hasattr(node, "names") for alias in node.names)
    defined = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return names | set(imported) | set(defined)


def loaded(source):
    """The names that cells use."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
