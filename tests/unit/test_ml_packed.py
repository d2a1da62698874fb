"""The packed network in torch: equal to transformers' own forward pass, never compiled anew, patient with memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.settings import SHIPPED_MODEL
from ml import artifact, weights
from ml.batches import Ids
from ml.classifier import Classifier
from ml.encoding import pad
from ml.errors import DeviceLostError, MemoryShortError
from ml.ngrams import LONGEST
from ml.packing import Run, pack
from ml.posts import Post
from ml.running import Runner
from tests.tiny_model import TEXTS, make_tiny_model

torch = pytest.importorskip("torch", reason="torch comes with the train extra")

LENGTHS = (31, 17, 17, 17, 9, 9, 3, 2, 1)


def texts_of(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> list[Ids]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, vocabulary, length).astype(np.int32) for length in lengths]


def bert(kind: str = "bert", **changes: Any) -> Any:
    """A configuration of the family."""
    from transformers import AutoConfig

    shape = {
        "vocab_size": 300,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 80,
        "type_vocab_size": 2,
        "pad_token_id": 1,
    }
    return AutoConfig.for_model(kind, **(shape | changes))


def network_of(config: Any, pooling: str, seed: int = 0, merge_after: Sequence[int] = ()) -> Any:
    """A network with random weights, as far from the start of a training as a trained one is, and a linear part."""
    from transformers import AutoModel

    from ml.network import NgramPart, TopicNetwork, pooling_named

    torch.manual_seed(seed)
    encoder = AutoModel.from_config(config, dtype=torch.float32)
    net = TopicNetwork(encoder, pooling_named(pooling), 6, merge_after=merge_after)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if "bias" in name or "norm" in name.lower() else 0.02))
    rows = 101
    net.ngrams = NgramPart(config.vocab_size, rows, 6)
    net.ngrams.hashes.copy_(torch.randint(0, rows, (config.vocab_size, LONGEST)))
    net.ngrams.table.copy_(torch.rand(rows, 7))
    return net.eval()


def reference(net: Any, texts: Sequence[Ids]) -> Any:
    """Logits of transformers' own forward pass, one text at a time."""
    with torch.inference_mode():
        rows = [torch.from_numpy(text[None]).long() for text in texts]
        return torch.cat([net(row, torch.ones_like(row)) for row in rows])


def packed_logits(net: Any, texts: Sequence[Ids], dtype: Any = None, size: int = 0, after_pad: bool = False) -> Any:
    from ml.packed import PackedNetwork

    batch = pack(texts, 1, lambda tokens: max(size, tokens), after_pad, len(net.merge_after))
    with torch.inference_mode():
        return PackedNetwork(net, dtype or torch.float32).eval()(torch.from_numpy(batch.numbers), batch)


def test_texts_stand_behind_one_another_with_their_positions() -> None:
    texts = [np.array(text, dtype=np.int32) for text in ([7, 8, 9], [7, 8, 5], [4])]
    batch = pack(texts, pad_id=1, size_of=lambda _: 10)
    assert (batch.size, batch.texts, batch.tokens, batch.longest) == (10, 3, 7, 3)
    assert batch.numbers[:10].tolist() == [7, 8, 9, 7, 8, 5, 4, 1, 1, 1]
    assert batch.numbers[10:20].tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 0, 0]
    assert batch.numbers[20:].tolist() == [0, 3, 6, 7]
    assert batch.runs == (Run(0, 2, 3), Run(6, 1, 1))
    assert pack(texts, pad_id=1).numbers.shape == (7 + 7 + 4,)


def test_pairs_begin_where_a_text_begins_and_the_last_of_an_odd_number_stays_alone() -> None:
    texts = [np.array(text, dtype=np.int32) for text in ([7, 8, 9, 7, 8], [7, 8], [4])]
    batch = pack(texts, pad_id=1, size_of=lambda tokens: -(-tokens // 4) * 4, merges=2)
    assert [(one.size, one.tokens, one.longest) for one in batch.merged] == [(8, 5, 3), (4, 4, 2)]
    rest = batch.numbers[2 * batch.size + 4 :]
    assert rest[:8].tolist() == [0, 2, 4, 5, 7, 0, 0, 0]
    assert rest[8:16].tolist() == [1, 3, 4, 6, 7, 0, 0, 0]
    assert rest[16:20].tolist() == [0, 3, 4, 5]
    assert rest[20:24].tolist() == [0, 2, 3, 4]
    assert rest[24:28].tolist() == [1, 2, 3, 4]
    assert rest[28:].tolist() == [0, 2, 3, 4]
    assert batch.merged[0].runs == (Run(0, 1, 3), Run(3, 2, 1))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("size", [0, 128])
def test_packed_is_what_transformers_computes(pooling: str, size: int) -> None:
    net = network_of(bert(), pooling)
    texts = texts_of(LENGTHS, 300)
    expected = reference(net, texts)
    assert expected.std(dim=0).min() > 1e-2, "a test in which all texts are alike would show nothing"
    torch.testing.assert_close(packed_logits(net, texts, size=size), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("merge_after", [(1,), (2,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize("size", [0, 128])
def test_packed_tokens_are_merged_as_padded_ones(pooling: str, merge_after: tuple[int, ...], size: int) -> None:
    net = network_of(bert(num_hidden_layers=4), pooling, merge_after=merge_after)
    texts = texts_of(LENGTHS, 300)
    expected = reference(net, texts)
    assert expected.std(dim=0).min() > 1e-2
    torch.testing.assert_close(packed_logits(net, texts, size=size), expected, atol=2e-5, rtol=0)
    # And padding changes nothing of what is merged.
    ids, mask = (torch.from_numpy(one) for one in pad(texts, 1, 8))
    with torch.inference_mode():
        torch.testing.assert_close(net(ids, mask), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_its_kin_number_positions_from_the_padding_on(kind: str, pooling: str) -> None:
    net = network_of(bert(kind), pooling)
    texts = [*texts_of(LENGTHS, 300), np.array([7, 1, 8, 1, 9], dtype=np.int32)]
    torch.testing.assert_close(packed_logits(net, texts, after_pad=True), reference(net, texts), atol=2e-5, rtol=0)


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"hidden_size": 64}])
def test_other_activations_and_widths_of_heads(changes: dict[str, Any]) -> None:
    net = network_of(bert(**changes), "mean")
    texts = texts_of(LENGTHS, 300)
    torch.testing.assert_close(packed_logits(net, texts), reference(net, texts), atol=2e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_the_shape_of_rubert_in_either_arithmetic(pooling: str) -> None:
    shape = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 2}
    net = network_of(bert(**shape, vocab_size=2000, max_position_embeddings=512), pooling)
    texts = texts_of((512, 130, 60, 60, 57, 8, 2), 2000)
    expected = reference(net, texts)
    torch.testing.assert_close(packed_logits(net, texts, size=1024), expected, atol=1e-4, rtol=0)
    halves = packed_logits(net, texts, torch.bfloat16)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves, expected, atol=5e-2, rtol=0)


# --- the backend ----------------------------------------------------------------------------------------------------


def backend_of(folder: artifact.ModelFolder, **options: Any) -> Any:
    from ml.backends.torch_any import TorchBackend

    return TorchBackend(folder, "cpu", 1, **({"arithmetic": "float32"} | options))


def logits_of(backend: Any, texts: Sequence[Ids]) -> Any:
    return backend.start(texts)()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> artifact.ModelFolder:
    return artifact.read(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


def test_the_shipped_network_is_the_same_packed_and_padded_and_near_in_bfloat16() -> None:
    folder = artifact.read(SHIPPED_MODEL)
    posts = [Post(text) for text in TEXTS] + [Post("", TEXTS[0], TEXTS[1] * 3), Post(". ".join(TEXTS) * 4), Post("")]
    padded, packed, halves = (
        Classifier(folder, backend_of(folder, **options)).predict(posts).probabilities
        for options in ({"packed": False}, {}, {"arithmetic": "bfloat16"})
    )
    np.testing.assert_allclose(packed, padded, atol=1e-5)
    np.testing.assert_allclose(halves, padded, atol=2e-2)


@pytest.mark.parametrize(("merge_after", "graphs"), [((), 6), ((1, 2), 10)])
def test_nothing_is_compiled_anew_after_the_warm_up(tmp_path: Path, merge_after: tuple[int, ...], graphs: int) -> None:
    from torch._dynamo.utils import counters

    tiny = artifact.read(make_tiny_model(tmp_path / "tiny", layers=3, merge_after=merge_after))
    vocabulary = int(tiny.config["vocab_size"])
    torch._dynamo.reset()
    backend = backend_of(tiny, compiler="eager", tokens=2048)
    plain = backend_of(tiny)
    counters.clear()
    backend.warm_up()
    compiled = counters["stats"]["unique_graphs"]
    # Two pieces of code, for 512, 1,024 and 2,048 tokens; where tokens are merged, for an eighth more of the first two.
    assert compiled == graphs
    rng = np.random.default_rng(0)
    for round_ in range(12):
        texts = texts_of(rng.integers(1, 60, rng.integers(1, 60)), vocabulary, seed=round_)
        np.testing.assert_allclose(logits_of(backend, texts), logits_of(plain, texts), atol=1e-5)
    # Full batches of odd texts leave more than half of their tokens.
    texts = texts_of([61] * 33, vocabulary)
    np.testing.assert_allclose(logits_of(backend, texts), logits_of(plain, texts), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == compiled
    assert not counters["graph_break"]


def test_threads_that_did_not_warm_up_compile_as_well(tiny: artifact.ModelFolder) -> None:
    """By itself torch allows eight sizes, and what it is told holds for the thread alone that has said it."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    vocabulary = int(tiny.config["vocab_size"])
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        backend = first.submit(lambda: backend_of(tiny, compiler="eager", tokens=1024)).result()
        first.submit(backend.warm_up).result()
        counters.clear()
        for tokens in range(1025, 1040):
            second.submit(logits_of, backend, texts_of([25] * 40 + [tokens - 1000], vocabulary)).result()
    assert counters["stats"]["unique_graphs"] == 2 * 15


@pytest.mark.parametrize(("tokens", "filled"), [(10, 512), (512, 512), (600, 1024), (1025, 1025)])
def test_what_fills_a_compiled_batch_up_is_told(tiny: artifact.ModelFolder, tokens: int, filled: int) -> None:
    torch._dynamo.reset()
    backend = backend_of(tiny, compiler="eager", tokens=1024)
    texts = texts_of([5] * (tokens // 5) + [tokens % 5] * bool(tokens % 5), int(tiny.config["vocab_size"]))
    _, _, effort = Runner(backend, 6, tokens=2000).run(texts)
    assert (effort.batches, effort.tokens, effort.padding) == (1, tokens, filled - tokens)
    plain = Runner(backend_of(tiny), 6, tokens=2000).run(texts)[2]
    assert (plain.tokens, plain.padding) == (tokens, 0)


def test_the_bench_counts_it_as_padding(tiny: artifact.ModelFolder) -> None:
    from bench.engine import padding_of

    torch._dynamo.reset()
    posts = [Post(text) for text in TEXTS]
    for compiler, computed in (("", 0), ("eager", 512)):
        backend = backend_of(tiny, compiler=compiler, tokens=1024)
        classifier = Classifier(tiny, backend)
        tokens = classifier.prepare(posts).tokens
        assert padding_of(backend, classifier, posts) == pytest.approx(1 - tokens / (computed or tokens))


def test_every_size_that_is_compiled_is_told_in_the_log(
    tiny: artifact.ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """By these lines whoever waits for the worker sees that it is at work."""
    torch._dynamo.reset()
    caplog.set_level("INFO")
    backend_of(tiny, compiler="eager", tokens=2048).warm_up()
    assert [record.getMessage() for record in caplog.records if "compiled" in record.getMessage()] == [
        f"compiled for batches of {size} tokens" for size in (512, 1024, 2048)
    ]


def test_a_network_that_cannot_be_compiled_runs_all_the_same(
    tiny: artifact.ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object) -> Callable[..., Any]:
        raise RuntimeError("Failed to find C compiler")

    torch._dynamo.reset()
    texts = texts_of(LENGTHS, int(tiny.config["vocab_size"]))
    backend = backend_of(tiny, compiler=no_compiler)
    backend.warm_up()
    assert "without being compiled" in caplog.text
    assert not backend.batching.sizes
    np.testing.assert_array_equal(logits_of(backend, texts), logits_of(backend_of(tiny), texts))


def test_what_torch_has_no_memory_for_is_computed_in_parts(
    tiny: artifact.ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(tiny)
    classifier = Classifier(tiny, backend)
    posts = [Post(" ".join(TEXTS[:count])) for count in range(1, 7)] * 2 + [Post("кот"), Post("мама")]
    whole = classifier.predict(posts).probabilities
    forward = backend._net.forward

    def short(numbers: Any, batch: Any) -> Any:
        if batch.tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(numbers, batch)

    monkeypatch.setattr(backend._net, "forward", short)
    with pytest.raises(MemoryShortError, match="out of memory"):
        backend.start(texts_of((30, 20), 40))
    predictions = classifier.predict(posts)
    assert not predictions.failures
    np.testing.assert_allclose(predictions.probabilities, whole, atol=1e-5)


def test_a_broken_device_ends_more_than_a_batch(tiny: artifact.ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    backend = backend_of(tiny)
    monkeypatch.setattr(backend._net, "forward", broken)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        Classifier(tiny, backend).predict([Post("кот")])


def test_other_architectures_are_computed_padded(tmp_path: Path) -> None:
    from transformers import AutoConfig

    from ml import network

    folder = make_tiny_model(tmp_path / "model")
    tokens = int(artifact.read(folder).config["vocab_size"])
    config = AutoConfig.for_model("distilbert", vocab_size=tokens, dim=16, hidden_dim=32, n_heads=4, n_layers=2)
    config.save_pretrained(folder)
    net = network.from_config(folder, "mean", 6)
    weights.write(folder / artifact.WEIGHTS, {name: one.detach().numpy() for name, one in net.state_dict().items()})
    artifact.write_manifest(folder)
    read = artifact.read(folder)
    backend = backend_of(read)
    assert "padded" in backend.description
    texts = texts_of((20, 9, 2), tokens)
    alone = np.concatenate([logits_of(backend, [text]) for text in texts])
    np.testing.assert_allclose(logits_of(backend, texts), alone, atol=1e-5)
