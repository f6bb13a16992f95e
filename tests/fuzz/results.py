"""Results from other people: tables of runs and of answers, in several forms; logs of evaluations."""

from __future__ import annotations

import gzip
import io
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from popnet.questions import Judging, compare_sources, describe_source
from popnet.results.evaluations.logs import runs_of_evaluation
from popnet.results.found import Options
from popnet.results.tables.files import read_table
from popnet.results.tables.layout import runs_of_table

from .arrays import every
from .loaders import Loader

_RUNS = pd.DataFrame({"model": ["a"] * 3 + ["b"] * 3, "seed": [1, 2, 3] * 2, "accuracy": [0.91, 0.92, 0.9, 93, 94, 95]})
_HISTORY = pd.DataFrame({"run": ["x", "x", "y", "y"], "epoch": [1, 2, 1, 2], "val_loss": [0.9, 0.5, 0.8, 0.6]})
_ANSWERS = pd.DataFrame(
    {"id": range(8), "label": [0, 1] * 4, "prediction": [0, 1, 1, 1, 0, 0, 0, 1], "doc": [1, 2] * 4}
)
_OPTIONS = (
    Options(),
    Options(metrics=("accuracy",), where=(("model", "a"),)),
    Options(last=True, ignore=("model",)),
    Options(id_column="id", cluster="doc"),
    Options(seed_column="seed", task_column="model"),
)
_CELLS = ("nan", "1,5", "1.234,5", "", '"', "1e999", "=1+1", "93%", "0x10", "\u0663", "True", "-0", "1_000", "a" * 300)


def _cell(draw: random.Random, content: bytearray) -> None:
    """A cell of a table, by one that numbers are awkwardly written in."""
    places = [place for place, byte in enumerate(content) if byte in b",;\t\n"]
    if len(places) > 1:
        first = draw.randrange(len(places) - 1)
        content[places[first] + 1 : places[first + 1]] = draw.choice(_CELLS).encode()


def _line(draw: random.Random, content: bytearray) -> None:
    """A line twice, or one less."""
    lines = content.split(b"\n")
    place = draw.randrange(len(lines))
    lines[place : place + 1] = draw.choice(([], [lines[place], lines[place]]))
    content[:] = b"\n".join(lines)


class Tables(Loader):
    changes = (_cell, _line)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        frames = (_RUNS, _HISTORY, _ANSWERS)
        lines = [frame.to_json(orient="records", lines=True).encode() for frame in frames]
        parquet = io.BytesIO()
        _RUNS.to_parquet(parquet)
        self.samples = (
            *(frame.to_csv(index=False).encode() for frame in frames),
            _RUNS.to_csv(index=False, sep=";", decimal=",").encode(),
            _RUNS.to_csv(sep="\t").encode("utf-16"),
            *lines,
            gzip.compress(frames[0].to_csv(index=False).encode()),
            parquet.getvalue(),
        )

    def load(self, content: bytes, number: int) -> None:
        ending = ".parquet" if content[:4] == b"PAR1" else ".jsonl" if content[:1] == b"{" else ".csv"
        path = self.folder / f"input{ending}{'.gz' if content[:2] == bytes([31, 139]) else ''}"
        path.write_bytes(content)
        every(
            *(partial(_read, path, options) for options in _OPTIONS),
            lambda: compare_sources([f"{path}:a", f"{path}:b"], Options(metrics=("accuracy",)), Judging()),
            lambda: describe_source(path, Options(last=True)),
        )


def _read(path: Path, options: Options) -> None:
    for runs in runs_of_table(read_table(path), None, options):
        for metric, sample in runs.samples.items():
            assert np.isfinite(sample.values).all(), metric


class Logs(Loader):
    changes = (_line,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        records = [
            {"doc_id": doc, "doc": {"q": f"q{doc}"}, "target": str(doc), "filter": name, "metrics": ["exact_match"]}
            | {"doc_hash": f"{doc:x}", "target_hash": f"{doc:x}", "exact_match": float(doc % 2)}
            for name in ("strict", "flexible")
            for doc in range(5)
        ]
        samples = [
            {"id": doc, "epoch": epoch, "target": "C", "scores": {"match": {"value": "C" if doc % 2 else "I"}}}
            for doc in range(4)
            for epoch in (1, 2)
        ]
        header = {"version": 2, "status": "success", "eval": {"task": "t", "model": "m", "dataset": {}}}
        self.samples = (
            "".join(json.dumps(record) + "\n" for record in records).encode(),
            json.dumps(
                {"results": {"t": {"acc,none": 0.5, "acc_stderr,none": 0.1}}, "config": {"model": "m"}}
            ).encode(),
            json.dumps({**header, "samples": samples}).encode(),
        )

    def load(self, content: bytes, number: int) -> None:
        name = "samples_t_2026-01-01T00-00-00.000000.jsonl" if content[:9] == b'{"doc_id"' else "log.json"
        path = self.folder / name
        path.write_bytes(content)
        every(
            lambda: runs_of_evaluation(path, Options()),
            lambda: runs_of_evaluation(path, Options(where=(("filter", "strict"),), cluster="doc.q")),
        )
