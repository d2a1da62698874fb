"""Copies to a device that lags behind as far as it may: what is not waited for has not happened.

What stands for a GPU here runs nothing before somebody waits, and then no more than is waited for, so that a buffer
that is filled too early brings wrong numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the train extra")

from ml import staging  # noqa: E402

DEVICE = SimpleNamespace(type="cuda")


class Stream:
    """What a device has to do, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.work: list[Callable[[], None]] = []

    def finish(self) -> None:
        while self.work:
            self.work.pop(0)()

    def wait_event(self, event: "Event") -> None:
        event.card.told.append(f"{self.name} waits")
        mark = event.mark
        self.work.append(lambda: event.reached(mark))


class Event:
    """A place in the work of a stream, where `mark` is set; None before it is recorded."""

    def __init__(self, card: "Card") -> None:
        self.card = card
        self.mark: list[bool] | None = None
        self.stream: Stream | None = None

    def record(self, stream: Stream) -> None:
        mark = [False]
        self.mark, self.stream = mark, stream
        stream.work.append(lambda: mark.__setitem__(0, True))

    def reached(self, mark: list[bool] | None) -> None:
        while mark is not None and not mark[0]:
            assert self.stream is not None
            self.stream.work.pop(0)()

    def synchronize(self) -> None:
        self.card.told.append("the host waits")
        self.reached(self.mark)


class Array:
    """A tensor, on the host or on the device. Copies that are not to be waited for are made when the stream comes to
    them, from what then stands in the buffer."""

    def __init__(self, card: "Card", values: Any, *, pinned: bool = False) -> None:
        self.card = card
        self.values = values
        self.pinned = pinned
        self.shape, self.dtype = values.shape, values.dtype
        self.read_by: list[Stream] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, some: slice) -> "Array":
        return Array(self.card, self.values[some], pinned=self.pinned)

    def copy_(self, other: "Array", *, non_blocking: bool = False) -> None:
        if not non_blocking:
            assert self.pinned
            self.card.told.append("filled")
            self.values[:] = other.values
            return
        assert self.pinned, "a copy to memory that is not pinned makes the host wait"
        self.card.current.work.append(lambda: self.values.__setitem__(slice(None), other.values))

    def to(self, device: Any, *, non_blocking: bool) -> "Array":
        assert device is DEVICE
        assert self.pinned
        assert non_blocking
        sent = Array(self.card, np.full_like(self.values, -1))
        self.card.current.work.append(lambda: sent.values.__setitem__(slice(None), self.values))
        return sent

    def record_stream(self, stream: Stream) -> None:
        self.read_by.append(stream)

    def numpy(self) -> Any:
        return self.values


class Card:
    """Stands for torch, as far as `ml.staging` uses it; `told` is what was asked of it, in order."""

    int32 = np.int32

    def __init__(self) -> None:
        self.told: list[str] = []
        self.computing = self.current = Stream("the network")
        self.streams: list[Stream] = []
        self.cuda = SimpleNamespace(
            Stream=self._new_stream,
            Event=lambda: Event(self),
            current_stream=lambda _: self.current,
            stream=self._on,
        )

    def empty(self, shape: Any, dtype: Any, pin_memory: bool = False) -> Array:
        return Array(self, np.full(shape, -7, dtype=dtype), pinned=pin_memory)

    def from_numpy(self, values: Any) -> Array:
        return Array(self, values)

    def _new_stream(self, device: Any) -> Stream:
        assert device is DEVICE
        self.streams.append(Stream("the copies"))
        return self.streams[-1]

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card()
    monkeypatch.setattr(staging, "torch", made)
    return made


def numbers(batch: int) -> Any:
    """Batches differ in length, some by so much that a buffer has to grow."""
    return np.arange(batch * 100, batch * 100 + 3 + (batch % 5) ** 2, dtype=np.int32)


def test_every_batch_arrives_as_it_was_however_late_the_device_is(card: Card) -> None:
    stage = staging.Staging(DEVICE)
    # Held by the test, as a network that lags behind would.
    sent = [stage.send(numbers(batch)) for batch in range(4 * staging.SLOTS)]
    assert any((one.values == -1).all() for one in sent), "else the device would not have lagged behind"
    card.computing.finish()
    for batch, one in enumerate(sent):
        np.testing.assert_array_equal(one.values, numbers(batch))


def test_a_slot_is_filled_when_its_numbers_have_left_it_and_the_network_waits_for_them(card: Card) -> None:
    stage = staging.Staging(DEVICE)
    sent = [stage.send(numbers(batch)) for batch in range(staging.SLOTS + 1)]
    assert card.told == ["the host waits", "filled", "the network waits"] * (staging.SLOTS + 1)
    # Copies have a stream of their own, and none of their memory is given away while the network still reads it.
    [copies] = card.streams
    assert copies is not card.computing
    assert [one.read_by for one in sent] == [[card.computing]] * len(sent)
    assert card.current is card.computing


def test_what_comes_back_is_there_when_it_was_waited_for(card: Card) -> None:
    stage = staging.Staging(DEVICE)
    waits = [stage.fetch(Array(card, np.full((2, 6), batch, dtype=np.float32))) for batch in range(3)]
    assert len(card.computing.work) == 6
    for batch, wait in enumerate(waits):
        np.testing.assert_array_equal(wait(), np.full((2, 6), batch))
        assert len(card.computing.work) == 6 - 2 * (batch + 1), "no longer than for its own"
