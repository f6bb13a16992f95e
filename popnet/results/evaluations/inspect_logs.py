"""Logs of Inspect: `.eval`, a zip of JSON files with one for a sample, and `.json`, all of it in one.

A sample has `id`, `epoch` and `scores`, the value of each scorer: "C", "I", "P" and "N" (correct, incorrect, partly, no
answer), a number, or a mapping of such. Epochs are repeats of a sample within one run.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popnet.errors import ConfigError, DataError, nearest
from popnet.memory import available_memory
from popnet.results.evaluations.graded import (
    MISSING,
    Answer,
    GradedRun,
    NotThere,
    collect,
    field,
    fingerprint,
    identity,
    number,
    same_text,
    text_of,
)
from popnet.results.found import Options
from popnet.untrusted.files import check_regular, read_bytes
from popnet.untrusted.texts import JSON_BYTES, parse_json

_GRADES = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTANDARD = 93
_SAMPLE_NAME = re.compile(r"_epoch_\d+\.json$")
_FACTS = ("task_args", "task_version", "solver", "solver_args", "model_args", "model_generate_config")
"""Of a log's `eval`: what is equal in all runs of one population, seeds aside."""


@dataclass(frozen=True)
class Header:
    """What a log says of its evaluation.

    Attributes:
        task, model: their names.
        task_id: equal in the log of an evaluation and in that of its retry, which holds the first one's samples.
        status: `success`, or why the evaluation ended.
        facts: by name, what is equal in all runs of one population.
    """

    task: str
    model: str
    task_id: str
    status: str
    facts: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Raises DataError where a log cannot be read."""
    content = _whole(path) if path.suffix == ".json" else _entry(path, "header.json")
    spec = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(spec, dict):
        raise DataError(f"{path}: is no log of Inspect: it has no `eval`")
    facts = {name: _plain(spec.get(name)) for name in _FACTS}
    dataset = spec.get("dataset")
    facts["dataset"] = _plain(dataset.get("name") if isinstance(dataset, dict) else None)
    return Header(
        task=str(spec.get("task") or ""),
        model=str(spec.get("model") or ""),
        task_id=str(spec.get("task_id") or ""),
        status=str(content.get("status") or ""),
        facts=facts,
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key}={_plain(value[key])}" for key in sorted(value) if key != "seed" and value[key] is not None
        )
    return "" if value is None else str(value)


def read_log(path: Path, header: Header, options: Options) -> GradedRun:
    """The answers in one log.

    Raises:
        DataError: what is wrong with the log; what `collect` refuses.
        NotThere: no sample has what `--where` names.
        ConfigError: `--cluster` or `--id-column` names a field that a sample lacks.
    """
    matched_by = options.id_column or "id"
    unscored: list[str] = []
    where = [(name, value) for name, value in options.where if name not in ("task", "model")]
    seen: dict[str, set[str]] = {name: set() for name, _ in where}
    answers = _answers(path, options, where, seen, unscored)
    marks: tuple[str, ...] = ()
    if header.status not in ("success", ""):
        marks += (f"the evaluation's status is {header.status!r}",)
    run = collect(str(path), answers, options, matched_by)
    if not run.ids and options.keep is None:
        for name, value in where:
            if seen[name] and not any(same_text(v, value) for v in seen[name]):
                raise NotThere(str(path), f"--where {name}={value}: no sample has it; {nearest(value, seen[name])}")
            if not seen[name]:
                raise NotThere(str(path), f"--where {name}={value}: no sample has a field {name!r}")
        raise DataError(f"{path}: holds no sample with a score{f': {unscored[0]}' if unscored else ''}")
    if unscored:
        marks += (f"{len(unscored):,} answers without a score are left out, as {unscored[0]}",)
    return GradedRun(
        run.place, run.ids, run.scores, run.left_out, run.contents, run.clusters, marks + run.marks
    )  # fmt: skip


def _answers(
    path: Path, options: Options, where: list[tuple[str, str]], seen: dict[str, set[str]], unscored: list[str]
) -> Iterator[Answer]:
    for at, sample in _samples(path):
        if not isinstance(sample, dict) or "id" not in sample:
            raise DataError(f"{at}: is no sample of Inspect: it has no `id`")
        if not _picked(sample, where, seen):
            continue
        key, epoch = _required(at, sample, options.id_column or "id"), text_of(sample.get("epoch", 1))
        values, unusable = _scores(sample)
        if not values and (not unusable or all(why.startswith("is nan") for why in unusable.values())):
            why = "ended with an error" if sample.get("error") else "has no score"
            unscored.append(f"`id` {text_of(key)} in epoch {epoch}, which {why}")
            continue
        yield Answer(
            id=identity(at, key, options.id_column or "id"),
            values=values,
            unusable=unusable,
            repeat=epoch,
            content=_content(sample),
            cluster=text_of(_required(at, sample, options.cluster)) if options.cluster else None,
        )


def _picked(sample: Mapping[str, Any], where: list[tuple[str, str]], seen: dict[str, set[str]]) -> bool:
    picked = True
    for name, wanted in where:
        value = field(sample, name, ("metadata",))
        if value is MISSING:
            picked = False
            continue
        if len(seen[name]) < 20:
            seen[name].add(text_of(value)[:60])
        picked &= same_text(value, wanted)
    return picked


def _required(at: str, sample: Mapping[str, Any], name: str) -> Any:
    value = field(sample, name, ("metadata",))
    if value is MISSING:
        metadata = sample.get("metadata")
        known = [*sample, *(f"metadata.{key}" for key in metadata)] if isinstance(metadata, dict) else list(sample)
        raise ConfigError(f"{at}: has no field {name!r}; {nearest(name, known)}")
    return value


def _scores(sample: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """By metric, `SCORER` or `SCORER.KEY`: the numbers, and why others are none."""
    scores = sample.get("scores")
    if not isinstance(scores, dict):
        scores = {"score": sample["score"]} if isinstance(sample.get("score"), dict) else {}
    values: dict[str, float] = {}
    unusable: dict[str, str] = {}
    for scorer, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else None
        parts = {f"{scorer}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {scorer: value}
        for metric, part in parts.items():
            grade = _graded(part)
            if isinstance(grade, str):
                unusable[metric] = grade
            else:
                values[metric] = grade
    return values, unusable


def _graded(value: Any) -> float | str:
    if not isinstance(value, str):
        return number(value)
    if value.lower() in _GRADES:
        return _GRADES[value.lower()]
    try:
        return number(float(value))
    except ValueError:
        return f"is {value[:20]!r}, and no number or grade"


def _content(sample: Mapping[str, Any]) -> str | None:
    """Of the question alone: choices may be shuffled from run to run, and the target's letter with them."""
    question, choices = sample.get("input"), sample.get("choices")
    if isinstance(question, list):
        turns = [turn for turn in question if isinstance(turn, dict)]
        question = "\0".join(str(turn["content"]) for turn in turns if isinstance(turn.get("content"), str))
    if not isinstance(question, str) or not question:
        return None
    target = sorted(map(str, choices)) if isinstance(choices, list) else [str(sample.get("target"))]
    return fingerprint(question, *target)


def _samples(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".json":
        samples = _whole(path).get("samples")
        if not isinstance(samples, list) or not samples:
            raise DataError(f"{path}: holds no samples: run the evaluation with --log-samples")
        yield from ((f"{path}, sample {count}", sample) for count, sample in enumerate(samples, start=1))
        return
    try:
        with _opened(path) as archive:
            names = [name for name in archive.NameToInfo if name.startswith("samples/")]
            for name in names:
                if _SAMPLE_NAME.search(name) is None:
                    raise DataError(f"{path}: keeps its samples in pieces, which is not read: {_CONVERT}")
                yield f"{path}, {name[:100]}", _parsed(archive, name)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}") from None
    if not names:
        raise DataError(f"{path}: holds no samples: run the evaluation with --log-samples")


_CONVERT = "`inspect log convert FILE --to json --output-dir FOLDER` writes one that is"


def _whole(path: Path) -> Any:
    try:
        most = available_memory() // 8  # a parsed text takes several times its length
        content = parse_json(read_bytes(path, most), most)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no log of Inspect")
    return content


def _entry(path: Path, name: str) -> Any:
    try:
        with _opened(path) as archive:
            if name not in archive.NameToInfo:
                raise DataError(f"{path}: has no {name}: did the evaluation end? `inspect log recover` completes a log")
            return _parsed(archive, name)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}") from None


def _opened(path: Path) -> zipfile.ZipFile:
    """The archive. Raises ValueError where it unpacks to more than half of the free memory, as a bomb does."""
    check_regular(path)
    archive = zipfile.ZipFile(path)
    unpacked, free = sum(entry.file_size for entry in archive.infolist()), available_memory() // 2
    if unpacked > free:
        archive.close()
        raise ValueError(f"unpacks to {unpacked:,} bytes, more than the {free:,} of free memory that it may take")
    return archive


def _parsed(archive: zipfile.ZipFile, name: str) -> Any:
    entry = archive.getinfo(name)
    if entry.flag_bits & 1:
        raise ValueError(f"{name[:100]} is encrypted")
    if entry.file_size > JSON_BYTES:
        raise ValueError(f"{name[:100]} has {entry.file_size:,} bytes, and {JSON_BYTES:,} is the most")
    if entry.compress_type == _ZSTANDARD:
        return parse_json(_unpack_zstandard(archive, entry))
    try:
        return parse_json(archive.read(entry))
    except (NotImplementedError, zlib.error, EOFError) as error:
        raise ValueError(f"{name[:100]}: {error}") from None


def _unpack_zstandard(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """What zipfile reads by itself from Python 3.14 on. Raises ValueError, also where no library unpacks it."""
    try:
        return archive.read(entry)
    except NotImplementedError:
        pass
    try:
        import pyarrow
    except ImportError:
        raise ValueError(f"is compressed with Zstandard, which needs `pip install pyarrow`; or {_CONVERT}") from None
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    file.seek(entry.header_offset)
    head = file.read(30)  # the local header, whose extra fields differ from the directory's
    if head[:4] != b"PK\x03\x04":
        raise ValueError(f"{entry.filename[:100]}: the archive is damaged")
    file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
    packed = file.read(entry.compress_size)
    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
            content = bytes(stream.read(entry.file_size))
    except OSError as error:
        raise ValueError(f"{entry.filename[:100]}: {error}") from None
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise ValueError(f"{entry.filename[:100]}: the archive is damaged")
    return content
