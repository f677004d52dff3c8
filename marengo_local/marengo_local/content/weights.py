"""The model's weights, read once at first use."""

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt


@cache
def weights() -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of weights.npz by name; `scripts/build_weights.py` describes them."""
    with files(__package__).joinpath("weights.npz").open("rb") as file, np.load(file) as arrays:
        return dict(arrays)


def lines(name: str) -> list[str]:
    """A word list, stored as the UTF-8 bytes of its lines."""
    return weights()[name].tobytes().decode().split("\n")


def matrix(name: str) -> npt.NDArray[np.float32]:
    """An int8 matrix converted to float32, with one scale per element of its last axis."""
    values: npt.NDArray[np.float32] = weights()[f"{name}.q"].astype(np.float32)
    return values * weights()[f"{name}.s"].astype(np.float32)


def bias(name: str) -> npt.NDArray[np.float32]:
    """The float32 bias for `matrix(name)`."""
    return weights()[f"{name}.b"].astype(np.float32)
