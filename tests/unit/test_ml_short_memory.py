"""What happens where memory is short: batches in parts that fit, nothing kept of what did not, and a process that ends
rather than hold it against a text."""

import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from jobs.settings import PROJECT_ROOT
from ml import artifact, running
from ml.backends import Pending, at_once
from ml.batches import Batching, Ids
from ml.classifier import Classifier
from ml.errors import DeviceLostError, MemoryShortError
from ml.posts import Post
from ml.running import SMALLEST_BUDGET, Runner
from tests.tiny_model import TEXTS, make_tiny_model
from tests.unit.test_ml_packed import backend_of, logits_of, texts_of

torch = pytest.importorskip("torch", reason="torch comes with the train extra")

POSTS = [Post(" ".join(TEXTS[:count])) for count in range(1, 7)] * 2 + [Post("кот"), Post("мама")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> artifact.ModelFolder:
    return artifact.read(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


class Held:
    """Stands for the memory that a forward pass takes; `alive` are those that somebody still holds."""

    alive: ClassVar["weakref.WeakSet[Held]"] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


def forward_with_room(forward: Callable[..., Any], room: int, error: Callable[[], Exception]) -> Callable[..., Any]:
    """A forward pass with memory for so many tokens, which checks that nothing is left of the one before it."""

    def limited(numbers: Any, batch: Any) -> Any:
        assert not len(Held.alive), "what was interrupted still holds its memory"
        held = Held()
        if batch.tokens > room:
            raise error()
        out = forward(numbers, batch)
        del held
        return out

    return limited


def no_room() -> Exception:
    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return error


@pytest.mark.parametrize(
    "error", [no_room, MemoryError, lambda: RuntimeError("another reason")], ids=["device", "host", "other"]
)
def test_nothing_of_a_batch_that_failed_is_held_when_its_parts_are_computed(
    tiny: artifact.ModelFolder, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    backend = backend_of(tiny)
    classifier = Classifier(tiny, backend)
    whole = classifier.predict(POSTS).probabilities
    monkeypatch.setattr(backend._net, "forward", forward_with_room(backend._net.forward, 40, error))
    predictions = classifier.predict(POSTS)
    assert not predictions.failures
    np.testing.assert_allclose(predictions.probabilities, whole, atol=1e-5)


def test_memory_is_given_back_to_the_device_when_nothing_holds_it_any_more(
    tiny: artifact.ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(tiny)
    held: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(len(Held.alive)))
    monkeypatch.setattr(backend._net, "forward", forward_with_room(backend._net.forward, 40, no_room))
    # It computes on the CPU still, and believes that it does not.
    monkeypatch.setattr(backend, "_device", SimpleNamespace(type="cuda"))
    texts = texts_of((30, 20), 40)
    with pytest.raises(MemoryShortError, match="out of memory") as short:
        backend.start(texts)
    assert held == [0]
    assert short.value.__context__ is None
    assert logits_of(backend, texts[:1]).shape == (1, 6)


class Roomy:
    """Has memory for `room` tokens, less those of batches that are in flight."""

    description = "roomy"
    batching = Batching(2000, in_flight=2)

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = 0

    def start(self, texts: Sequence[Ids]) -> Pending:
        tokens = sum(map(len, texts))
        if self.taken + tokens > self.room:
            raise MemoryShortError("no room")
        self.taken += tokens

        def pending() -> Any:
            self.taken -= tokens
            return np.full((len(texts), 1), 0.5, dtype=np.float32)

        return pending

    def warm_up(self) -> None:
        pass


def rows(*lengths: int) -> list[Ids]:
    return [np.ones(length, dtype=np.int32) for length in lengths]


def test_a_long_text_that_memory_does_not_hold_fails_alone() -> None:
    logits, failed, _ = Runner(Roomy(room=SMALLEST_BUDGET), 1).run(rows(3, SMALLEST_BUDGET + 1, 200))
    assert np.isnan(logits[:, 0]).tolist() == [False, True, False]
    assert list(failed) == [1]
    assert "does not suffice for this text alone" in failed[1]


@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize("lengths", [(SMALLEST_BUDGET,), (3, 200), (3, 200, 900)])
def test_a_memory_without_room_for_a_short_text_is_no_fault_of_the_text(room: int, lengths: tuple[int, ...]) -> None:
    """No outcome is recorded: whoever has called hears that this process must start anew."""
    with pytest.raises(DeviceLostError, match=r"does not suffice for a text of \d+ tokens.*start anew.*no room"):
        Runner(Roomy(room), 1).run(rows(*lengths))


def test_so_it_is_when_the_text_was_looked_for_that_failed_a_batch() -> None:
    class Fickle(Roomy):
        def start(self, texts: Sequence[Ids]) -> Pending:
            if len(texts) > 1:
                raise RuntimeError("something else")
            return super().start(texts)

    with pytest.raises(DeviceLostError, match="does not suffice for a text of 200 tokens"):
        Runner(Fickle(100), 1).run(rows(3, 200))


def test_a_text_that_fits_when_nothing_else_is_in_flight_is_computed() -> None:
    backend = Roomy(1000)
    runner = Runner(backend, 1, tokens=800)
    logits, failed, _ = runner.run(rows(800, 300))
    assert not failed
    assert not np.isnan(logits).any()
    assert backend.taken == 0


def test_a_backend_that_finds_less_room_in_its_warm_up_gets_smaller_batches() -> None:
    class Shrinking(Roomy):
        largest = 0

        def start(self, texts: Sequence[Ids]) -> Pending:
            self.largest = max(self.largest, sum(map(len, texts)))
            return at_once(super().start(texts)())

        def warm_up(self) -> None:
            self.batching = Batching(600)

    backend = Shrinking(10_000)
    runner = Runner(backend, 1)
    backend.warm_up()
    runner.run(rows(*[100] * 30))
    assert backend.largest == 600


@pytest.mark.parametrize(("merge_after", "room", "held"), [((), 1200, 1024), ((1,), 1200, 1152), ((1,), 600, 576)])
def test_a_card_that_is_too_full_for_the_largest_batch_gets_those_that_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    merge_after: tuple[int, ...],
    room: int,
    held: int,
) -> None:
    folder = artifact.read(make_tiny_model(tmp_path / "tiny", layers=3, merge_after=merge_after))
    backend = backend_of(folder, compiler="eager", tokens=4096)
    classifier = Classifier(folder, backend)
    forward = backend._net.forward
    monkeypatch.setattr(backend._net, "forward", forward_with_room(forward, room, no_room))
    classifier.warm_up()
    assert f"memory is short: {held} tokens a batch" in caplog.text
    assert backend.batching.tokens == backend.batching.sizes[-1] == held
    caplog.clear()
    posts = [Post(" ".join([one, *TEXTS])) for one in map(str, range(100))]
    assert not classifier.predict(posts).failures
    assert not caplog.records, "nothing had to be halved"


def test_a_card_without_memory_for_the_smallest_batch_is_not_begun_with(
    tiny: artifact.ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(tiny, compiler="eager", tokens=2048)
    monkeypatch.setattr(backend._net, "forward", forward_with_room(backend._net.forward, 40, no_room))
    with pytest.raises(MemoryShortError, match=r"does not suffice.*out of memory"):
        Classifier(tiny, backend).warm_up()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [(no_room, MemoryShortError), (lambda: torch.AcceleratorError("CUDA error: unknown error"), DeviceLostError)],
)
def test_a_network_that_does_not_get_onto_the_device_is_a_sentence(
    tiny: artifact.ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    packed: bool,
    raised: Callable[[], Exception],
    expected: type[Exception],
) -> None:
    to = torch.nn.Module.to

    def refused(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and isinstance(arguments[0], torch.device):
            raise raised()
        return to(self, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", refused)
    with pytest.raises(expected):
        backend_of(tiny, packed=packed)


def test_the_smallest_budget_is_the_smallest_size_that_is_compiled() -> None:
    """A text that is filled up to it takes as much memory as one that has it."""
    from ml.backends.torch_any import SMALLEST_SIZE

    assert running.SMALLEST_BUDGET == SMALLEST_SIZE


# --- memory of a processor, of which libraries speak in words alone ---------------------------------------------------

LIMITED = """
import re, resource, sys
from pathlib import Path
import numpy as np
from ml import artifact
from ml.classifier import load_backend
from ml.errors import DeviceLostError, MemoryShortError
from ml.running import Runner

backend = load_backend(artifact.read(Path(sys.argv[2])), "cpu", sys.argv[1], 1, Path(sys.argv[3]), "float32")
text = np.arange(5, 35, dtype=np.int32)
expected = backend.start([text])()
taken = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + (32 << 20), resource.RLIM_INFINITY))
texts = [text] * 20000
try:
    backend.start(texts)()
except MemoryShortError:
    print("short")
try:
    logits, failed, _ = Runner(backend, 6, len(texts) * len(text)).run(texts)
    assert not failed, next(iter(failed.values()))
    assert np.allclose(logits, expected, atol=1e-4)
    print("computed")
except DeviceLostError:
    print("ends")
"""


@pytest.mark.parametrize(
    ("backend", "then"),
    [("onnxruntime", {"computed"}), ("torch", {"computed"}), ("openvino", {"computed", "ends"})],
)
def test_libraries_that_get_no_memory_are_no_fault_of_the_texts(
    tiny: artifact.ModelFolder, tmp_path: Path, backend: str, then: set[str]
) -> None:
    """OpenVINO may compute nothing any more once it has not got what it asked for: the process has to start anew."""
    command = [sys.executable, "-c", LIMITED, backend, str(tiny.path), str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    short, end = done.stdout.split()
    assert short == "short"
    assert end in then
