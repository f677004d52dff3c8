"""`marengo search` without a query: a prompt in a terminal, an error without one."""

import shutil
from pathlib import Path

import pytest

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(REEL / "cat.jpg", tmp_path)
    return tmp_path


def test_queries_are_typed_until_an_empty_line(in_terminal, folder):
    process, said = in_terminal("search", "--local", folder, answer="a cat\na photo of a cat\n\n", question=b"search> ")
    assert process.returncode == 0
    assert said.count("cat.jpg ") == 2
    assert "Traceback" not in said


def test_ctrl_d_ends_and_a_mistake_does_not(in_terminal, folder):
    words = ("search", "--local", "-i", folder, folder)
    process, said = in_terminal(*words, answer="word " * 600 + "\na cat\n\x04", question=b"search> ")
    assert process.returncode == 0
    assert "cat.jpg " in said


def test_a_wrong_setting_is_refused_before_anything_is_embedded(in_terminal, folder):
    process, said = in_terminal("search", "--local", folder, "--weights", "smell", answer="", question=b"search> ")
    assert process.returncode == 2
    assert "--weights smell" in said and "search> " not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is no query and no source"),
        (["{folder}"], "no terminal to ask for one. Pass it first: marengo search 'a dog'"),
        (["s3://bucket/videos/"], "no terminal to ask for one"),
        (["-i"], "--interactive: there are no sources"),
        (["-i", "a dog", "{folder}", "--image", "{folder}/cat.jpg"], "--interactive asks for texts"),
        (["a dog"], "Pass sources after the query"),
    ],
)
def test_what_is_missing_is_said(marengo, folder, words, said):
    result = marengo("search", *(word.replace("{folder}", str(folder)) for word in words))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_place_without_media_is_not_asked_about(in_terminal, tmp_path):
    process, said = in_terminal("search", "--local", tmp_path, answer="", question=b"search> ")
    assert process.returncode == 1
    assert "No media found in" in said and "search> " not in said


def test_a_wait_says_what_for(in_terminal, folder):
    _, said = in_terminal("search", "--local", "a cat", folder, "--html", folder / "out.html", answer="")
    assert said.index("Starting the stand-in") < said.index("Writing the page") < said.index("cat.jpg")
