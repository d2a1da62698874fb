"""Between which numbers the inputs of a network's matrix products lie: what fixed ranges of 8 bits are made of.

A product of 8-bit integers is fastest where the range of its input is known beforehand (static quantisation: Wu et al.
2020, arXiv:2004.09602). In a BERT one or two channels of some inputs are ten times as large as all others, and a range
that holds them leaves the others a handful of steps. Such a channel is divided by a power of two, and its column of the
weights multiplied by it (SmoothQuant: Xiao et al. 2022, arXiv:2211.10438, for the outliers alone): the product is the
same. A row of weights whose largest number does not grow keeps exactly the numbers that are stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.errors import ModelError

Floats = npt.NDArray[np.float32]

FORMAT = 1

ORDINARY = 1 / 64
"""The share of channels that may be outliers: what exceeds the largest of the others is divided."""

LEAST_SAME = 0.99
MOST_LOST = 0.003
"""The share of assigned topics that must be as in float32, and the macro-F1 that may be lost, for `auto` to take it."""


@dataclass(frozen=True)
class Range:
    """The input of a product.

    Attributes:
        low, high: between them all numbers lie, those of divided channels after division; `low` <= 0 <= `high`.
        divided: by what a channel is divided, where not by 1.
    """

    low: float
    high: float
    divided: Mapping[int, float]

    @property
    def step(self) -> float:
        """What two neighbours among the 256 numbers differ by."""
        return (self.high - self.low) / 255 or 1.0

    @property
    def zero(self) -> int:
        """Which of the 256 numbers stands for 0."""
        return round(-self.low / self.step)

    def divisors(self, channels: int) -> Floats:
        """Return by what each channel is divided, float32 (channels,)."""
        result = np.ones(channels, dtype=np.float32)
        for channel, divisor in self.divided.items():
            result[channel] = divisor
        return result


@dataclass(frozen=True)
class Agreement:
    """How a network with fixed ranges compares with the same in float32, on posts that the ranges were not measured on.

    Attributes:
        posts: number of posts.
        same: share of the assignments of topics that are equal.
        macro_f1_change: macro-F1 less that of float32, at the thresholds of the model.
    """

    posts: int
    same: float
    macro_f1_change: float

    @property
    def suffices(self) -> bool:
        """Whether it is good enough to be taken unasked."""
        return self.same >= LEAST_SAME and self.macro_f1_change >= -MOST_LOST


@dataclass(frozen=True)
class Ranges:
    """The ranges of a network.

    Attributes:
        inputs: by product; query, key and value share one.
        texts: number of texts that they were measured on.
        agreement: None: not yet measured.
    """

    inputs: Mapping[str, Range]
    texts: int
    agreement: Agreement | None = None

    @property
    def agree(self) -> bool:
        """Whether the network was measured with them and is good enough to be taken unasked."""
        return self.agreement is not None and self.agreement.suffices

    def of(self, place: str, channels: int) -> Range:
        """Return the range of the input of a product that has so many channels.

        Raises:
            ModelError: there is none, or one for an input of another size.
        """
        found = self.inputs.get(place)
        if found is None or not all(0 <= channel < channels for channel in found.divided):
            raise ModelError(f"The ranges do not fit the network: they say nothing of {place}, or of other channels.")
        return found

    def content(self) -> dict[str, Any]:
        """Return what `ranges.json` says."""
        return {
            "format": FORMAT,
            "texts": self.texts,
            "agreement": self.agreement and vars(self.agreement),
            "inputs": {
                name: {"low": one.low, "high": one.high, "divided": {str(c): by for c, by in one.divided.items()}}
                for name, one in self.inputs.items()
            },
        }


def holding(low: Floats, high: Floats) -> Range:
    """Return the range of an input from the least and the largest number of each channel, float32 (channels,)."""
    largest = np.maximum(np.abs(low), np.abs(high))
    ordinary = np.sort(largest)[::-1][max(1, round(len(largest) * ORDINARY))]
    # A power of two, so that weights stay what they were wherever they have room.
    by = 2.0 ** np.ceil(np.log2(np.maximum(largest / max(float(ordinary), 1e-6), 1.0)))
    return Range(
        low=round(min(0.0, float((low / by).min())), 6),
        high=round(max(0.0, float((high / by).max())), 6),
        divided={int(channel): float(by[channel]) for channel in np.flatnonzero(by > 1)},
    )


def ranges_of(content: Mapping[str, Any]) -> Ranges | None:
    """Return the ranges that `ranges.json` holds; None where a later version of Rubrika wrote them.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    if content["format"] != FORMAT:
        return None
    inputs = {}
    for name, one in content["inputs"].items():
        divided = {int(channel): float(by) for channel, by in one["divided"].items()}
        inputs[str(name)] = Range(float(one["low"]), float(one["high"]), divided)
        numbers = [inputs[name].low, inputs[name].high, *divided.values()]
        if not (
            np.isfinite(numbers).all() and inputs[name].low <= 0 <= inputs[name].high and min(numbers[2:] or [1]) > 0
        ):
            raise ValueError(f"the range of {name} is none")
    told = content["agreement"]
    agreement = told and Agreement(int(told["posts"]), float(told["same"]), float(told["macro_f1_change"]))
    return Ranges(inputs, int(content["texts"]), agreement or None)
