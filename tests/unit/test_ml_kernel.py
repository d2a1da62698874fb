"""What the packed network asks of the attention kernel of a GPU, which is not here, and what it makes of the answer."""

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from ml.packing import pack
from tests.unit.test_ml_packed import LENGTHS, bert, network_of, packed_logits, reference, texts_of

torch = pytest.importorskip("torch", reason="torch comes with the train extra")

from torch.nn.attention import varlen  # noqa: E402

from ml import packed  # noqa: E402

SIGNATURE = inspect.signature(varlen.varlen_attn)
POOLINGS = ["mean", "cls", "pooler"]


class Kernel:
    """FlashAttention for texts of different lengths, one text after the other, and as strict as it is on a card."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        given = SIGNATURE.bind(*arguments, **named).arguments
        assert set(given) == {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale"}
        query, key, value = given["query"], given["key"], given["value"]
        for states in (query, key, value):
            assert states.dim() == 3
            assert states.stride(-1) == 1, "it reads heads as they lie in memory"
            assert states.shape[2] % 8 == 0
            assert states.shape[1:] == query.shape[1:]
        assert key.shape == value.shape
        asked = self.spans(given["cu_seq_q"], len(query), given["max_q"])
        answered = self.spans(given["cu_seq_k"], len(key), given["max_k"])
        # Nobody has said what stands behind the last text.
        seen = torch.full_like(query, torch.nan)
        for mine, its in zip(asked, answered, strict=True):
            products = torch.einsum("qhd,khd->hqk", query[mine], key[its]) * given["scale"]
            seen[mine] = torch.einsum("hqk,khd->qhd", products.softmax(dim=-1), value[its])
        return seen

    @staticmethod
    def spans(starts: Any, count: int, longest: int) -> list[slice]:
        assert starts.dtype == torch.int32
        assert starts.is_contiguous()
        edges = starts.tolist()
        assert edges[0] == 0
        assert edges == sorted(edges)
        assert edges[-1] <= count
        spans = [slice(*pair) for pair in itertools.pairwise(edges)]
        assert max(one.stop - one.start for one in spans) == longest
        return spans


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(packed, "_has_kernel", lambda _: True)
    monkeypatch.setattr(varlen, "varlen_attn", made)
    return made


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("size", [0, 128])
@pytest.mark.parametrize("merge_after", [(), (1,), (1, 2)])
def test_the_kernel_is_called_as_it_wants_and_fillers_mean_nothing(
    kernel: Kernel, pooling: str, size: int, merge_after: Sequence[int]
) -> None:
    net = network_of(bert(), pooling, merge_after=merge_after)
    texts = texts_of(LENGTHS, 300)
    torch.testing.assert_close(packed_logits(net, texts, size=size), reference(net, texts), atol=2e-5, rtol=0)
    assert kernel.calls == 3


@pytest.mark.parametrize("width", [20, 24, 64])
def test_heads_of_any_width_come_to_it_in_eights(kernel: Kernel, width: int) -> None:
    net = network_of(bert(hidden_size=width), "cls")
    texts = texts_of(LENGTHS, 300)
    torch.testing.assert_close(packed_logits(net, texts), reference(net, texts), atol=2e-5, rtol=0)
    assert kernel.calls == 3


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("merge_after", [(), (1, 2)])
def test_nothing_has_to_be_read_from_the_device_before_it_can_go_on(
    monkeypatch: pytest.MonkeyPatch, pooling: str, merge_after: Sequence[int]
) -> None:
    """On the device `meta` there are no numbers: who asks for one, or mixes it with another device, gets an error. The
    kernel is torch's own there."""
    monkeypatch.setattr(packed, "_has_kernel", lambda _: True)
    net = network_of(bert(), pooling, merge_after=merge_after)
    batch = pack(texts_of(LENGTHS, 300), 1, lambda _: 128, merges=len(merge_after))
    on_device = packed.PackedNetwork(net, torch.bfloat16).eval().to("meta")
    with torch.inference_mode():
        logits = on_device(torch.from_numpy(batch.numbers).to("meta"), batch)
    assert (logits.shape, logits.dtype, logits.device.type) == ((len(LENGTHS), 6), torch.float32, "meta")
