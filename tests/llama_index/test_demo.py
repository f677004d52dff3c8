"""`marengo demo --framework llama-index` prints the same hits as LangChain's."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from marengo_cli import demo


@pytest.fixture
def printed(marengo_bedrock, monkeypatch, capsys, tmp_path):
    """The questions and hits of a demo; both frameworks' on one stand-in, so that the second finds the first's job."""

    class Serving:
        def __init__(self, **options):
            pass

        def __enter__(self):
            return marengo_bedrock

        def __exit__(self, *_):
            pass

    # Encoders don't give the same bytes twice.
    demo.reel.build(tmp_path / "reel.mp4")
    monkeypatch.setattr(demo.marengo_local, "serve", Serving)
    monkeypatch.setattr(demo.reel, "build", lambda path: shutil.copy(tmp_path / "reel.mp4", path))

    def printed(framework, store=None):
        store = store or str(tmp_path / framework)
        assert demo.main(["--store", store, "--framework", framework]) == 0
        questions, _, place = capsys.readouterr().out.partition("Lowest score")
        assert "reel.mp4 00:00:24: a rocket on its launch pad" in place
        assert "USD" not in questions + place
        page = Path(place.partition("A page that plays what was found: ")[2].splitlines()[0])
        assert "a rocket standing on its launch pad" in page.read_text("utf-8")
        assert 'search --local "a dog" FOLDER' in place
        assert (store if store != "s3vectors" else "S3 Vectors") in place
        return questions[questions.index("?") :]

    return printed


def test_the_same_hits(marengo_bedrock, printed):
    expected = printed("langchain")
    assert expected.count("\n    ") == 15
    assert printed("llama-index") == expected
    assert printed("langchain", "s3vectors") == expected
    if find_spec("llama_index.vector_stores.s3"):
        assert printed("llama-index", "s3vectors") == expected
    assert marengo_bedrock.calls["StartAsyncInvoke"] == 1


def test_only_the_framework_asked_for_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "marengo_cli.demo_langchain", None)
    with pytest.raises(ImportError):
        demo.main(["--framework", "langchain"])


@pytest.mark.parametrize(("framework", "extra"), [("langchain", "demo"), ("llama-index", "demo,llama-index")])
@pytest.mark.parametrize("module", ["langchain_core", "langchain_chroma", "llama_index", "llama_index.core"])
def test_the_extra_of_a_framework_is_said(monkeypatch, capsys, framework, extra, module):
    if module.startswith("langchain") != (framework == "langchain"):
        return
    for name in list(sys.modules):
        if name.startswith(("marengo_cli.demo_", "langchain_marengo", "llama_index_marengo", f"{module}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--framework", framework])
    said = capsys.readouterr().err
    assert f"--framework {framework} needs {module}" in said
    assert f"pip install 'bedrock-marengo[{extra}]'" in said


@pytest.mark.parametrize(
    ("framework", "module", "package"),
    [
        ("langchain", "langchain_aws", "langchain-aws"),
        ("llama-index", "llama_index.vector_stores.s3", "llama-index-vector-stores-s3"),
    ],
)
def test_what_s3_vectors_needs_is_said(monkeypatch, capsys, framework, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit):
        demo.main(["--store", "s3vectors", "--framework", framework])
    assert f"needs {package}: pip install {package}" in capsys.readouterr().err
