"""Reduce MiniLM to a table of word pieces, whose mean is near MiniLM's vector of a text about what is seen.

Texts are split into pieces, and stop words left out, as in `marengo_local.content.text`.
"""

import random
import re

import numpy as np
from scipy import sparse

WIDTH = 128
SENTENCES = 60_000
# How far the table may move away from MiniLM's vectors of single pieces.
RIDGE = 0.3
STEPS = 40
COMMON_WORDS = 9000
# Class vectors count this much more than a phrase when the 128 directions are chosen.
CLASS_WEIGHT = 20
WORDS = {
    name: words.split()
    for name, words in {
        "stop": "a an the of in on at to and or is are be by with for it its this that as from we you i he she they "
        "our your my has have had was were will not no so up out",
        "people": "man woman boy girl child baby person people crowd couple family player worker farmer soldier "
        "musician teacher tourist friends men women children kids",
        "actions": "riding playing holding eating drinking walking running standing sitting sleeping driving talking "
        "swimming cooking reading wearing carrying jumping looking watching flying working cutting throwing kicking "
        "singing dancing smiling waiting climbing",
        "looks": "red blue green yellow white black brown orange pink purple grey old young small big tall tiny huge "
        "wooden empty dark bright colorful beautiful happy modern ancient busy quiet wild wet dry hot cold round long "
        "short striped furry fresh",
        "places": "street road city town village house room kitchen bedroom office garden park forest tree trees grass "
        "field beach sea ocean river lake mountain desert snow sky clouds sun night sunset table floor wall window "
        "bridge station shop market restaurant school church stage stadium airport harbor farm",
    }.items()
}
STOP_WORDS, PEOPLE, PLACES = frozenset(WORDS["stop"]), WORDS["people"], WORDS["places"]
POSITIONS = (
    *("in", "on", "near", "under", "above", "behind", "beside", "with"),
    *("next to", "in front of", "through", "across", "over", "by"),
)
DETERMINERS = "a ", "the ", "a ", "", "two ", "some "
# (weight, pattern): "noun" is a class, one of its words, a place, a person or a common word.
PATTERNS = (
    (12, "$common $common"),
    (13, "$noun"),
    (25, "$noun $where $noun"),
    (10, "$person $doing $noun"),
    (10, "$person $doing $where $noun"),
    (15, "$noun $doing $where $noun"),
    (8, "$noun and $noun $where the $place"),
    (7, "$noun with $noun $where the $place"),
)


class Sentences:
    """Draws plain English descriptions of scenes, the same ones each time."""

    def __init__(self, labels, phrases, common):
        self._draw = random.Random(5)
        self._nouns = (labels, phrases, PLACES, PEOPLE, common)
        self._common = common

    def draw(self):
        (pattern,) = self._draw.choices([p for _, p in PATTERNS], [w for w, _ in PATTERNS])
        return re.sub(r"\$(\w+)", lambda found: getattr(self, found[1])(), pattern)

    def noun(self):
        (words,) = self._draw.choices(self._nouns, (30, 25, 15, 10, 20))
        return self._described(self._draw.choice(words))

    def person(self):
        return self._described(self._draw.choice(PEOPLE))

    def common(self):
        return self._draw.choice(self._common)

    def doing(self):
        return self._draw.choice(WORDS["actions"])

    def where(self):
        return self._draw.choice(POSITIONS)

    def place(self):
        return self._draw.choice(PLACES)

    def _described(self, word):
        look = f"{self._draw.choice(WORDS['looks'])} " if self._draw.random() < 0.35 else ""
        return self._draw.choice(DETERMINERS) + look + word


def text_table(labels, words_of_classes, kept, pieces_of, embed):
    """The table (pieces, 128) and the class vectors (classes, 128).

    `embed(texts)` is MiniLM, and `pieces_of(text)` the places in `kept` that a text is split into.
    """
    plain = [label.split(" (")[0].lower() for label in labels]
    phrases = sorted({phrase for words in words_of_classes for phrase in words})
    common = [p for p in kept if p.isalpha() and len(p) > 2 and p not in STOP_WORDS][:COMMON_WORDS]
    sentences = Sentences(plain, phrases, common)
    known = [*plain, *phrases, *(f"a {label}" for label in plain), *(f"{label}s" for label in plain), *common]
    texts = [*known, *(sentences.draw() for _ in range(SENTENCES))]
    middle = unit(embed(labels)).mean(0)
    targets = unit(unit(embed(texts)) - middle)
    classes = unit(embed([", ".join([label, *words]) for label, words in zip(labels, words_of_classes, strict=True)]))
    classes = unit(classes - classes.mean(0))
    told_apart = np.concatenate([classes * np.sqrt(CLASS_WEIGHT), targets[: len(known)]])
    basis = np.linalg.svd(told_apart, full_matrices=False)[2][:WIDTH].T
    alone = unit(unit(embed(kept)) - middle) @ basis
    return fitted(alone, [pieces_of(text) for text in texts], targets @ basis), unit(classes @ basis)


def fitted(table, texts, targets):
    """Move the table so that the mean of each text's pieces is near its target, by ridge regression."""
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    shares = np.concatenate([np.full(len(text), 1 / len(text)) for text in texts])
    places = np.concatenate([np.array(text, np.intp) for text in texts])
    means = sparse.csr_matrix((shares, (rows, places)), shape=(len(texts), len(table)))
    moved = np.zeros_like(table)
    residual = means.T @ (targets - means @ table)
    direction, size = residual.copy(), (residual**2).sum(0)
    for _ in range(STEPS):
        applied = means.T @ (means @ direction) + RIDGE * direction
        step = size / np.maximum((direction * applied).sum(0), 1e-12)
        moved += step * direction
        residual -= step * applied
        size, before = (residual**2).sum(0), size
        direction = residual + size / np.maximum(before, 1e-12) * direction
    return table + moved


def content_words(text):
    """The words of a text that its mean is taken of."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [word for word in words if word not in STOP_WORDS] or words


def unit(vectors):
    """Normalize the rows."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
