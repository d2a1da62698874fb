"""What the machine could do: matrix products of the network's own shapes, and nothing else.

As a program it measures NumPy's: `python -m bench.ceiling TOKENS INPUTSxOUTPUTS...`. NumPy's library takes as many
threads as the environment says at its start, so another number of them needs another process.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from jobs.settings import PROJECT_ROOT
from ml.artifact import ModelFolder
from ml.backends import BFLOAT16, VNNI, processor_flags, suits_amx, suits_bytes
from ml.backends.own_cpu import AmxByteBackend

SECONDS = 0.25
"""A rate is the best of several measurements of at least so long."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Where the libraries that may stand behind NumPy look for the number of their threads."""


NEEDED: dict[str, frozenset[str]] = {
    "float32": frozenset(),
    "bfloat16": BFLOAT16,
    "int8": VNNI | {"amx_int8"},
}
"""The instructions of which a processor has one where it multiplies such numbers by itself."""


@dataclass(frozen=True)
class Shape:
    """An encoder in numbers."""

    layers: int
    hidden: int
    intermediate: int
    merge_after: tuple[int, ...] = ()

    @staticmethod
    def of(folder: ModelFolder) -> "Shape":
        layers, hidden, wide = (
            int(folder.config[name]) for name in ("num_hidden_layers", "hidden_size", "intermediate_size")
        )
        return Shape(layers, hidden, wide, folder.merge_after)

    @property
    def products(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the matrix products of one layer, query, key and value in one."""
        hidden, wide = self.hidden, self.intermediate
        return [(hidden, 3 * hidden), (hidden, hidden), (hidden, wide), (wide, hidden)]

    def operations(self, lengths: Sequence[int]) -> float:
        """Multiplications and additions of the encoder for texts of these lengths, padding not counted."""
        dense = 2 * sum(inputs * outputs for inputs, outputs in self.products)
        left, total = np.asarray(lengths, dtype=np.float64), 0.0
        for layer in range(self.layers):
            if layer in self.merge_after:
                left = np.ceil(left / 2)
            total += float((left * (dense + 4 * left * self.hidden)).sum())
        return total


def ceilings(shape: Shape, device: str, threads: int, tokens: int) -> dict[str, float]:
    """Operations a second of the dense products of a layer over `tokens` tokens, for each arithmetic of the device.

    What a processor does not multiply by itself is no ceiling: torch's detours are far below what others take.
    """
    import torch

    if device == "cpu":
        torch.set_num_threads(threads)
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None

    def product(bits: int) -> Callable[[int, int], Callable[[], object]]:
        return lambda i, o: _torch_product(tokens, i, o, device, bits)

    rates = {
        name: _rate(shape.products, tokens, product(bits), wait)
        for name, bits in (("float32", 32), ("bfloat16", 16), ("int8", 8))
        if device == "cuda" or not NEEDED[name] or NEEDED[name] & processor_flags()
    }
    whole = all(size % AmxByteBackend.multiple == 0 for product in shape.products for size in product)
    if device == "cpu" and whole and importlib.util.find_spec("numba"):
        # Apart from that of the library, by which machines can be compared.
        amx, in_bytes = suits_amx(processor_flags()), suits_bytes(processor_flags())
        for name, kind, suits in (
            ("bfloat16", "bfloat16", amx),
            ("int8", "int8 by AMX", amx and in_bytes),
            ("int8", "int8", in_bytes and not amx),
        ):
            if suits:
                rates[f"{name}, own kernel"] = by_own_kernel(kind, shape.products, threads, tokens)
    if device == "cpu":
        # The library behind torch is slow in float32 on processors of other makers; that behind NumPy is not.
        rates["float32"] = max(rates["float32"], by_numpy(shape.products, threads, tokens))
    return rates


def by_numpy(products: Sequence[tuple[int, int]], threads: int, tokens: int) -> float:
    """Operations a second of these products in float32 by NumPy, with so many threads."""
    command = [sys.executable, "-m", "bench.ceiling", str(tokens)]
    command += [f"{inputs}x{outputs}" for inputs, outputs in products]
    env = os.environ | dict.fromkeys(THREADS, str(threads))
    return float(subprocess.run(command, cwd=PROJECT_ROOT, env=env, check=True, stdout=subprocess.PIPE).stdout)


def by_own_kernel(kind: str, products: Sequence[tuple[int, int]], threads: int, tokens: int) -> float:
    """Operations a second of these products by our own kernel, `bfloat16` and `int8 by AMX` or `int8`, in each thread
    by itself; nothing is done with what comes out."""
    from bench.products import AmxByteProduct, AmxProduct, ByteProduct

    products_of: dict[str, Callable[[int, int, int], Callable[[], None]]] = {
        "bfloat16": AmxProduct,
        "int8 by AMX": AmxByteProduct,
        "int8": ByteProduct,
    }
    made = [[products_of[kind](tokens, inputs, outputs) for inputs, outputs in products] for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def together(number: int) -> Callable[[], object]:
            return lambda: list(pool.map(lambda mine: mine[number](), made))

        seconds = sum(_seconds(together(number), lambda: None) for number in range(len(products)))
    return threads * 2 * tokens * sum(inputs * outputs for inputs, outputs in products) / seconds


def main() -> None:
    """Measure the products that the command line names."""
    tokens = int(sys.argv[1])
    products = [(int(inputs), int(outputs)) for inputs, outputs in (one.split("x") for one in sys.argv[2:])]
    print(_rate(products, tokens, lambda inputs, outputs: _numpy_product(tokens, inputs, outputs)))


def _rate(
    products: Sequence[tuple[int, int]],
    tokens: int,
    product: Callable[[int, int], Callable[[], object]],
    wait: Callable[[], None] = lambda: None,
) -> float:
    seconds = sum(_seconds(product(inputs, outputs), wait) for inputs, outputs in products)
    return 2 * tokens * sum(inputs * outputs for inputs, outputs in products) / seconds


def _seconds(step: Callable[[], object], wait: Callable[[], None]) -> float:
    step()
    wait()
    best = float("inf")
    for _ in range(3):
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            # Many before each wait, so that a GPU does not stand still while the next is launched.
            for _ in range(10):
                step()
            wait()
            count += 10
        best = min(best, (time.perf_counter() - started) / count)
    return best


def _torch_product(tokens: int, inputs: int, outputs: int, device: str, bits: int) -> Callable[[], object]:
    import torch

    if bits == 8:
        whole = torch.randint(-127, 127, (tokens, inputs), dtype=torch.int8, device=device)
        other = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8, device=device).t()
        if device == "cpu":
            other = other.contiguous()
        return lambda: torch._int_mm(whole, other)
    kind = torch.float32 if bits == 32 else torch.bfloat16
    states = torch.randn(tokens, inputs, dtype=kind, device=device)
    weight = torch.randn(outputs, inputs, dtype=kind, device=device)
    return lambda: torch.nn.functional.linear(states, weight)


def _numpy_product(tokens: int, inputs: int, outputs: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    states = rng.standard_normal((tokens, inputs), dtype=np.float32)
    weight = rng.standard_normal((inputs, outputs), dtype=np.float32)
    return lambda: states @ weight


if __name__ == "__main__":
    main()
