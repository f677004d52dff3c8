"""`marengo demo --framework llama-index` prints the same hits as LangChain's."""

import shutil
import sys

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

    def printed(framework):
        assert demo.main(["--store", str(tmp_path / framework), "--framework", framework]) == 0
        text = capsys.readouterr().out
        assert str(tmp_path / framework) in text
        return text[text.index("?") : text.index("The store is in")]

    return printed


def test_the_same_hits(marengo_bedrock, printed):
    expected = printed("langchain")
    assert expected.count("\n    ") == 15
    assert printed("llama-index") == expected
    assert marengo_bedrock.calls["StartAsyncInvoke"] == 1


def test_only_the_framework_asked_for_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "marengo_cli.demo_langchain", None)
    with pytest.raises(ImportError):
        demo.main(["--framework", "langchain"])
