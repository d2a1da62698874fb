"""Cheaper steps compute what the plain ones do."""

import pytest
import torch
from torch import nn

from ml import cheaper

CPU = torch.device("cpu")


def encoder(dropout: float) -> nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1, 50, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def gradients(net: nn.Module, *, half: bool) -> dict[str, torch.Tensor]:
    ids, mask = inputs()
    net.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = net(input_ids=ids, attention_mask=mask).last_hidden_state
    (states.float() * mask.unsqueeze(-1)).pow(3).sum().backward()
    return {name: one.grad for name, one in net.named_parameters() if one.grad is not None}


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-4), (True, 0.05)])
def test_gradients_are_those_of_the_plain_network(half: bool, tolerance: float) -> None:
    plain, quick = encoder(0.0), encoder(0.0)
    cheaper.prepare(quick, CPU)
    assert quick.config._attn_implementation == cheaper.ATTENTION
    expected, found = gradients(plain, half=half), gradients(quick, half=half)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        # Keys have no gradient from their bias: softmax does not feel it, and what is left is noise.
        if not name.endswith("key.bias"):
            assert (found[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_attention_is_computed_in_float32_and_handed_on_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    plain = nn.functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, *others: object, **options: object) -> torch.Tensor:
        seen.append(query.dtype)
        return plain(query, *others, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    net = encoder(0.0)
    gradients(net, half=True)
    assert seen == [torch.bfloat16] * 2
    seen.clear()
    cheaper.prepare(net, CPU)
    gradients(net, half=True)
    assert seen == [torch.float32] * 2


def test_afterwards_attention_is_as_it_was() -> None:
    net = encoder(0.1)
    cheaper.prepare(net, CPU)
    assert net.config._attn_implementation != "sdpa"
    cheaper.restore(net)
    assert net.config._attn_implementation == "sdpa"


def test_every_dropout_of_an_encoder_is_the_cheap_one_and_no_parameter_is_renamed() -> None:
    net = encoder(0.25)
    names = [name for name, _ in net.named_parameters()]
    cheaper.prepare(net, CPU)
    found = [one for one in net.modules() if isinstance(one, nn.Dropout)]
    assert found
    assert {(type(one), one.p) for one in found if one.p} == {(cheaper.CoarseDropout, 0.25)}
    assert [name for name, _ in net.named_parameters()] == names


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    dropout = cheaper.CoarseDropout(p)
    values = torch.ones(1001, 999, dtype=dtype, requires_grad=True)
    result = dropout(values)
    result.sum().backward()
    count = values.numel()
    spread = (p * (1 - p) / count) ** 0.5
    assert abs(float((result == 0).float().mean()) - p) < 5 * spread
    rounding = 0.004 if dtype == torch.bfloat16 else 0.0
    assert abs(float(result.detach().float().mean()) - 1) < 5 * spread / (1 - p) + rounding
    # What was dropped has no gradient, and the rest that of its scale.
    assert values.grad is not None
    assert torch.equal(values.grad, result.detach())


def test_dropout_differs_from_place_to_place_and_follows_the_seed() -> None:
    dropout, values = cheaper.CoarseDropout(0.5), torch.ones(64, 64)
    torch.manual_seed(5)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(5)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)
    # Neighbours come from one drawn number: they must not go together.
    columns = first.reshape(-1, 4).T
    assert float((torch.corrcoef(columns) - torch.eye(4)).abs().max()) < 0.15


def test_dropout_at_its_ends_and_at_rest() -> None:
    values = torch.rand(5, 7)
    assert torch.equal(cheaper.CoarseDropout(0.0)(values), values)
    assert not cheaper.CoarseDropout(1.0)(values).any()
    assert torch.equal(cheaper.CoarseDropout(0.5).eval()(values), values)
    assert cheaper.CoarseDropout(0.5)(torch.empty(0, 4)).shape == (0, 4)
