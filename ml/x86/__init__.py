"""BERT on a CPU, in 8 bits or, with AMX, in bfloat16: our own kernels, compiled where they run.

`emit` gives Numba instructions of the processor, of which `vectors`, `tiles` (AMX) and `dots` (VNNI, AVX2) are made.
`steps`, `amx_kernels`, `byte_kernels` and `amx_byte_kernels` compute the network over packed texts, without padding;
`network`, `amx_network` and `byte_network` lay the weights out for them. `ml.backends.own_cpu` makes backends of it.
`unigram` cuts texts into tokens.
"""

import hashlib
import shutil
from pathlib import Path

kept: Path | None = None
"""Where compiled code lies between starts."""


def keep_in(folder: Path) -> None:
    """Let what is compiled lie in `folder`, for the next start; said before the kernels are imported. Whoever may write
    there may run code.

    The first folder counts for the whole process. Numba looks whether the file of a function has changed, and not at
    the files of those that it calls; and it numbers what processors compile that share a folder. Hence a folder for
    each state of all files and each kind of processor.
    """
    global kept
    if kept is not None:
        return
    import llvmlite.binding
    import numba
    from numba.core.codegen import get_host_cpu_features

    from ml.backends import tiles_are_allowed

    told = [numba.__version__, llvmlite.binding.get_host_cpu_name(), get_host_cpu_features()]
    told += [str(numba.config.CPU_NAME), str(numba.config.CPU_FEATURES), str(tiles_are_allowed())]
    digest = hashlib.sha256("\n".join(told).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    kept = folder / f"kernels-{digest.hexdigest()[:16]}"
    numba.config.CACHE_DIR = str(kept)
    # Else Numba would look beside the sources and in the home of the user, where nothing tells old code from new.
    numba.config.CACHE_LOCATOR_CLASSES = "UserProvidedCacheLocator"


def forget() -> None:
    """Remove what is kept, for it cannot be read."""
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
