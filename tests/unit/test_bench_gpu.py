"""What a run on a GPU is held to: each network and corpus to what is known of it, and nothing else."""

from typing import Any

import pytest

from bench import gpu
from ml.artifact import ModelInfo

MODEL = ModelInfo("a-model", "1.2.3", "5" * 64, ())
ALONE = {"arms": {f"{gpu.CUDA_TOKENS} tokens": {"tokens_per_second": {"median": 2_100_000}, "share_of_ceiling": 0.4}}}
SAME = {"largest_difference": 0.01, "assignments_changed_percent": 0.05}
ARMS = {"arms": {"ours": {"over_pipeline": 12.0, gpu.REFERENCE: SAME}}}
SERVICE = {"service_over_network": {"median": 0.85}}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What a run would keep, by name, of stages that find what they are asked for."""
    found: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(gpu, "card", lambda: "a card")
    monkeypatch.setattr(gpu, "alone", lambda *_: (ALONE, MODEL))
    monkeypatch.setattr(gpu, "measure", lambda *_: (ARMS, MODEL))
    monkeypatch.setattr(gpu, "through_service", lambda *_: (SERVICE, MODEL))
    monkeypatch.setattr(gpu, "keep", lambda name, result, *_: found.__setitem__(name, result))
    monkeypatch.setattr("sys.argv", ["bench.gpu"])
    return found


def test_a_result_stands_beside_what_is_expected_of_it_alone(kept: dict[str, dict[str, Any]]) -> None:
    gpu.main()
    judged = {name: result["judged"] for name, result in kept.items()}
    assert judged["gpu-alone-rubert-base"]["tokens_per_second"]["met"]
    assert "met" not in judged["gpu-alone-rubert-base"]["share_of_ceiling"]
    assert judged["gpu-rubert-base-real"]["over_pipeline"] == {
        "found": 12.0,
        "expected": [20, None],
        "least": 10,
        "met": True,
    }
    assert judged["gpu-service-rubert-base"]["service_over_network"]["met"]
    assert judged["gpu-shipped-real"]["assignments_changed_percent"]["met"]
    for name in ("gpu-shipped-60", "gpu-rubert-base-512", "gpu-alone-shipped", "gpu-service-shipped"):
        assert judged[name] == {}
    assert {result["card"] for result in kept.values()} == {"a card"}


def test_less_than_is_asked_for_is_named_and_ends_in_an_error(
    kept: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "through_service", lambda *_: ({"service_over_network": {"median": 0.7}}, MODEL))
    with pytest.raises(SystemExit, match="on a card: gpu-service-rubert-base: service_over_network"):
        gpu.main()
    assert "NOT MET: gpu-service-rubert-base" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["bench.gpu", "--quick"])
    gpu.main()


def test_a_figure_that_is_missing_is_not_met() -> None:
    judged = gpu.judgement("arms", "rubert-base", "real", {"arms": {}})
    assert [one["met"] for one in judged.values()] == [False, False]
