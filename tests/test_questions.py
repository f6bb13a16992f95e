"""`popnet.compare`, `measure` and `power` on what a program holds; answers in a notebook; what is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import popnet
from popnet.errors import ConfigError, DataError

A = [91.44, 91.80, 91.61, 91.48, 91.67]
B = [91.02, 91.55, 91.10, 91.31, 91.12]
LABELS = np.random.default_rng(0).integers(0, 4, 120)


def logits(skill: float, seed: int, runs: int = 6) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(runs, len(LABELS), 4))
    return (skill * np.eye(4)[LABELS] + noise).astype(np.float32)


GOOD, WORSE = logits(2.0, 1), logits(1.2, 2)
EXPECTED = popnet.metrics.compare(GOOD, WORSE, LABELS)


def evaluations(z: np.ndarray) -> list[Any]:
    return [SimpleNamespace(predictions=one, label_ids=LABELS) for one in z]


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        torch.tensor,
        lambda values: pd.DataFrame({"seed": range(5), "accuracy": values}),
    ],
    ids=["list", "tuple", "array", "Series", "tensor", "DataFrame"],
)
def test_numbers_of_each_run(wrap: Any) -> None:
    result = popnet.compare(wrap(A), wrap(B), metric="accuracy")
    assert result.difference == pytest.approx(0.38, rel=1e-4)
    assert result.sentence("mine", "theirs").startswith("mine is better than theirs by 0.38 points of accuracy")
    table = popnet.measure(wrap(A), metric="accuracy")
    assert table.loc["accuracy", "sd"] == pytest.approx(np.std(A, ddof=1), rel=1e-4)
    assert popnet.power(0.3, wrap(B), metric="accuracy").sds[0].sd_a == pytest.approx(np.std(B, ddof=1), rel=1e-4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: z,
        lambda z: z.astype(np.float64),
        torch.from_numpy,
        lambda z: torch.from_numpy(z).requires_grad_(),
        lambda z: {"logits": z, "labels": LABELS},
        list,
        evaluations,
    ],
    ids=["float32", "float64", "tensor", "gradients", "mapping", "list of arrays", "EvalPrediction"],
)
def test_logits(wrap: Any) -> None:
    a, b = wrap(GOOD), wrap(WORSE)
    own = isinstance(a, dict) or (isinstance(a, list) and hasattr(a[0], "label_ids"))
    result = popnet.compare(a, b, None if own else LABELS)
    assert result.metric == "accuracy"
    assert (result.difference, result.low, result.high) == pytest.approx((EXPECTED.difference, *EXPECTED.interval))
    table = popnet.measure(a, None if own else LABELS)
    expected = popnet.metrics.variability(GOOD, LABELS)
    assert table["disagreement"].tolist() == [expected.disagreement]
    assert table["accuracy_sd"].tolist() == pytest.approx([expected.accuracy_sd * np.sqrt(6 / 5)])


def test_predicted_classes_and_one_run_of_each() -> None:
    result = popnet.compare(GOOD.argmax(2), WORSE.argmax(2), LABELS)
    assert result.difference == pytest.approx(EXPECTED.difference)
    alone = popnet.compare(GOOD[0].argmax(1), WORSE[0].argmax(1), LABELS)
    assert (alone.method, alone.members_a, alone.examples) == ("mcnemar", 1, len(LABELS))
    assert "nothing about other seeds" in alone.sentence()


def test_an_unknown_name_says_larger_and_what_is_given_decides() -> None:
    assert "A is larger than B" in popnet.compare(A, B).sentence()
    assert "A is better than B" in popnet.compare(A, B, higher_is_better=True).sentence()
    assert "B is better than A" in popnet.compare(A, B, higher_is_better=False).sentence()
    assert "B is better than A" in popnet.compare(A, B, metric="rmse").sentence()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: popnet.compare(A, [*B[:2], float("nan")]), DataError, "run 2 is nan"),
        (lambda: popnet.compare([10**400, 1, 2], B), DataError, "beyond"),
        (lambda: popnet.compare(A, B, scale="Percent"), ConfigError, "'percent'"),
        (lambda: popnet.compare(A, B, where="model=a"), ConfigError, "mapping"),
        (lambda: popnet.compare(A, B, confidence="0.95"), ConfigError, "number"),
        (lambda: popnet.compare([1, 0] * 100, [1, 1] * 100), (ConfigError, DataError), "correct"),
        (lambda: popnet.compare(A, A), ConfigError, "twice"),
        (lambda: popnet.compare(A, list(A)), (ConfigError, DataError), "equal|same"),
        (lambda: popnet.compare([91.0] * 3, [92.0] * 3), DataError, "different seeds"),
        (lambda: popnet.compare(A, B, method="bootstrap", metric="f1", paired=True), ConfigError, "seeds"),
        (lambda: popnet.compare(A[:4], B, method="bootstrap"), DataError, "at least 5 runs"),
        (lambda: popnet.compare(GOOD, WORSE[:, :-1], LABELS), DataError, "labels"),
        (lambda: popnet.compare(GOOD, WORSE), (ConfigError, DataError), "label"),
        (lambda: popnet.compare(object(), B), ConfigError, "object"),
        (lambda: popnet.compare(A, B, wher={"a": 1}), ConfigError, "wher"),
        (lambda: popnet.power(0.3), ConfigError, "source"),
        (lambda: popnet.power(0.3, sd=float("nan")), ConfigError, "SD"),
        (lambda: popnet.power(0.3, sd=0.0), (ConfigError, ValueError), "0"),
        (lambda: popnet.power(float("nan"), sd=1.0), ConfigError, "difference"),
    ],
)
def test_what_is_wrong_is_named(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_what_was_read_is_said() -> None:
    printed = str(popnet.compare([0.91, 0.92, 0.93], [0.90, 0.905, 0.91], metric="accuracy"))
    assert printed.startswith("A: 3 runs (accuracy was given as fractions)\nB: 3 runs")
    assert "1.50 points of accuracy" in printed


def test_a_notebook_shows_answers(trained: popnet.Result) -> None:
    pages = [
        popnet.compare(A, B, metric="accuracy")._repr_html_(),
        popnet.power(0.3, sd=0.2)._repr_html_(),
        trained._repr_html_(),
        trained.store._repr_html_(),
    ]
    for page in pages:
        assert "<table" in page
        assert "<script" not in page
    assert "A is better than B by 0.38 points" in pages[0]
    assert "SD: n - 1" in pages[2]
    assert "done" in pages[3]


@pytest.mark.parametrize("command", ["compare a.csv b.csv", "measure a.csv", "compare a.npz b.npz"])
def test_tables_and_predictions_need_no_torch(command: str, tmp_path: Path) -> None:
    for name, values, z in (("a", A, GOOD), ("b", B, WORSE)):
        pd.DataFrame({"seed": range(5), "accuracy": values}).to_csv(tmp_path / f"{name}.csv", index=False)
        np.savez(tmp_path / f"{name}.npz", predictions=z.argmax(2), labels=LABELS)
    program = f"""
import sys
from popnet.cli import main
try:
    main({command.split()!r})
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = ["torch", "pandas", "scipy", "matplotlib", "popnet.native", "popnet.config", "popnet.store"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
