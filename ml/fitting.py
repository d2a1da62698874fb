"""The loop that fits a network to examples: batches, schedule, early stopping, and going on after a kill.

With a run folder (`ml.runs`) everything that the next step depends on is written down from time to time: weights, the
optimiser, the random generators, the place in the epoch. A run that goes on from there makes the same steps as one that
was never stopped.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ml import cheaper, network
from ml.crops import crop
from ml.encoding import TextEncoder, pad
from ml.runs import RunFolder

Floats = npt.NDArray[np.float32]
Say = Callable[[str], None]

# Batches are cut from stretches of so many, sorted by length: little padding, and still random from epoch to epoch.
STRETCH = 40
REPORT_EVERY = 50


@dataclass(frozen=True)
class Plan:
    """How to fit; the names are those of `ml.train.TrainOptions`."""

    epochs: int
    batch: int
    lr: float
    head_lr: float
    layer_decay: float
    weight_decay: float
    warmup: float
    clip: float
    crop_share: float
    patience: int
    seed: int


@dataclass(frozen=True)
class Examples:
    """Texts with what the network should say of them: float32 (n, topics)."""

    texts: tuple[str, ...]
    targets: Floats


@dataclass(frozen=True)
class Glance:
    """What validation posts say after an epoch: figures for the log, and the one that early stopping watches."""

    figures: dict[str, float]
    watched: float


def fit(
    net: network.TopicNetwork,
    encoder: TextEncoder,
    examples: Examples,
    look: Callable[[], Glance],
    plan: Plan,
    pad_id: int,
    say: Say = lambda _: None,
    run: RunFolder | None = None,
    new_head: bool = True,
) -> None:
    """Fit `net` in place.

    Args:
        net: the network, on the device to fit it on.
        encoder: makes ids of the examples' texts.
        examples: what to learn.
        look: measures the network as it is; called after each epoch.
        plan: how to go about it. With `patience` above 0 the run ends after so many epochs that brought nothing, and
            the weights of the best epoch are taken; the learning rate falls as if all epochs were made.
        pad_id: id of padding.
        say: called with what there is to tell.
        run: where to write epochs and checkpoints, and to go on from; None: nowhere.
        new_head: whether the head knows nothing yet.
    """
    device = net.head.weight.device
    if new_head:
        _start_head_at_shares(net, examples.targets)
    optimiser = _optimiser(net, plan)
    per_epoch = -(-(len(examples.texts) + int(plan.crop_share * len(examples.texts))) // plan.batch)
    steps = plan.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_and_decay(steps, plan.warmup))
    bf16 = network.has_fast_bfloat16(device)
    cheaper.prepare(net.encoder, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    say(f"{steps} steps on {device.type}, {'bfloat16' if bf16 else 'float32'}")
    place = _Place(plan.seed)
    if run is not None and (state := run.checkpoint(device)) is not None:
        place.restore(state, net, optimiser, schedule)
        say(f"going on from epoch {place.epoch}, step {place.step} of {steps}")
    began, already = time.monotonic(), place.step
    while place.epoch <= plan.epochs and not place.waited_enough(plan.patience):
        net.train()
        texts, goals = _with_crops(examples, plan.crop_share, place.rng)
        ids = encoder.encode(texts).ids
        batches = _batches([len(one) for one in ids], plan.batch, place.rng)
        for rows in batches[place.within :]:
            input_ids, mask = (torch.from_numpy(one).to(device) for one in pad([ids[row] for row in rows], pad_id))
            with autocast:
                logits = net(input_ids, mask)
            goal = torch.from_numpy(goals[rows]).to(device)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), goal)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            place.advance(loss.item())
            if place.step % REPORT_EVERY == 0:
                left = (time.monotonic() - began) / (place.step - already) * (steps - place.step)
                mean = np.mean(place.losses[-REPORT_EVERY:])
                say(f"  step {place.step}/{steps}  loss {mean:.4f}  {left / 60:.1f} min left")
            if run is not None and run.is_time():
                run.write_checkpoint(place.state(net, optimiser, schedule))
        glance = look()
        said = ", ".join(f"{name} {value:.3f}" for name, value in glance.figures.items() if "/" not in name)
        say(f"epoch {place.epoch}: loss {np.mean(place.losses):.4f}; validation {said}")
        if run is not None:
            run.write_epoch(place.epoch, {"loss": float(np.mean(place.losses)), **glance.figures})
        place.end_epoch(glance.watched, net if plan.patience else None)
        if run is not None:
            run.write_checkpoint(place.state(net, optimiser, schedule))
    if place.best is not None:
        net.load_state_dict(place.best)
        if place.best_epoch != place.epoch - 1:
            say(f"epoch {place.best_epoch} was the best: its weights are taken")
    cheaper.restore(net.encoder)


class _Place:
    """Where a run is: counted from epoch 1; `within` batches of this epoch are done."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.epoch, self.step, self.within = 1, 0, 0
        self.losses: list[float] = []
        self.best: dict[str, Any] | None = None
        self.best_epoch, self.best_watched = 0, float("-inf")
        self._at_start = self.rng.bit_generator.state

    def advance(self, loss: float) -> None:
        self.losses.append(loss)
        self.step += 1
        self.within += 1

    def end_epoch(self, watched: float, net: network.TopicNetwork | None) -> None:
        if watched > self.best_watched:
            self.best_watched, self.best_epoch = watched, self.epoch
            if net is not None:
                self.best = {name: value.detach().clone() for name, value in net.state_dict().items()}
        self.epoch, self.within, self.losses = self.epoch + 1, 0, []
        self._at_start = self.rng.bit_generator.state

    def waited_enough(self, patience: int) -> bool:
        return bool(patience) and self.epoch - 1 - self.best_epoch >= patience

    def state(self, net: network.TopicNetwork, optimiser: torch.optim.AdamW, schedule: Any) -> dict[str, Any]:
        return {
            "net": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            # The epoch's crops and batches are made anew from where the generator was when it began.
            "numpy": self._at_start,
            "place": [self.epoch, self.step, self.within, self.best_epoch],
            "losses": self.losses,
            "best_watched": self.best_watched,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any], net: network.TopicNetwork, optimiser: Any, schedule: Any) -> None:
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        self.rng.bit_generator.state = self._at_start = state["numpy"]
        self.epoch, self.step, self.within, self.best_epoch = state["place"]
        self.losses, self.best_watched, self.best = state["losses"], state["best_watched"], state["best"]


def _start_head_at_shares(net: network.TopicNetwork, goals: Floats) -> None:
    # A head that starts by saying each topic's share does not spend its first steps on learning it.
    shares = np.clip(goals.mean(axis=0), 0.01, 0.99)
    with torch.no_grad():
        net.head.weight.mul_(0.1)
        net.head.bias.copy_(torch.from_numpy(np.log(shares / (1 - shares))))


def _optimiser(net: network.TopicNetwork, plan: Plan) -> torch.optim.AdamW:
    depth = int(getattr(net.encoder.config, "num_hidden_layers", 0))
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, one in net.named_parameters():
        if name.startswith("head."):
            rate, decay = plan.head_lr, 0.0
        else:
            rate = plan.lr * plan.layer_decay ** (depth - 1 - layer_of(name, depth))
            # Biases and norms are not decayed, as BERT was trained.
            decay = plan.weight_decay if one.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(one)
    return torch.optim.AdamW(
        [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()], fused=True
    )


def layer_of(name: str, depth: int) -> int:
    """Return the layer, from 0, that a parameter belongs to; -1 for embeddings, the last for what lies above them all.

    Layers near the input know what holds for any text and should move less than those near the head: the learning rate
    of each is that of the one above it times `layer_decay` (Howard and Ruder 2018, arXiv:1801.06146).
    """
    parts = name.split(".")
    if "embeddings" in parts:
        return -1
    numbers = [int(part) for before, part in pairwise(parts) if before == "layer" and part.isdigit()]
    return numbers[0] if numbers else depth - 1


def _warm_up_and_decay(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, int(steps * warmup))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


def _with_crops(examples: Examples, share: float, rng: np.random.Generator) -> tuple[list[str], Floats]:
    count, rounds = int(share * len(examples.texts)), []
    while count > 0:
        # More crops than texts: each text gives one before any gives another.
        rounds.append(rng.choice(len(examples.texts), size=min(count, len(examples.texts)), replace=False))
        count -= len(examples.texts)
    chosen = np.concatenate(rounds) if rounds else np.zeros(0, dtype=np.int64)
    texts = [*examples.texts, *(crop(examples.texts[row], rng) for row in chosen)]
    return texts, np.concatenate([examples.targets, examples.targets[chosen]])


def _batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    order = rng.permutation(len(lengths))
    sizes = np.asarray(lengths)
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), size * STRETCH):
        stretch = order[start : start + size * STRETCH]
        stretch = stretch[np.argsort(sizes[stretch], kind="stable")]
        batches += [stretch[begin : begin + size] for begin in range(0, len(stretch), size)]
    return [batches[index] for index in rng.permutation(len(batches))]
