"""Texts: any string gives one unit vector, always the same."""

import subprocess
import sys

import numpy as np
import pytest

from marengo_local.content import ContentModel
from marengo_local.content.space import NAMED
from marengo_local.content.text import attributes

AWKWARD = {
    "empty": "",
    "blank": " \n\t",
    "emoji": "🐶🚀",
    "chinese": "海边的一只狗",
    "arabic": "كلب على الشاطئ",
    "accents": "un café très noir",
    "lone surrogate": "a \ud83d dog",
    "null": "\x00",
    "only little words": "to be or not to be",
    "one word of a megabyte": "x" * 1_000_000,
    "a megabyte of words": "dog beach " * 100_000,
}


@pytest.mark.parametrize("dimension", [512, 1024])
@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_any_string_is_a_unit_vector(dimension, text):
    vector = ContentModel(dimension).text(text)
    assert vector.shape == (dimension,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_different_strings_are_different_vectors():
    vectors = np.stack([ContentModel(512).text(text) for text in AWKWARD.values()])
    cosines = vectors @ vectors.T - np.eye(len(AWKWARD))
    assert cosines.max() < 0.999


def test_another_process_agrees_to_the_bit():
    texts = ["a dog on a beach", "海边的一只狗", ""]
    code = (
        "import sys; from marengo_local.content import ContentModel; "
        f"[sys.stdout.buffer.write(ContentModel(512).text(t).tobytes()) for t in {texts!r}]"
    )
    there = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, check=True).stdout
    assert there == b"".join(ContentModel(512).text(text).tobytes() for text in texts)


def test_texts_that_mean_the_same_are_near():
    model = ContentModel(512)
    dog = model.text("a dog running on the beach")
    assert dog @ model.text("a puppy at the seaside") > dog @ model.text("quarterly tax report") + 0.2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a black and white film", ["monochrome"]),
        ("a street in black and white", ["monochrome"]),
        ("black-and-white photos", ["monochrome"]),
        ("a black and white cow", ["black", "white"]),
        ("stars at night", ["dark"]),
    ],
)
def test_the_looks_a_text_names(text, named):
    found = attributes(text)
    assert {name for name, place in NAMED.items() if found[place]} == set(named)


@pytest.mark.parametrize("filler", ["a {}", "the {}s", "here is a {}", "{} in it"])
def test_little_words_change_little(filler):
    model = ContentModel(512)
    assert model.text("guitar") @ model.text(filler.format("guitar")) > 0.7


def test_only_two_dimensions_exist():
    with pytest.raises(ValueError, match="512"):
        ContentModel(768)
