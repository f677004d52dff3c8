"""EfficientNet-Lite0 in numpy: int8 weights, float32 arithmetic, single core."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from marengo_local.content.space import Array
from marengo_local.content.weights import bias, matrix

SIDE_PX: Final = 224
FEATURES: Final = 1280
# (repeats, stride of the first block, whether blocks expand their channels) of each stage.
STAGES: Final = (
    (1, 1, False),
    (2, 2, True),
    (2, 2, True),
    (3, 2, True),
    (3, 1, True),
    (4, 2, True),
    (1, 1, True),
)


def classify(picture: Array) -> tuple[Array, Array]:
    """Classify an RGB image (224, 224, 3), 0 to 255: ImageNet class probabilities (1000,) and features (1280,)."""
    x = _stem((picture - np.float32(127)) / np.float32(128), *_layer("e.stem"))
    for block in _blocks():
        x = _apply(block, x)
    features = _relu6(_pointwise(x, *_layer("e.head"))).mean((0, 1))
    weight, offset = _layer("e.fc")
    logits = features @ weight + offset
    odds = np.exp(logits - logits.max())
    return odds / odds.sum(), features


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    stride: int
    expands: bool


@cache
def _blocks() -> list[_Block]:
    plan = [(stride if repeat == 0 else 1, expands) for repeats, stride, expands in STAGES for repeat in range(repeats)]
    return [_Block(f"e.{place}", stride, expands) for place, (stride, expands) in enumerate(plan)]


@cache
def _layer(name: str) -> tuple[Array, Array]:
    return np.ascontiguousarray(matrix(name)), bias(name)


def _apply(block: _Block, x: Array) -> Array:
    wide = _relu6(_pointwise(x, *_layer(f"{block.name}.ex"))) if block.expands else x
    filtered = _relu6(_depthwise(wide, *_layer(f"{block.name}.dw"), block.stride))
    y = _pointwise(filtered, *_layer(f"{block.name}.pr"))
    return x + y if block.stride == 1 and x.shape == y.shape else y


def _pointwise(x: Array, weight: Array, offset: Array) -> Array:
    """A 1 x 1 convolution."""
    y = x.reshape(-1, x.shape[-1]) @ weight
    y += offset
    return y.reshape(*x.shape[:2], -1)


def _stem(x: Array, weight: Array, offset: Array) -> Array:
    """The first 3 x 3 convolution, stride 2, as one matrix product."""
    high, wide = -(-x.shape[0] // 2), -(-x.shape[1] // 2)
    x = _padded(x, 3, 2)
    taps = [x[i : i + 2 * high - 1 : 2, j : j + 2 * wide - 1 : 2] for i in range(3) for j in range(3)]
    return _relu6((np.concatenate(taps, -1).reshape(high * wide, -1) @ weight + offset).reshape(high, wide, -1))


def _depthwise(x: Array, weight: Array, offset: Array, stride: int) -> Array:
    size = weight.shape[0]
    high, wide = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
    x = _padded(x, size, stride)
    y = np.empty((high, wide, x.shape[-1]), np.float32)
    y[:] = offset
    tap = np.empty_like(y)
    for i in range(size):
        for j in range(size):
            window = x[i : i + (high - 1) * stride + 1 : stride, j : j + (wide - 1) * stride + 1 : stride]
            np.multiply(window, weight[i, j], out=tap)
            y += tap
    return y


def _padded(x: Array, size: int, stride: int) -> Array:
    """TensorFlow's "same" padding, with the odd pixel at the end."""

    def around(length: int) -> tuple[int, int]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        return total // 2, total - total // 2

    return np.pad(x, (around(x.shape[0]), around(x.shape[1]), (0, 0)))


def _relu6(x: Array) -> Array:
    return np.clip(x, 0, 6, out=x)
