"""Files as people have them, with the faults that they have: for each the right value, or the sentence that refuses it.

Every case writes its files into an empty folder and runs one command there; `popnet compare --json` tells the values.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from popnet.cli import main

A = [91.44, 91.80, 91.61, 91.48, 91.67]
B = [91.02, 91.55, 91.10, 91.31, 91.12]
DIFFERENCE = np.mean(A) - np.mean(B)
SEEDS = [1, 2, 3, 4, 5]
EXAMPLES = 200


@dataclass(frozen=True)
class Case:
    """What is written, what is asked, and what is to come out: values of the first comparison, or words of an error.

    Attributes:
        name: of the case.
        write: writes the files into the current folder.
        words: of the command, after `popnet`.
        values: fields of the first answer; floats to a relative 1e-9.
        says: words that the sentence of the first answer holds, or the whole output where `text` is True.
        refused: words of the error, which ends the command with exit code 2.
    """

    name: str
    write: Callable[[], None]
    words: Sequence[str]
    values: dict[str, Any] = field(default_factory=dict)
    says: Sequence[str] = ()
    refused: Sequence[str] = ()
    text: bool = False


def table(file: str, columns: dict[str, Sequence[Any]], **options: Any) -> None:
    pd.DataFrame(columns).to_csv(file, index=False, **options)


def pair(
    metric: str = "accuracy", a: Sequence[Any] = A, b: Sequence[Any] = B, seeds: bool = True
) -> Callable[[], None]:
    """a.csv and b.csv with a seed and one metric."""

    def write() -> None:
        for file, values in (("a.csv", a), ("b.csv", b)):
            column = {"seed": list(range(1, len(values) + 1))} if seeds else {}
            table(file, {**column, metric: values})

    return write


def text(**files: str) -> Callable[[], None]:
    def write() -> None:
        for name, content in files.items():
            Path(name.replace("__", ".")).write_text(content)

    return write


def true_classes(classes: int = 4, examples: int = EXAMPLES) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, examples)


def logits(rate: float, runs: int = 5, seed: int = 0, examples: int = EXAMPLES) -> np.ndarray:
    random, labels = np.random.default_rng(seed), true_classes(examples=examples)
    right = random.random((runs, examples)) < rate
    return (random.normal(size=(runs, examples, 4)) + 6 * right[..., None] * (np.arange(4) == labels[:, None])).astype(
        np.float32
    )


GOOD, WORSE = logits(0.8, seed=1), logits(0.7, seed=2)
ACCURACIES = [100 * (z.argmax(2) == true_classes()).mean(1) for z in (GOOD, WORSE)]
ACCURACY_DIFFERENCE = ACCURACIES[0].mean() - ACCURACIES[1].mean()


def arrays(save: Callable[[str, np.ndarray, np.ndarray], None], a: Any = GOOD, b: Any = WORSE) -> Callable[[], None]:
    def write() -> None:
        save("a", a, true_classes())
        save("b", b, true_classes())

    return write


def npz(**more: Any) -> Callable[[str, np.ndarray, np.ndarray], None]:
    def save(name: str, z: np.ndarray, y: np.ndarray) -> None:
        np.savez(f"{name}.npz", **{"logits": z, "labels": y, **more})

    return save


def save_npy(name: str, z: np.ndarray, y: np.ndarray) -> None:
    np.save(f"{name}.npy", z)
    np.save("labels.npy", y)


def save_folder(name: str, z: np.ndarray, y: np.ndarray) -> None:
    Path(name).mkdir()
    for run, one in enumerate(z):
        np.save(f"{name}/run_{run}.npy", one)
    np.save("labels.npy", y)


def examples_table(
    rates: tuple[float, float] = (0.8, 0.7), examples: int = EXAMPLES, **more: Any
) -> Callable[[], None]:
    """One run of each, a row an example: a.csv and b.csv with id, label and prediction, in different orders."""

    def write() -> None:
        for seed, (file, rate) in enumerate(zip(("a.csv", "b.csv"), rates), start=1):
            predictions = logits(rate, 1, seed, examples)[0].argmax(1)
            frame = pd.DataFrame(
                {"id": range(examples), "label": true_classes(examples=examples), "prediction": predictions}
            )
            frame.assign(**more).sample(frac=1, random_state=seed).to_csv(file, index=False)

    return write


def harness(
    folder: str, rate: float, seed: int, task: str = "gsm8k", filters: Sequence[str] = ("none",), lost: int = 0
) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    lines = []
    for name in filters:
        for doc in random.permutation(100)[: 100 - lost]:
            record = {"doc_id": int(doc), "doc": {"q": f"question {doc}"}, "target": str(doc), "filter": name}
            record |= {"metrics": ["exact_match"], "doc_hash": f"{doc:x}", "target_hash": f"{doc:x}"}
            lines.append(json.dumps({**record, "exact_match": float(random.random() < rate)}))
    Path(folder, f"samples_{task}_2026-01-01T00-00-00.000000.jsonl").write_text("\n".join(lines) + "\n")


def two_harness(**options: Any) -> Callable[[], None]:
    def write() -> None:
        harness("a", 0.8, 1, **options)
        harness("b", 0.6, 2, **options)

    return write


def tidy() -> None:
    random = np.random.default_rng(3)
    rows = [
        {"experiment": f"exp{e:02d}", "seed": s, "accuracy": 90 + 0.1 * e + random.normal(0, 0.2)}
        for e in range(94)
        for s in range(5)
    ]
    pd.DataFrame(rows).to_csv("tidy.csv", index=False)


def tidy_difference(first: str, second: str) -> float:
    random = np.random.default_rng(3)
    values = {f"exp{e:02d}": [90 + 0.1 * e + random.normal(0, 0.2) for _ in range(5)] for e in range(94)}
    return float(np.mean(values[first]) - np.mean(values[second]))


def histories() -> None:
    for file, values in (("a.csv", A[:3]), ("b.csv", B[:3])):
        rows = [{"seed": s, "epoch": e, "accuracy": v - (9 - e)} for s, v in zip(SEEDS, values) for e in range(10)]
        pd.DataFrame(rows).to_csv(file, index=False)


def wandb() -> None:
    random = np.random.default_rng(4)
    rows = [
        {"Name": f"{model}-{s}", "State": "finished", "Created": f"2026-01-0{s}", "seed": s, "config.model": model}
        | {"val_acc": 0.9 + 0.01 * (model == "big") + random.normal(0, 0.002)}
        for model in ("big", "small")
        for s in SEEDS
    ]
    pd.DataFrame(rows).to_csv("wandb.csv", index=False)


def mlflow() -> None:
    rows = [
        {"run_id": f"{m}{s}abc", "params.lr": lr, "params.seed": s, "metrics.val_loss": loss + 0.01 * spread * s}
        for m, lr, loss, spread in (("x", 0.1, 0.4, 0.2), ("y", 0.01, 0.5, 0.1))
        for s in SEEDS
    ]
    pd.DataFrame(rows).to_csv("mlflow.csv", index=False)


COMPARE = ("compare", "a.csv", "b.csv")

DIRECTIONS_LOWER = (
    *("rmse", "mse", "mae", "mape", "wer", "cer", "ter", "fid", "bits_per_byte", "brier", "ece", "latency", "top1_err"),
    *("val_loss", "eval/perplexity", "test_ppl", "nll", "error_rate"),
)
DIRECTIONS_HIGHER = (
    "val_acc",
    "Top-1 Accuracy",
    "exact_match,strict-match",
    "test/f1",
    "eval_bleu",
    "AUROC",
    "R2",
    "psnr",
)
UNKNOWN = ("error_free_rate", "lossless_ratio", "entropy_reduction", "score", "wasserstein", "terrain")

SMALL_A, SMALL_B = [0.51, 0.53, 0.52, 0.55, 0.50], [0.41, 0.44, 0.40, 0.42, 0.43]

CASES = [
    # Directions.
    *(
        Case(f"lower is better: {m}", pair(m, SMALL_A, SMALL_B), COMPARE, {"higher_is_better": False}, ["B is better"])
        for m in DIRECTIONS_LOWER
    ),
    *(
        Case(f"higher is better: {m}", pair(m, SMALL_A, SMALL_B), COMPARE, {"higher_is_better": True}, ["A is better"])
        for m in DIRECTIONS_HIGHER
    ),
    *(
        Case(
            f"unknown: {m}", pair(m, SMALL_A, SMALL_B), COMPARE, {"higher_is_better": None}, ["A is larger", "--higher"]
        )
        for m in UNKNOWN
    ),
    Case("told: lower", pair("score", SMALL_A, SMALL_B), [*COMPARE, "--lower-is-better"], says=["B is better"]),
    Case("told: higher", pair("val_loss", SMALL_A, SMALL_B), [*COMPARE, "--higher-is-better"], says=["A is better"]),
    # Tables of one row a run.
    Case("plain", pair(), COMPARE, {"difference": DIFFERENCE, "method": "paired", "members_a": 5}),
    Case("unpaired", pair(), [*COMPARE, "--unpaired"], {"difference": DIFFERENCE, "method": "welch"}),
    Case("no seeds", pair(seeds=False), COMPARE, {"difference": DIFFERENCE, "method": "welch"}),
    Case(
        "other order of seeds",
        lambda: (
            table("a.csv", {"seed": SEEDS, "accuracy": A}),
            table("b.csv", {"seed": SEEDS[::-1], "accuracy": B[::-1]}),
        ),
        COMPARE,
        {"difference": DIFFERENCE, "wins": 1.0, "method": "paired"},
    ),
    Case(
        "seeds as text and as floats",
        lambda: (
            table("a.csv", {"seed": ["1.0", "2.0", "3.0", "4.0", "5.0"], "accuracy": A}),
            Path("b.jsonl").write_text(
                "".join(json.dumps({"seed": str(s), "accuracy": b}) + "\n" for s, b in zip(SEEDS, B))
            ),
        ),
        ["compare", "a.csv", "b.jsonl"],
        {"difference": DIFFERENCE, "method": "paired"},
    ),
    Case(
        "trailing comma",
        lambda: (
            Path("a.csv").write_text("seed,accuracy,\n" + "".join(f"{s},{a},\n" for s, a in zip(SEEDS, A))),
            Path("b.csv").write_text("seed,accuracy\n" + "".join(f"{s},{b},\n" for s, b in zip(SEEDS, B))),
        ),
        COMPARE,
        {"difference": DIFFERENCE},
    ),
    Case(
        "semicolons and decimal commas",
        lambda: [
            table(f, {"seed": SEEDS, "accuracy": v}, sep=";", decimal=",") for f, v in (("a.csv", A), ("b.csv", B))
        ],
        COMPARE,
        {"difference": DIFFERENCE, "mean_a": np.mean(A)},
    ),
    Case(
        "thousands or decimals",
        text(a__csv="seed;score\n1;1,234\n2;1,235\n3;1,299\n", b__csv="seed;score\n1;1,134\n2;1,135\n3;1,199\n"),
        COMPARE,
        refused=["a.csv", "1,234"],
    ),
    Case(
        "tabs",
        lambda: [table(f, {"seed": SEEDS, "accuracy": v}, sep="\t") for f, v in (("a.tsv", A), ("b.csv", B))],
        ["compare", "a.tsv", "b.csv"],
        {"difference": DIFFERENCE},
    ),
    Case(
        "gzip",
        lambda: [
            Path(f).write_bytes(
                gzip.compress(("seed,accuracy\n" + "".join(f"{s},{x}\n" for s, x in zip(SEEDS, v))).encode())
            )
            for f, v in (("a.csv.gz", A), ("b.csv.gz", B))
        ],
        ["compare", "a.csv.gz", "b.csv.gz"],
        {"difference": DIFFERENCE},
    ),
    Case(
        "byte order mark",
        lambda: [
            table(f, {"seed": SEEDS, "accuracy": v}, encoding="utf-8-sig") for f, v in (("a.csv", A), ("b.csv", B))
        ],
        COMPARE,
        {"difference": DIFFERENCE, "method": "paired"},
    ),
    Case(
        "row numbers of pandas",
        lambda: [pd.DataFrame({"seed": SEEDS, "accuracy": v}).to_csv(f) for f, v in (("a.csv", A), ("b.csv", B))],
        COMPARE,
        {"difference": DIFFERENCE},
    ),
    Case(
        "row names of R",
        text(a__csv="seed,accuracy\nr1,1,91\nr2,2,92\n", b__csv="seed,accuracy\n1,90\n2,91\n"),
        COMPARE,
        refused=["a.csv", "header", "2 names"],
    ),
    Case(
        "a cell too many",
        text(a__csv="seed,accuracy\n1,91\n2,92,3\n", b__csv="seed,accuracy\n1,90\n2,91\n"),
        COMPARE,
        refused=["a.csv", "line 3"],
    ),
    Case(
        "twice one column",
        text(a__csv="seed,accuracy,accuracy\n1,91,92\n2,92,93\n", b__csv="seed,accuracy\n1,9\n2,8\n"),
        COMPARE,
        refused=["a.csv", "accuracy"],
    ),
    Case(
        "bare numbers",
        text(a__csv="".join(f"{a}\n" for a in A), b__csv="".join(f"{b}\n" for b in B)),
        COMPARE,
        {"difference": DIFFERENCE, "members_a": 5, "higher_is_better": None},
    ),
    Case("not a number", pair(a=[91.0, math.nan, 92.0]), COMPARE, refused=["a.csv", "accuracy"]),
    Case("infinite", pair("loss", [1.0, math.inf, 2.0], [1.0, 2.0, 3.0]), COMPARE, refused=["a.csv", "loss"]),
    Case("text for a number", pair(a=["91.0", "high", "92.0"]), COMPARE, refused=["a.csv", "accuracy"]),
    Case(
        "several metrics",
        lambda: [table(f, {"seed": SEEDS, "accuracy": v, "loss": SMALL_A}) for f, v in (("a.csv", A), ("b.csv", B))],
        COMPARE,
        refused=["a.csv", "--metric", "accuracy", "loss"],
    ),
    Case(
        "a metric named",
        lambda: [
            table(f, {"seed": SEEDS, "accuracy": v, "loss": w})
            for f, v, w in (("a.csv", A, SMALL_A), ("b.csv", B, SMALL_B))
        ],
        [*COMPARE, "--metric", "loss"],
        {"metric": "loss", "difference": np.mean(SMALL_A) - np.mean(SMALL_B)},
        ["B is better"],
    ),
    Case("a metric misspelt", pair(), [*COMPARE, "--metric", "acuracy"], refused=["did you mean 'accuracy'"]),
    Case("no such file", pair(), ["compare", "a.csv", "none.csv"], refused=["none.csv", "no such file"]),
    Case("the same file twice", pair(), ["compare", "a.csv", "a.csv"], refused=["a.csv", "twice"]),
    Case(
        "a copied file",
        lambda: [table(f, {"seed": SEEDS, "accuracy": A}) for f in ("a.csv", "b.csv")],
        COMPARE,
        refused=["a.csv", "equal one by one"],
    ),
    Case(
        "parquet",
        lambda: [
            pd.DataFrame({"seed": SEEDS, "accuracy": v}).to_parquet(f) for f, v in (("a.parquet", A), ("b.parquet", B))
        ],
        ["compare", "a.parquet", "b.parquet"],
        {"difference": DIFFERENCE},
    ),
    # Rows that are not runs.
    Case("tidy table, whole", tidy, ["compare", "tidy.csv", "tidy.csv:exp01"], refused=["tidy.csv", "experiment"]),
    Case(
        "tidy table, groups",
        tidy,
        ["compare", "tidy.csv:exp90", "tidy.csv:exp10"],
        {"difference": tidy_difference("exp90", "exp10"), "members_a": 5, "method": "paired"},
    ),
    Case("tidy table, unknown group", tidy, ["compare", "tidy.csv:exp90", "tidy.csv:exp99"], refused=["exp99"]),
    Case("tidy table, twice one group", tidy, ["compare", "tidy.csv:exp90", "tidy.csv:exp90"], refused=["twice"]),
    Case("history", histories, COMPARE, refused=["a.csv", "epoch", "--last"]),
    Case(
        "history, last rows",
        histories,
        [*COMPARE, "--last"],
        {"difference": np.mean(A[:3]) - np.mean(B[:3]), "members_a": 3},
    ),
    Case(
        "repeated seeds",
        lambda: [table(f, {"seed": [1, 1, 2, 2], "accuracy": v[:4]}) for f, v in (("a.csv", A), ("b.csv", B))],
        COMPARE,
        refused=["a.csv", "seed"],
    ),
    Case(
        "Weights & Biases, whole",
        wandb,
        ["compare", "wandb.csv", "wandb.csv:big"],
        refused=["wandb.csv", "config.model"],
    ),
    Case(
        "Weights & Biases, groups",
        wandb,
        ["compare", "wandb.csv:big", "wandb.csv:small", "--metric", "val_acc"],
        {"members_a": 5, "unit": "points", "higher_is_better": True},
        ["A is better"],
    ),
    Case(
        "Weights & Biases, all groups",
        wandb,
        ["compare", "wandb.csv", "--group", "config.model", "--metric", "val_acc"],
        {"members_a": 5},
    ),
    Case(
        "MLflow",
        mlflow,
        ["compare", "mlflow.csv:0.1", "mlflow.csv:0.01", "--group", "params.lr", "--metric", "metrics.val_loss"],
        {"difference": -0.097, "members_a": 5, "method": "paired"},
        ["A is better"],
    ),
    Case(
        "MLflow, --where",
        mlflow,
        ["measure", "mlflow.csv", "--where", "params.lr=0.1", "--metric", "metrics.val_loss"],
        {"mean": 0.406, "members": 5},
    ),
    Case(
        "rows of two groups",
        lambda: [table(f, {"model": ["x", "x", "y", "y"], "accuracy": v[:4]}) for f, v in (("a.csv", A), ("b.csv", B))],
        COMPARE,
        refused=["a.csv", "model"],
    ),
    Case(
        "groups that do not matter",
        lambda: [table(f, {"model": ["x", "x", "y", "y"], "accuracy": v[:4]}) for f, v in (("a.csv", A), ("b.csv", B))],
        [*COMPARE, "--ignore", "model"],
        {"difference": np.mean(A[:4]) - np.mean(B[:4])},
    ),
    # Scale.
    Case(
        "fractions",
        pair(a=[a / 100 for a in A], b=[b / 100 for b in B]),
        COMPARE,
        {"difference": DIFFERENCE},
        ["points"],
    ),
    Case("fractions against percent", pair(a=[a / 100 for a in A]), COMPARE, refused=["a.csv", "b.csv", "percent"]),
    Case("fractions among percents", pair(a=[0.9144, 91.8, 91.6, 91.5, 91.6]), COMPARE, refused=["a.csv", "percent"]),
    Case(
        "unknown fractions against percent", pair("score", [a / 100 for a in A]), COMPARE, refused=["score", "percent"]
    ),
    Case("an accuracy of 250", pair(a=[250.0, 260.0, 255.0, 251.0, 252.0]), COMPARE, refused=["a.csv", "250"]),
    # One scale for all that a file holds, and none that is guessed.
    Case(
        "percent of a hard task",
        lambda: [
            table(f, {"task": ["a", "a", "b", "b"], "seed": [1, 2, 1, 2], "acc": v})
            for f, v in (("a.csv", [90.0, 91.0, 0.5, 0.8]), ("b.csv", [90.5, 91.2, 0.6, 0.3]))
        ],
        COMPARE,
        {"task": "a", "mean_a": 90.5, "unit": "points"},
    ),
    Case("an error rate below 1", pair("error_rate", [0.31, 0.28, 0.30], [0.35, 0.36, 0.33]), COMPARE, {"unit": ""}),
    Case(
        "an error rate below 1, in percent",
        pair("error_rate", [0.31, 0.28, 0.30], [0.35, 0.36, 0.33]),
        [*COMPARE, "--scale", "percent"],
        {"unit": "points", "mean_b": 1.04 / 3},
    ),
    Case("error rates of two scales", pair("err", [5.1, 5.2, 5.0], [0.31, 0.30, 0.33]), COMPARE, refused=["percent"]),
    Case(
        "word error rates of two scales", pair("wer", [5.1, 5.2, 5.0], [0.31, 0.3, 0.33]), COMPARE, refused=["percent"]
    ),
    Case("an option that nothing takes", pair(), [*COMPARE, "--labels", "a.csv"], refused=["--labels", "arrays"]),
    # Too little to say.
    Case("one number each", pair(a=A[:1], b=B[:1]), COMPARE, refused=["one run"]),
    Case("one number against five", pair(a=A[:1]), COMPARE, refused=["a.csv"]),
    Case("three copies of one run", pair(a=[91.2] * 3, b=[91.5] * 3), COMPARE, refused=["a.csv", "seeds"]),
    Case("three copies against runs", pair(a=[91.2] * 3, b=B[:3]), COMPARE, refused=["a.csv", "seeds"]),
    Case("bootstrap of three", pair(a=A[:3], b=B[:3]), [*COMPARE, "--bootstrap"], refused=["bootstrap"]),
    Case(
        "equal but for rounding",
        pair("loss", [0.1 + 0.2, 0.4, 0.5], [0.4, 0.5, 0.3]),
        [*COMPARE, "--unpaired"],
        says=["the same mean"],
    ),
    Case("SD of nan", pair(), ["power", "--difference", "1", "--sd", "nan"], refused=["--sd"]),
    Case("a difference of nan", pair(), ["power", "--difference", "nan", "--sd", "1"], refused=["--difference"]),
    Case("power of copies", pair(a=[91.2] * 3), ["power", "--difference", "1", "--from", "a.csv"], refused=["a.csv"]),
    Case(
        "power of not-a-number",
        pair(a=[91.0, math.nan, 92.0]),
        ["power", "--difference", "1", "--from", "a.csv"],
        refused=["a.csv", "accuracy"],
    ),
    Case(
        "power of a table",
        pair("f1", SMALL_A, SMALL_B),
        ["power", "--difference", "0.1", "--from", "a.csv"],
        {"difference": 0.1},
    ),
    Case(
        "one SD everywhere", pair(), ["measure", "a.csv"], {"sd": np.std(A, ddof=1), "mean": np.mean(A), "members": 5}
    ),
    # Arrays.
    *(
        Case(
            f"logits: {name}",
            arrays(save),
            ["compare", *sources],
            {"difference": ACCURACY_DIFFERENCE, "metric": "accuracy", "members_a": 5},
        )
        for name, save, sources in (
            ("npz", npz(), ("a.npz", "b.npz")),
            ("npy, labels beside them", save_npy, ("a.npy", "b.npy")),
            ("a folder, labels named", save_folder, ("a", "b", "--labels", "labels.npy")),
            (
                "pt",
                lambda n, z, y: torch.save(
                    {"logits": torch.tensor(z, requires_grad=True), "labels": torch.tensor(y)}, f"{n}.pt"
                ),
                ("a.pt", "b.pt"),
            ),
            (
                "safetensors",
                lambda n, z, y: save_file({"logits": z, "labels": y}, f"{n}.safetensors"),
                ("a.safetensors", "b.safetensors"),
            ),
            ("float64", lambda n, z, y: np.savez(f"{n}.npz", logits=z.astype(float), labels=y), ("a.npz", "b.npz")),
            (
                "float64 beyond float32",
                lambda n, z, y: np.savez(f"{n}.npz", logits=1e200 * z.astype(float), labels=y),
                ("a.npz", "b.npz"),
            ),
            (
                "EvalPrediction's names",
                lambda n, z, y: np.savez(f"{n}.npz", predictions=z, label_ids=y),
                ("a.npz", "b.npz"),
            ),
            (
                "predicted classes",
                lambda n, z, y: np.savez(f"{n}.npz", predictions=z.argmax(2), labels=y),
                ("a.npz", "b.npz"),
            ),
            ("right answers", lambda n, z, y: np.savez(f"{n}.npz", correct=z.argmax(2) == y), ("a.npz", "b.npz")),
            ("errors", lambda n, z, y: np.savez(f"{n}.npz", errors=z.argmax(2) != y), ("a.npz", "b.npz")),
        )
    ),
    Case(
        "bare booleans",
        arrays(lambda n, z, y: np.save(f"{n}.npy", z.argmax(2) == y)),
        ["compare", "a.npy", "b.npy"],
        refused=["a.npy", "correct"],
    ),
    Case(
        "a pickle",
        lambda: [Path(f).write_bytes(b"\x80\x04]\x94.") for f in ("a.pkl", "b.pkl")],
        ["compare", "a.pkl", "b.pkl"],
        refused=["a.pkl", "pickle"],
    ),
    Case(
        "logits that are not numbers",
        arrays(npz(), a=np.where(np.arange(4) == 2, np.nan, GOOD)),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "run 0, example 0, class 2", "NaN"],
    ),
    Case(
        "infinite logits",
        arrays(npz(), b=np.where(WORSE.max() == WORSE, np.inf, WORSE)),
        ["compare", "a.npz", "b.npz"],
        refused=["b.npz", "infinite"],
    ),
    Case(
        "probabilities",
        arrays(
            npz(),
            a=torch.softmax(torch.tensor(GOOD).double(), 2).numpy(),
            b=torch.softmax(torch.tensor(WORSE).double(), 2).numpy(),
        ),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "--probabilities"],
    ),
    Case(
        "probabilities, said",
        arrays(
            npz(),
            a=torch.softmax(torch.tensor(GOOD).double(), 2).numpy(),
            b=torch.softmax(torch.tensor(WORSE).double(), 2).numpy(),
        ),
        ["compare", "a.npz", "b.npz", "--probabilities", "--metric", "cross_entropy"],
        {
            "mean_a": float(
                torch.nn.functional.cross_entropy(
                    torch.tensor(GOOD).double().reshape(-1, 4), torch.tensor(np.tile(true_classes(), 5))
                )
            )
        },
    ),
    Case(
        "no labels",
        lambda: (Path("x").mkdir(), np.save("x/a.npy", GOOD), Path("y").mkdir(), np.save("y/b.npy", WORSE)),
        ["compare", "x/a.npy", "y/b.npy"],
        refused=["a.npy", "--labels"],
    ),
    Case(
        "labels of halves",
        arrays(npz(labels=true_classes() + 0.5)),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "label of example 0"],
    ),
    Case(
        "labels of -100",
        arrays(npz(labels=np.where(np.arange(EXAMPLES) == 7, -100, true_classes()))),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "label of example 7 is -100"],
    ),
    Case(
        "labels beyond the classes",
        arrays(npz(labels=true_classes() + 1)),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "beyond the 4 classes"],
    ),
    Case(
        "labels of another test",
        arrays(lambda n, z, y: np.savez(f"{n}.npz", logits=z, labels=(y + (n == "b")) % 4)),
        ["compare", "a.npz", "b.npz"],
        refused=["different labels"],
    ),
    Case(
        "more examples than the other",
        lambda: (
            np.savez("a.npz", logits=GOOD, labels=true_classes()),
            np.savez("b.npz", logits=WORSE[:, :150], labels=true_classes()[:150]),
        ),
        ["compare", "a.npz", "b.npz"],
        refused=["200 and 150 examples"],
    ),
    Case(
        "copies of one run among runs",
        arrays(npz(), a=np.concatenate([GOOD, GOOD[:2]])),
        ["compare", "a.npz", "b.npz"],
        {"members_a": 5, "difference": ACCURACY_DIFFERENCE},
    ),
    Case(
        "copies of one run",
        arrays(npz(), a=np.repeat(GOOD[:1], 3, 0)),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz"],
    ),
    Case(
        "runs of the other",
        arrays(npz(), b=np.concatenate([GOOD[:1], WORSE])),
        ["compare", "a.npz", "b.npz"],
        refused=["a.npz", "b.npz", "same"],
    ),
    # One run against one run.
    Case(
        "one run each, by id",
        examples_table(),
        COMPARE,
        {"method": "mcnemar", "examples": EXAMPLES, "members_a": 1, "metric": "accuracy"},
        ["nothing about other seeds"],
    ),
    Case(
        "an example that one lacks",
        lambda: (examples_table()(), pd.read_csv("b.csv").query("id != 7").to_csv("b.csv", index=False)),
        COMPARE,
        refused=["b.csv", "lacks 1", "7", "--intersect"],
    ),
    Case(
        "an example that one lacks, left out",
        lambda: (examples_table()(), pd.read_csv("b.csv").query("id != 7").to_csv("b.csv", index=False)),
        [*COMPARE, "--intersect"],
        {"examples": EXAMPLES - 1},
    ),
    Case(
        "other labels by id",
        lambda: (
            examples_table()(),
            pd.read_csv("b.csv").assign(label=lambda f: (f.label + 1) % 4).to_csv("b.csv", index=False),
        ),
        COMPARE,
        refused=["different labels"],
    ),
    Case(
        "clusters",
        examples_table(document=np.arange(EXAMPLES) // 10),
        [*COMPARE, "--cluster", "document"],
        {"method": "clusters", "clusters": 20},
    ),
    Case(
        "twice one example",
        lambda: (examples_table()(), pd.concat([pd.read_csv("a.csv")] * 2).to_csv("a.csv", index=False)),
        COMPARE,
        refused=["a.csv", "id"],
    ),
    Case(
        "squared errors by example",
        lambda: [
            table(f, {"example_id": range(50), "squared_error": np.random.default_rng(s).random(50) + s})
            for s, f in enumerate(("a.csv", "b.csv"))
        ],
        COMPARE,
        {"method": "examples", "higher_is_better": False},
        ["A is better"],
    ),
    # Evaluation logs.
    Case(
        "lm-evaluation-harness",
        two_harness(),
        ["compare", "a", "b"],
        {"examples": 100, "metric": "exact_match", "method": "mcnemar"},
        ["A is better"],
    ),
    Case(
        "lm-evaluation-harness, two filters",
        two_harness(filters=("strict-match", "flexible-extract")),
        ["compare", "a", "b", "--metric", "exact_match,strict-match"],
        {"examples": 100},
    ),
    Case(
        "lm-evaluation-harness, a document less",
        lambda: (harness("a", 0.8, 1), harness("b", 0.6, 2, lost=1)),
        ["compare", "a", "b"],
        refused=["b", "lacks 1", "--intersect"],
    ),
    Case(
        "lm-evaluation-harness, two tasks",
        lambda: [harness(f, r, s, t) for f, r, s in (("a", 0.9, 1), ("b", 0.5, 2)) for t in ("gsm8k", "arc")],
        ["compare", "a", "b"],
        {"task": "arc", "examples": 100},
    ),
    Case(
        "lm-evaluation-harness, a task less",
        lambda: (harness("a", 0.8, 1), harness("a", 0.8, 3, "arc"), harness("b", 0.6, 2)),
        ["compare", "a", "b"],
        refused=["arc", "--intersect"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_right_value_or_its_sentence(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    case.write()
    with pytest.raises(SystemExit) as ended:
        main([*case.words, "--json"])
    printed = capsys.readouterr()
    if case.refused:
        assert ended.value.code == 2, printed.out + printed.err
        assert not printed.out
        assert len(printed.err.strip().splitlines()) == 1, printed.err
        for words in case.refused:
            assert words in printed.err
        return
    assert ended.value.code in (None, 0), printed.err
    answer = json.loads(printed.out)
    first = answer[0] if isinstance(answer, list) else answer
    for name, value in case.values.items():
        assert first[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name
    for words in case.says:
        assert words in first["sentence"]


def test_there_are_enough_cases() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 60
