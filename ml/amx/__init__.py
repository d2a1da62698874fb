"""BERT on a CPU with AMX, in bfloat16: our own kernels, compiled on the machine that they run on.

`vectors` and `tiles` give Numba the processor's vectors and tiles; `kernels` are the steps of the network over packed
texts, without padding; `network` lays the weights out for them. `ml.backends.amx_cpu` makes a backend of it.
"""

import hashlib
from pathlib import Path


def keep_in(folder: Path) -> None:
    """Let what is compiled from now on lie in `folder`, for the next start. Whoever may write there may run code.

    Numba looks whether the file of a function has changed, and not the files of those that it calls: hence a folder for
    each state of all of them.
    """
    import numba

    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    numba.config.CACHE_DIR = str(folder / f"kernels-{digest.hexdigest()[:16]}")
