"""The scales of the soak: what counts as growing is told from what does not."""

import subprocess
import sys
from random import Random

from tests.e2e.soak.memory import Sample, trend
from tests.e2e.soak.scales import private

MINUTE = 60.0


def series(minutes: float, start: float, per_hour: float, noise: float = 2e6, seed: int = 1) -> list[Sample]:
    dice = Random(seed)
    times = [2.0 * n for n in range(int(minutes * 30))]
    return [(t, start + per_hour * t / 3600 + dice.gauss(0, noise)) for t in times]


def test_a_leak_is_found_through_noise() -> None:
    found = trend("leaks", series(60, 150e6, per_hour=30e6), warm_up=10 * MINUTE)
    assert found is not None
    assert found.grows
    assert 20e6 < found.growth < 30e6


def test_noise_steps_back_and_a_slow_start_are_no_leak() -> None:
    assert not trend("noise", series(60, 150e6, per_hour=0, noise=10e6), 10 * MINUTE).grows  # type: ignore[union-attr]
    assert not trend("shrinks", series(60, 150e6, per_hour=-50e6), 10 * MINUTE).grows  # type: ignore[union-attr]
    warming = [(t, size + min(t, 300) * 1e6) for t, size in series(60, 150e6, per_hour=0)]
    assert not trend("warms up", warming, 10 * MINUTE).grows  # type: ignore[union-attr]
    # A third of the time something large is held, and given back.
    peaks = [(t, size + (100e6 if t % 900 < 280 else 0)) for t, size in series(60, 150e6, per_hour=0)]
    assert not trend("peaks", peaks, 10 * MINUTE).grows  # type: ignore[union-attr]


def test_caches_that_are_dropped_now_and_then_are_no_leak() -> None:
    # As the connections of Postgres: each time they are dropped a little later, so that the middle rises.
    sawtooth = [(t, size + (t % (300 + t / 8)) * 1e5) for t, size in series(60, 60e6, per_hour=0, noise=1e6)]
    found = trend("sawtooth", sawtooth, 0)
    assert found is not None
    assert found.growth > 10e6
    assert not found.grows


def test_a_leak_below_what_is_allowed_is_no_failure_and_one_above_is() -> None:
    for per_hour, grows in ((4e6, False), (16e6, True)):
        found = trend("one", series(60, 150e6, per_hour, noise=1e6), 0)
        assert found is not None
        assert found.grows is grows, found


def test_a_process_that_was_there_for_a_moment_has_no_trend() -> None:
    assert trend("short", series(0.3, 150e6, per_hour=1e9), 0) is None
    assert trend("gone", series(5, 150e6, per_hour=1e9), 10 * MINUTE) is None


def test_shared_memory_that_one_process_alone_has_touched_is_not_its_own() -> None:
    holder = """
import mmap, sys
pages, own = 64 << 20, bytearray(32 << 20)
shared = mmap.mmap(-1, pages)
print(flush=True)
sys.stdin.readline()
for place in range(0, pages, 4096):
    shared[place] = 1
own.extend(bytes(32 << 20))
print(flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = private("it", process.pid)["it"]
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        grown = private("it", process.pid)["it"] - before
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert 30e6 < grown < 50e6
