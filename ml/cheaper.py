"""What makes a training step cheaper on a CPU and leaves what it computes as it is.

Measured with 12 layers of 384 numbers in bfloat16 without AMX: of a step half was products of matrices, a third
attention and a tenth dropout. Attention in bfloat16 is slower there than in float32, its way back above all, and with
AMX three times as slow. Dropout drew a number of 64 bits for each value where 16 bits do.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

ATTENTION = "rubrika_float32"
STEPS = 2**16


def prepare(encoder: Any, device: torch.device) -> None:
    """Make the steps of `encoder`, a model of transformers, cheaper on this device.

    Args:
        encoder: changed in place; its parameters and their names stay what they are.
        device: where it is.
    """
    if device.type != "cpu":
        return
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, CoarseDropout(child.p))
    if encoder.config._attn_implementation == "sdpa":
        _register()
        encoder.set_attn_implementation(ATTENTION)


def restore(encoder: Any) -> None:
    """Give `encoder` the attention back that `prepare` found: what asks it later is measured as it always was."""
    if encoder.config._attn_implementation == ATTENTION:
        encoder.set_attn_implementation("sdpa")


class CoarseDropout(nn.Dropout):  # type: ignore[misc]  # torch is not followed by mypy
    """Dropout that draws 16 bits for each value: its probability is `p` to within 1 / 131,072."""

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with some of them zero and the others larger, while training."""
        dropped = round(self.p * STEPS)
        if not self.training or not dropped:
            return values
        if dropped == STEPS:
            return torch.zeros_like(values)
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
        drawn = bits.random_(-(2**63), None).view(torch.int16)[: values.numel()].view(values.shape)
        kept = (drawn >= dropped - STEPS // 2).to(values.dtype)
        return values * kept.mul_(STEPS / (STEPS - dropped))


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, _float32_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _float32_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # Autocast would make bfloat16 of them again.
    with torch.autocast(query.device.type, enabled=False):
        mixed, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return cast(Tensor, mixed.to(query.dtype)), None
