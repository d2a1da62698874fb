"""Run folders: a training that was killed goes on as if nothing had been, and tells how it went."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.model_commands import train
from jobs.settings import PROJECT_ROOT
from ml import artifact, fitting, network
from ml.encoding import TextEncoder
from ml.errors import DataError
from ml.runs import CHECKPOINT, CURVES, EPOCHS, RUN, RunFolder
from tests.integration.test_crossval import QUICK, base, posts, run
from tests.support import wait_until
from tests.tiny_model import TEXTS, make_wordpiece

__all__ = ["base", "posts"]

PLAN = fitting.Plan(
    epochs=3, batch=4, lr=5e-3, head_lr=1e-2, layer_decay=0.9, weight_decay=0.01, warmup=0.1, clip=1.0, crop_share=1.5,
    patience=0, seed=1,
)  # fmt: skip
ENCODER = TextEncoder(make_wordpiece().to_str(), "", 32)
EXAMPLES = fitting.Examples(TEXTS * 4, np.tile(np.eye(6, dtype=np.float32), (4, 1)))


class Stopping(RunFolder):
    """Writes a checkpoint after every step, and is cut off after some of them."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path, {"seed": 1}, "digest", every_s=0)
        self._left = after

    def write_checkpoint(self, state: object) -> None:
        super().write_checkpoint(state)  # type: ignore[arg-type]
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def fit(base: Path, run: RunFolder | None, plan: fitting.Plan = PLAN, watched: tuple[float, ...] = ()) -> torch.Tensor:
    """Fit a small network and return all its weights as one vector."""
    torch.manual_seed(1)
    net = network.from_base(str(base), "mean", 6, 0.1)
    seen = iter(watched or (0.1, 0.2, 0.3))
    fitting.fit(net, ENCODER, EXAMPLES, lambda: fitting.Glance({"ap": 0.5}, next(seen)), plan, 0, run=run)
    return torch.cat([one.detach().ravel() for one in net.state_dict().values()])


# 24 texts with 36 crops are 15 batches an epoch: within the first, at its end, and within the last one.
@pytest.mark.parametrize("after", [1, 7, 16, 40])
def test_a_run_cut_off_anywhere_makes_the_same_steps_as_one_that_was_not(
    base: Path, tmp_path: Path, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(base, Stopping(tmp_path / "run", after))
    folder = RunFolder(tmp_path / "run", {"seed": 1}, "digest", every_s=0)
    # After 16 checkpoints, 15 in the epoch and one at its end, the second epoch begins; the first says nothing again.
    watched = (0.1, 0.2, 0.3)[after // 16 :]
    assert torch.equal(fit(base, folder, watched=watched), fit(base, None))
    assert [line["epoch"] for line in folder.epochs()] == [1, 2, 3]


def test_a_killed_training_goes_on_and_ends_with_the_same_model(posts: Path, base: Path, tmp_path: Path) -> None:
    common = ["--base", str(base), *QUICK, "--name", "one"]
    runs = tmp_path / "run"
    command = [sys.executable, "-m", "cli.main", "train", str(posts), "-o", str(tmp_path / "b"), "--run", str(runs)]
    process = subprocess.Popen([*command, *common])
    try:
        wait_until(lambda: (runs / EPOCHS).exists() and len((runs / EPOCHS).read_text().splitlines()) >= 2, timeout=240)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "b").exists()
    said = run(train, posts, "-o", tmp_path / "b", "--run", runs, *common)
    assert "going on from epoch" in said
    run(train, posts, "-o", tmp_path / "a", *common)
    assert artifact.read(tmp_path / "a").weights_sha256 == artifact.read(tmp_path / "b").weights_sha256
    lines = [json.loads(line) for line in (runs / EPOCHS).read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert {"loss", "micro_f1", "f1/sport", "f1/ads", "f1/politics"} < set(lines[0])
    assert lines[-1]["loss"] < lines[0]["loss"]
    written = json.loads((runs / RUN).read_text(encoding="utf-8"))
    assert written["options"]["epochs"] == 10
    assert "torch" in written["environment"]
    page = (runs / CURVES).read_text(encoding="utf-8")
    assert page.count('class="line') == len(lines[0]) - 1
    assert not (runs / CHECKPOINT).exists()
    refused = run(train, posts, "-o", tmp_path / "c", "--run", runs, *common, "--lr", "1e-3", code=1)
    assert "differs in lr" in refused
    assert not (tmp_path / "c").exists()


def test_a_folder_of_something_else_and_a_damaged_checkpoint_are_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(DataError, match="no folder of a run"):
        RunFolder(tmp_path / "letters", {}, "")
    folder = RunFolder(tmp_path / "run", {"seed": 1}, "digest")
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"cut off")
    with pytest.raises(DataError, match="take it away"):
        fit(base, folder)
    with pytest.raises(DataError, match="the data"):
        RunFolder(tmp_path / "run", {"seed": 1}, "other")


def test_a_run_goes_on_with_the_counter_examples_that_it_began_with(posts: Path, base: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.tsv"
    none.write_text("text\nсинтаксис\nвода и песок\n", encoding="utf-8")
    began = [posts, "--base", base, *QUICK, "--epochs", 1, "--teacher-weight", 0, "--run", tmp_path / "run"]
    run(train, *began, "--none", none, "-o", tmp_path / "out")
    none.write_text("text\nсинтаксис\nвода и глина\n", encoding="utf-8")
    assert "the data" in run(train, *began, "--none", none, "-o", tmp_path / "out", code=1)


def test_a_run_that_came_to_its_end_is_made_anew(base: Path, tmp_path: Path) -> None:
    for _ in range(2):
        folder = RunFolder(tmp_path / "run", {}, "")
        fit(base, folder, PLAN)
        folder.finish()
        assert [line["epoch"] for line in folder.epochs()] == list(range(1, PLAN.epochs + 1))


def test_early_stopping_ends_the_run_and_takes_the_best_epoch(base: Path, tmp_path: Path) -> None:
    plan = fitting.Plan(**{**vars(PLAN), "epochs": 6, "patience": 2})
    folder = RunFolder(tmp_path / "run", {}, "")
    stopped = fit(base, folder, plan, watched=(0.5, 0.4, 0.3))
    assert len(folder.epochs()) == 3
    # A fourth epoch would have asked for a figure that there is not.
    first = Stopping(tmp_path / "first", 16)
    with pytest.raises(KeyboardInterrupt):
        fit(base, first, plan)
    at_first = torch.load(tmp_path / "first" / CHECKPOINT, weights_only=True)["net"]
    assert torch.equal(stopped, torch.cat([one.ravel() for one in at_first.values()]))


def test_layers_near_the_input_learn_more_slowly() -> None:
    names = {
        "encoder.embeddings.word_embeddings.weight": -1,
        "encoder.encoder.layer.0.attention.self.query.weight": 0,
        "encoder.encoder.layer.11.output.dense.bias": 11,
        "encoder.pooler.dense.weight": 11,
    }
    assert {name: fitting.layer_of(name, 12) for name in names} == names


def test_options_come_from_a_file_and_the_command_line_counts_for_more(posts: Path, base: Path, tmp_path: Path) -> None:
    config, none = tmp_path / "run.yaml", tmp_path / "none.tsv"
    none.write_text("text\nсинтаксис\nвода и песок\n", encoding="utf-8")
    config.write_text(
        f"base: {base}\nepochs: 1\nlr: 1e-3\nmax-tokens: 16\nteacher: [tfidf=0.7, frozen=0.3]\nseed: 3\n"
        f"merge-after: [1]\nnone: {none}\n",
        encoding="utf-8",
    )
    said = run(train, posts, "--config", config, "-o", tmp_path / "out", "--seed", 2)
    assert "soft targets by tfidf, frozen" in said
    options = artifact.read(tmp_path / "out").info.card["training"]
    assert (options["epochs"], options["lr"], options["max_tokens"], options["seed"]) == (1, 0.001, 16, 2)
    assert options["teacher_names"] == ["tfidf=0.7", "frozen=0.3"]
    assert options["merge_after"] == [1]
    assert artifact.read(tmp_path / "out").info.card["data"]["counter_examples"] == 2
    for content, told in (("epoch: 3", "has epoch, which must be among"), ("- 1", "no list of"), ("a: [", "as YAML")):
        config.write_text(content, encoding="utf-8")
        assert told in " ".join(run(train, posts, "--config", config, "-o", tmp_path / "x", code=2).split())
    config.write_text("base: x\nepochs: many\n", encoding="utf-8")
    assert "'many' is not a valid integer" in run(train, posts, "--config", config, "-o", tmp_path / "x", code=2)


@pytest.mark.parametrize("file", sorted((PROJECT_ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_configurations_that_come_along_can_be_read(posts: Path, base: Path, tmp_path: Path, file: Path) -> None:
    quick = ["--base", base, "--epochs", 1, "--max-tokens", 16, "--teacher", "tfidf"]
    run(train, posts, "--config", file, "-o", tmp_path / "out", *quick)
    assert artifact.read(tmp_path / "out").info.card["training"]["layer_decay"] == 0.93
