"""Sequential stopping: runs are added until every interval is narrow enough, and no longer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import popnet
from popnet import config
from popnet.cli import main
from popnet.engine.stability import Stability, parse_targets, stability
from popnet.errors import ConfigError
from popnet.metrics.precision import Precision

TARGET = 5.0

CONTENT = {
    "name": "steady",
    "recipe": {
        "dataset": "digits",
        "model": "linear",
        "epochs": 1,
        "batch_size": 128,
        "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.0},
        "evaluate_every": 0,
    },
    "population": 2,
    "variants": [
        {"name": "Order", "vary": ["shuffle"]},
        {"name": "All", "vary": "all"},
        {"name": "Grid", "cross": {"init": 2, "shuffle": 2}},
    ],
}


def test_it_stops_by_itself(tmp_path: Path) -> None:
    told: list[Stability] = []
    experiment = config.from_mapping(CONTENT)
    targets = {"accuracy_mean": TARGET, "disagreement": 1000.0, "ensemble_delta": 50.0}
    outcome = stability(experiment, None, targets, store=tmp_path / "s", workers=1, least=5, most=40, tell=told.append)
    assert outcome.variant == "All"
    assert outcome.steady
    assert outcome.runs < 40
    assert [so_far.runs for so_far in told][:2] in ([5], [5, 9])
    by_name = {metric.metric: metric for metric in outcome.metrics}
    assert by_name["disagreement"].runs == 5  # wide targets are met at the first look
    reached = by_name["accuracy_mean"].runs
    assert reached is not None
    opened = popnet.open_store(tmp_path / "s")
    ids = [m.id for m in popnet.plan(experiment.model_copy(update={"population": outcome.runs})).populations[1].members]
    logits = np.stack([opened.predictions(key)[0] for key in ids])
    precision = Precision(logits, opened.labels(), ("accuracy_mean",))
    widths = [precision.interval("accuracy_mean", r) for r in range(5, outcome.runs + 1)]
    assert [w.high - w.low <= TARGET for w in widths].index(True) + 5 == reached
    assert opened.members().shape[0] == outcome.runs  # nothing more was trained


def test_it_gives_up_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "steady.json"
    file.write_text(json.dumps(CONTENT))
    command = ["stability", str(file), "--variant", "Order", "--target", "accuracy_mean=0.001", "--least", "4"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--most", "4", "--store", str(tmp_path / "s"), "--workers", "1", "-q"])
    assert ended.value.code == 1
    assert "more than 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "Oder"}, "did you mean 'Order'"),
        ({"variant": "Grid"}, "'cross'"),
        ({"targets": {"accuracy": 1.0}}, "unknown metric 'accuracy'"),
        ({"targets": {"accuracy_mean": 0.0}}, "above 0"),
        ({"least": 9, "most": 8}, "4 <= least <= most"),
    ],
)
def test_mistakes_are_named_before_training(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        stability(config.from_mapping(CONTENT), store=tmp_path / "s", **arguments)
    assert not (tmp_path / "s").exists()


def test_targets_are_parsed() -> None:
    assert parse_targets(["accuracy_mean=0.5", "disagreement=1"]) == {"accuracy_mean": 0.5, "disagreement": 1.0}
    with pytest.raises(ConfigError, match="METRIC=WIDTH"):
        parse_targets(["accuracy_mean"])
