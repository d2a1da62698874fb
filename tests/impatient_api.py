"""An API that waits for slow clients as long as the real one in kind, and seconds in measure.

Run as a module it is `rubrika api` with these times, for tests of what happens when they are over.
"""

import sys

TIMES = {
    "api.server": {"HEADER_SECONDS": 2, "UNREAD_SECONDS": 2},
    "api.body": {"BLOCK_SECONDS": 3},
}


def main() -> None:
    from importlib import import_module

    from cli.main import main as rubrika

    for name, times in TIMES.items():
        module = import_module(name)
        for constant, seconds in times.items():
            assert getattr(module, constant) > seconds
            setattr(module, constant, seconds)
    rubrika(["api", *sys.argv[1:]])


if __name__ == "__main__":
    main()
