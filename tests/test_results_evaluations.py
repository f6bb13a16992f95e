"""Evaluation logs as lm-evaluation-harness and Inspect write them: each with its right value, or its sentence."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popnet.errors import ConfigError, DataError, PopnetError
from popnet.results.evaluations import inspect_logs
from popnet.results.evaluations.logs import is_evaluation, runs_of_evaluation
from popnet.results.found import Options, Runs
from popnet.results.names import KNOWN

TIME, LATER = "2025-03-01T10-20-30.123456", "2025-03-02T08-00-00.000001"
EXAMPLES = 12


def right(model: str, doc: int, kind: str = "strict-match") -> float:
    """Whether a made-up model answers a document: about two of three times, in another pattern for each model."""
    return float(hashlib.sha256(f"{model} {doc} {kind}".encode()).digest()[0] < 170)


def sample(model: str, doc: int, filter_name: str = "none", **fields: Any) -> dict[str, Any]:
    """A line as `save_results_samples` writes it, of a task with one metric."""
    document = {"question": f"What is {doc} + {doc}?", "answer": str(2 * doc), "subject": f"s{doc % 3}"}
    return {
        "doc_id": doc,
        "doc": document,
        "target": str(2 * doc),
        "arguments": {"gen_args_0": {"arg_0": "Question: ...", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"{model} says {2 * doc}"]],
        "filtered_resps": [str(2 * doc)],
        "filter": filter_name,
        "metrics": ["exact_match"],
        "doc_hash": hashlib.sha256(json.dumps(document, indent=2).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(model.encode()).hexdigest(),
        "target_hash": hashlib.sha256(str(2 * doc).encode()).hexdigest(),
        "exact_match": right(model, doc, filter_name),
        **fields,
    }


def lines(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def gsm8k(
    folder: Path, model: str = "a", docs: Iterable[int] = range(EXAMPLES), time: str = TIME, **fields: Any
) -> Path:
    """A task of two filters."""
    records = [sample(model, doc, name, **fields) for name in ("strict-match", "flexible-extract") for doc in docs]
    return lines(folder / f"samples_gsm8k_{time}.jsonl", records)


def arc(folder: Path, model: str = "a", docs: Iterable[int] = range(EXAMPLES), time: str = TIME) -> Path:
    """A multiple-choice task: no filter, two metrics."""
    records = []
    for doc in docs:
        record = sample(model, doc, metrics=["acc", "acc_norm"])
        del record["exact_match"]
        records.append(record | {"acc": right(model, doc, "acc"), "acc_norm": right(model, doc, "norm")})
    return lines(folder / f"samples_arc_easy_{time}.jsonl", records)


def results(folder: Path, values: Mapping[str, Mapping[str, Any]], time: str = TIME, **fields: Any) -> Path:
    """As `save_results_aggregated` writes it."""
    content = {
        "results": {task: {"alias": task, **entry, "sample_len": EXAMPLES} for task, entry in values.items()},
        "group_subtasks": {task: [] for task in values},
        "configs": {task: {"task": task, "output_type": "generate_until"} for task in values},
        "versions": dict.fromkeys(values, 3),
        "n-shot": dict.fromkeys(values, 5),
        "higher_is_better": {task: {"exact_match": True} for task in values},
        "n-samples": {task: {"original": EXAMPLES, "effective": EXAMPLES} for task in values},
        "config": {"model": "hf", "model_args": "pretrained=org/model", "random_seed": 0},
        "model_name": "org/model",
        **fields,
    }
    path = folder / f"results_{time}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
    return path


def mean(model: str, kind: str, docs: Iterable[int] = range(EXAMPLES)) -> float:
    return float(np.mean([right(model, doc, kind) for doc in docs]))


def one(path: Path, value: str | None = None, **options: Any) -> Runs:
    (runs,) = runs_of_evaluation(path, Options(**options), value)
    return runs


def shown(runs: Runs) -> dict[str, list[float]]:
    return {metric: np.round(sample.values, 9).tolist() for metric, sample in runs.samples.items()}


# lm-evaluation-harness: right values


def test_a_samples_file_is_one_run_with_a_metric_for_each_filter(tmp_path):
    path = gsm8k(tmp_path)
    runs = one(path)
    assert is_evaluation(path)
    assert is_evaluation(tmp_path)
    assert (runs.task, runs.matched_by, runs.ids, runs.seeds) == ("gsm8k", "doc_id", tuple(range(EXAMPLES)), None)
    assert shown(runs) == {
        "exact_match,strict-match": [round(mean("a", "strict-match"), 9)],
        "exact_match,flexible-extract": [round(mean("a", "flexible-extract"), 9)],
    }
    assert runs.samples["exact_match,strict-match"].example_means.tolist() == [
        right("a", doc, "strict-match") for doc in range(EXAMPLES)
    ]
    assert runs.found() == f"1 run x {EXAMPLES} examples, matched by `doc_id`"
    assert runs.content.keys() == set(range(EXAMPLES))


def test_the_order_of_lines_does_not_matter(tmp_path):
    path = gsm8k(tmp_path / "a")
    shuffled = tmp_path / "b" / path.name
    order = np.random.default_rng(0).permutation(2 * EXAMPLES)
    lines(shuffled, [json.loads(path.read_text().splitlines()[i]) for i in order])
    first, second = one(path), one(shuffled)
    assert shown(first) == shown(second)
    assert (first.ids, first.digests, first.content) == (second.ids, second.digests, second.content)


def test_where_picks_a_filter_whose_metrics_have_plain_names_then(tmp_path):
    runs = one(gsm8k(tmp_path), where=(("filter", "flexible-extract"),))
    assert shown(runs) == {"exact_match": [round(mean("a", "flexible-extract"), 9)]}
    assert shown(one(gsm8k(tmp_path), metrics=("exact_match",), where=(("filter", "strict-match"),))) == {
        "exact_match": [round(mean("a", "strict-match"), 9)]
    }


def test_where_picks_documents_by_a_field(tmp_path):
    docs = range(1, EXAMPLES, 3)
    for name in ("doc.subject", "subject"):
        runs = one(arc(tmp_path), where=((name, "s1"),))
        assert runs.ids == tuple(docs)
        assert shown(runs)["acc"] == [round(mean("a", "acc", docs), 9)]


def test_a_folder_holds_several_tasks_and_one_can_be_picked(tmp_path):
    folder = tmp_path / "out" / "org__model"
    gsm8k(folder)
    arc(folder)
    found = runs_of_evaluation(tmp_path / "out", Options())
    assert [(runs.task, runs.name) for runs in found] == [
        (task, str(tmp_path / "out")) for task in ("arc_easy", "gsm8k")
    ]
    runs = one(tmp_path / "out", "arc_easy")
    assert runs.name == f"{tmp_path / 'out'}:arc_easy"
    assert shown(runs) == {"acc": [round(mean("a", "acc"), 9)], "acc_norm": [round(mean("a", "norm"), 9)]}
    assert shown(one(tmp_path / "out", where=(("task", "arc_easy"),))) == shown(runs)


def test_a_metric_that_is_asked_for_picks_the_tasks_that_have_it(tmp_path):
    gsm8k(tmp_path)
    arc(tmp_path)
    runs = one(tmp_path, metrics=("acc",))
    assert (runs.task, list(runs.samples)) == ("arc_easy", ["acc"])
    assert any("gsm8k" in mark for mark in runs.marks)


def test_folders_that_differ_in_a_seed_are_the_runs(tmp_path):
    for seed in (0, 1, 10, 2):
        gsm8k(tmp_path / f"seed{seed}" / "org__model", f"seed{seed}")
    runs = one(tmp_path, where=(("filter", "strict-match"),))
    assert runs.seeds == ("seed0", "seed1", "seed2", "seed10")
    assert shown(runs) == {"exact_match": [round(mean(seed, "strict-match"), 9) for seed in runs.seeds]}
    assert runs.found() == f"4 runs x {EXAMPLES} examples, matched by `doc_id`"


def test_seeds_in_the_names_of_two_models_are_the_same_seeds(tmp_path):
    for model in "ab":
        for seed in range(3):
            arc(tmp_path / model / f"org__{model}-seed{seed}", f"{model}{seed}")
    assert one(tmp_path / "a").seeds == one(tmp_path / "b").seeds == ("seed0", "seed1", "seed2")


def test_other_folders_are_runs_where_that_is_said(tmp_path):
    for name in ("first", "second"):
        arc(tmp_path / name, name)
    runs = one(tmp_path, seed_column="folder")
    assert runs.seeds == ("first", "second")
    assert shown(runs)["acc"] == [round(mean(name, "acc"), 9) for name in ("first", "second")]


def test_clusters_are_codes_of_a_field_in_the_order_of_its_values(tmp_path):
    runs = one(arc(tmp_path, docs=range(2, EXAMPLES)), cluster="doc.subject")
    assert runs.clusters.tolist() == [doc % 3 for doc in range(2, EXAMPLES)]
    assert one(arc(tmp_path), cluster="subject").clusters.tolist() == [doc % 3 for doc in range(EXAMPLES)]


def test_examples_that_are_not_kept_are_dropped(tmp_path):
    runs = one(gsm8k(tmp_path), keep=frozenset({3, 5, 11, 99}))
    assert runs.ids == (3, 5, 11)
    assert shown(runs)["exact_match,strict-match"] == [round(mean("a", "strict-match", (3, 5, 11)), 9)]
    assert runs.content.keys() == {3, 5, 11}


def test_runs_need_the_same_kept_examples_alone(tmp_path):
    arc(tmp_path / "seed0", "a", range(10))
    arc(tmp_path / "seed1", "b", range(1, 12))
    runs = one(tmp_path, keep=frozenset(range(1, 10)))
    assert runs.ids == tuple(range(1, 10))


def test_repeats_are_averaged_where_their_field_is_named(tmp_path):
    records = [sample(f"a{k}", doc, repeat=k) for k in range(3) for doc in range(EXAMPLES)]
    path = lines(tmp_path / f"samples_gsm8k_{TIME}.jsonl", records)
    runs = one(path, repeat_column="repeat")
    expected = np.mean([[right(f"a{k}", doc, "none") for k in range(3)] for doc in range(EXAMPLES)], axis=1)
    np.testing.assert_allclose(runs.samples["exact_match"].example_means, expected)
    assert "mean over 3 repeats" in runs.marks[0]


def test_numbers_of_any_scale_are_read(tmp_path):
    scores = {doc: 0.1 * doc - 0.3 for doc in range(EXAMPLES)}
    records = [sample("a", doc, metrics=["f1", "rougeL"], f1=doc, rougeL=scores[doc]) for doc in scores]
    runs = one(lines(tmp_path / f"samples_squad_{TIME}.jsonl", records))
    assert list(runs.samples) == ["f1", "rougeL"]
    np.testing.assert_allclose(runs.samples["rougeL"].values, np.mean(list(scores.values())))


def test_old_lines_without_filter_metrics_and_hashes_are_read(tmp_path):
    records = []
    for doc in range(EXAMPLES):
        record = sample("a", doc)
        for name in ("filter", "metrics", "doc_hash", "prompt_hash", "target_hash"):
            del record[name]
        records.append(record)
    path = lines(tmp_path / "pretrained__org__model_gsm8k.jsonl", records)
    assert is_evaluation(path)
    runs = one(path)
    assert (runs.content, runs.task) == (None, "")
    assert shown(runs) == {"exact_match": [round(mean("a", "none"), 9)]}


def test_lists_are_left_out_and_said(tmp_path):
    records = [
        sample("a", doc, metrics=["exact_match", "word_perplexity"], word_perplexity=[-12.5, 9]) for doc in range(5)
    ]
    runs = one(lines(tmp_path / f"samples_x_{TIME}.jsonl", records))
    assert list(runs.samples) == ["exact_match"]
    assert runs.marks == ("word_perplexity is a list, and no number on `doc_id` 0, so it is left out",)


def test_a_perplexity_logged_as_log_likelihood_is_not_called_a_perplexity(tmp_path):
    """The harness's `perplexity` of a sample is its log-likelihood, whose exp(-mean) is the metric: more is better."""
    records = [sample("a", doc, metrics=["perplexity", "acc"], perplexity=-1.5 - doc, acc=1) for doc in range(4)]
    runs = one(lines(tmp_path / f"samples_lambada_{TIME}.jsonl", records))
    assert shown(runs) == {"log_likelihood": [-3.0], "acc": [1.0]}
    assert any("perplexity is the log-likelihood" in mark for mark in runs.marks)
    folder = results(tmp_path, {"lambada": {"perplexity,none": 20.08, "acc,none": 1.0}}).parent
    assert shown(one(folder)) == {"log_likelihood": [-3.0], "acc": [1.0]}


def test_a_metric_that_the_results_do_not_average_is_left_out(tmp_path):
    arc(tmp_path)
    results(tmp_path, {"arc_easy": {"acc,none": mean("a", "acc"), "acc_stderr,none": 0.1, "acc_norm,none": 0.123}})
    runs = one(tmp_path)
    assert list(runs.samples) == ["acc"]
    assert runs.marks[0] == "5-shot, version 3"
    assert "acc_norm is 0.123 in the harness's results" in runs.marks[1]


def test_the_results_of_filters_are_compared_with_the_samples_of_each(tmp_path):
    gsm8k(tmp_path)
    values = {f"exact_match,{name}": mean("a", name) for name in ("strict-match", "flexible-extract")}
    results(tmp_path, {"gsm8k": values})
    assert len(one(tmp_path).samples) == 2
    results(tmp_path, {"gsm8k": values | {"exact_match,strict-match": 0.01}})
    assert list(one(tmp_path).samples) == ["exact_match,flexible-extract"]
    with pytest.raises(DataError, match="harness's results"):
        one(tmp_path, where=(("filter", "strict-match"),))


def test_results_alone_are_one_number_a_run(tmp_path):
    for seed, value in ((0, 0.5), (1, 0.625)):
        values = {
            "mmlu": {"acc,none": value},
            "mmlu_law": {"acc,none": value, "acc_stderr,none": 0.01, "f1,none": "N/A"},
        }
        results(tmp_path / f"seed{seed}", values, group_subtasks={"mmlu": ["mmlu_law"], "mmlu_law": []})
    runs = one(tmp_path)
    assert (runs.task, runs.examples, runs.ids, runs.digests) == ("mmlu_law", None, None, None)
    assert shown(runs) == {"acc": [0.5, 0.625]}
    assert any("--log_samples" in mark for mark in runs.marks)
    assert shown(one(tmp_path, "mmlu")) == {"acc": [0.5, 0.625]}
    assert is_evaluation(tmp_path / "seed0" / f"results_{TIME}.json")


def test_results_by_filter_are_named_as_samples_are(tmp_path):
    path = results(tmp_path, {"gsm8k": {"exact_match,strict-match": 0.5, "exact_match,flexible-extract": 0.75}})
    assert list(one(path).samples) == ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert shown(one(path, where=(("filter", "flexible-extract"),))) == {"exact_match": [0.75]}


def test_shuffled_choices_are_the_same_examples_where_that_is_said(tmp_path):
    arc(tmp_path / "seed0", "a")
    records = [
        json.loads(line) | {"target_hash": "other"} for line in arc(tmp_path / "x", "b").read_text().splitlines()
    ]
    shutil.rmtree(tmp_path / "x")
    lines(tmp_path / "seed1" / f"samples_arc_easy_{TIME}.jsonl", records)
    with pytest.raises(DataError, match=r"12 examples of equal `doc_id` have different contents.*--ignore content"):
        one(tmp_path)
    runs = one(tmp_path, ignore=("content",))
    assert runs.content is None
    assert runs.count == 2


# lm-evaluation-harness: what is refused


def _twice(folder: Path) -> Path:
    return lines(folder / f"samples_gsm8k_{TIME}.jsonl", [sample("a", doc) for doc in (0, 1, 2, 1)])


def _append(path: Path, text: str) -> Path:
    path.write_text(path.read_text() + text)
    return path


def _two_times(folder: Path) -> Path:
    gsm8k(folder, time=TIME)
    return gsm8k(folder, time=LATER).parent


def _models(folder: Path, *names: str) -> Path:
    for name in names:
        arc(folder / name, name)
    return folder


def _seeds(folder: Path, **by_seed: Iterable[int]) -> Path:
    for seed, docs in by_seed.items():
        arc(folder / seed, seed, docs)
    return folder


def _with(folder: Path, **fields: Any) -> Path:
    return lines(folder / f"samples_x_{TIME}.jsonl", [sample("a", doc, **fields) for doc in range(3)])


def _lacking_task(folder: Path) -> Path:
    for seed in (0, 1):
        arc(folder / f"seed{seed}", str(seed))
    gsm8k(folder / "seed0")
    return folder


def _two_results(folder: Path) -> Path:
    for time in (TIME, LATER):
        results(folder, {"arc_easy": {"acc,none": 0.5}}, time=time)
    return folder


def _two_shots(folder: Path) -> Path:
    for seed, shots in ((0, 0), (1, 5)):
        arc(folder / f"seed{seed}", str(seed))
        results(
            folder / f"seed{seed}",
            {"arc_easy": {"acc,none": mean(str(seed), "acc")}},
            **{"n-shot": {"arc_easy": shots}},
        )
    return folder


def _two_named_models(folder: Path) -> Path:
    for seed, model in ((0, "org/small"), (1, "org/large")):
        results(folder / f"seed{seed}", {"arc_easy": {"acc,none": 0.5}}, model_name=model)
    return folder


def _mixed(folder: Path) -> Path:
    arc(folder)
    inspect_json(folder / "log.json")
    return folder


def _partial(folder: Path) -> Path:
    records = [sample("a", doc) for doc in range(4)]
    records[2]["exact_match"] = None
    return lines(folder / f"samples_x_{TIME}.jsonl", records)


# INPUTS is below, once what makes Inspect's logs is there.


# Inspect


def inspect_samples(model: str = "a", epochs: int = 1, docs: Iterable[int] = range(6)) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{doc}",
            "epoch": epoch,
            "input": [{"id": f"{model}{epoch}", "role": "user", "content": f"What is {doc}?"}]
            if doc % 2
            else f"Is {doc}?",
            "target": str(doc),
            "messages": [],
            "scores": {
                "match": {"value": "CIPN"[(doc + epoch) % 4], "answer": "x", "history": []},
                "judge": {"value": {"fluent": doc / 4, "true": doc % 2 == 0}, "history": []},
            },
            "metadata": {"subject": f"s{doc % 3}"},
        }
        for epoch in range(1, epochs + 1)
        for doc in docs
    ]


def header(model: str = "org/a", task: str = "sums", **spec: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "status": spec.pop("status", "success"),
        "eval": {
            "eval_id": "e",
            "task": task,
            "task_id": spec.pop("task_id", ""),
            "model": model,
            "config": {},
            **spec,
        },
    }


def inspect_json(path: Path, samples: list[dict[str, Any]] | None = None, **spec: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(header(**spec) | {"samples": inspect_samples() if samples is None else samples}, indent=2)
    )
    return path


def inspect_eval(path: Path, samples: list[dict[str, Any]] | None = None, **spec: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", "{}")
        for one_sample in inspect_samples() if samples is None else samples:
            name = f"samples/{one_sample['id']}_epoch_{one_sample['epoch']}.json"
            archive.writestr(name, json.dumps(one_sample))
        archive.writestr("header.json", json.dumps(header(**spec)))
    return path


@pytest.mark.parametrize("write", [inspect_json, inspect_eval])
def test_grades_numbers_and_mappings_are_scores(tmp_path, write):
    path = write(tmp_path / f"log{'.json' if write is inspect_json else '.eval'}")
    assert is_evaluation(path)
    runs = one(path, cluster="metadata.subject")
    assert (runs.task, runs.matched_by, runs.ids) == ("sums", "id", tuple(f"q{doc}" for doc in range(6)))
    grades = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
    assert runs.samples["match"].example_means.tolist() == [grades["CIPN"[(doc + 1) % 4]] for doc in range(6)]
    assert runs.samples["judge.fluent"].example_means.tolist() == [doc / 4 for doc in range(6)]
    assert runs.samples["judge.true"].example_means.tolist() == [1.0, 0.0] * 3
    assert runs.clusters.tolist() == [0, 1, 2, 0, 1, 2]
    assert runs.marks == ()


def test_epochs_are_repeats_of_one_run(tmp_path):
    runs = one(inspect_eval(tmp_path / "log.eval", inspect_samples(epochs=2)))
    grades = [1.0, 0.0, 0.5, 0.0]
    expected = [(grades[(doc + 1) % 4] + grades[(doc + 2) % 4]) / 2 for doc in range(6)]
    assert runs.count == 1
    assert runs.samples["match"].example_means.tolist() == expected
    assert runs.marks == ("each example's score is the mean over 2 repeats",)
    assert one(tmp_path / "log.eval", where=(("epoch", "2"),)).marks == ()


def test_a_question_is_one_content_in_every_run(tmp_path):
    first, second = (one(inspect_eval(tmp_path / f"{model}.eval", inspect_samples(model))) for model in "ab")
    assert first.content == second.content
    other = inspect_samples()
    other[1]["input"] = "another"
    assert one(inspect_eval(tmp_path / "c.eval", other)).content != first.content


def test_shuffled_choices_are_one_content(tmp_path):
    contents = []
    for name, choices, target in (("a", ["x", "y"], "A"), ("b", ["y", "x"], "B")):
        samples = [record | {"choices": choices, "target": target} for record in inspect_samples()]
        contents.append(one(inspect_json(tmp_path / f"{name}.json", samples)).content)
    assert contents[0] == contents[1]


def test_answers_without_a_score_are_said(tmp_path):
    samples = inspect_samples(epochs=2)
    samples[3] |= {"scores": None, "error": {"message": "out of time"}}
    samples[4]["scores"] = {"match": {"value": float("nan")}}
    for record in samples:
        (record["scores"] or {}).pop("judge", None)
    runs = one(inspect_json(tmp_path / "log.json", samples, status="error"))
    assert len(runs.ids) == 6
    assert runs.marks == (
        "the evaluation's status is 'error'",
        "2 answers without a score are left out, as `id` q3 in epoch 1, which ended with an error",
        "each example's score is the mean over 1 to 2 repeats",
    )


def test_logs_side_by_side_are_runs_of_one_model(tmp_path):
    for number, model in enumerate(("org/a", "org/a", "org/b")):
        samples = inspect_samples()
        samples[number]["scores"]["match"]["value"] = 0.25
        inspect_eval(tmp_path / f"{number}.eval", samples, model=model, task_id=str(number))
    with pytest.raises(ConfigError, match="logs of 2 models, org/a, org/b: pick one with --where model=NAME"):
        one(tmp_path)
    runs = one(tmp_path, where=(("model", "org/a"),))
    assert (runs.count, runs.seeds) == (2, None)
    assert len(set(runs.digests)) == 2


def test_folders_of_logs_are_runs(tmp_path):
    for seed in range(2):
        for task in ("sums", "words"):
            inspect_eval(tmp_path / f"seed{seed}" / f"{task}.eval", task=task, task_id=f"{task}{seed}")
    found = runs_of_evaluation(tmp_path, Options())
    assert [(runs.task, runs.count, runs.seeds) for runs in found] == [
        (task, 2, ("seed0", "seed1")) for task in ("sums", "words")
    ]


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd")
def test_zstandard_is_unpacked_or_its_conversion_named(tmp_path, monkeypatch):
    path = zstandard(inspect_eval(tmp_path / "log.eval"))
    if sys.version_info < (3, 14):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"`pip install pyarrow`; or `inspect log convert FILE --to json"):
            one(path)
        monkeypatch.undo()
    pytest.importorskip("pyarrow")
    assert shown(one(path)) == shown(one(inspect_eval(tmp_path / "plain.eval")))
    damaged = bytearray(path.read_bytes())
    damaged[60:66] = b"broken"
    path.write_bytes(damaged)
    with pytest.raises(DataError):
        one(path)


def zstandard(path: Path) -> Path:
    """The archive with each entry as the program zstd packs it, under the method's number, as Inspect writes it now."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(
                name, subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout
            )
        for info, (_, content) in zip(archive.filelist, entries):
            info.compress_type, info.file_size, info.CRC = 93, len(content), zipfile.crc32(content)
    return path


def _bomb(folder: Path) -> Path:
    path = folder / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header()))
        archive.writestr("samples/q_epoch_1.json", b" " * 100_000_000)
    return path


def _pieces(folder: Path) -> Path:
    with zipfile.ZipFile(inspect_eval(folder / "log.eval"), "a") as archive:
        archive.writestr("samples/q9_epoch_1/sample.json", "{}")
    return folder / "log.eval"


def _no_header(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "log.eval", "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    return folder / "log.eval"


def _retry(folder: Path) -> Path:
    for number in range(2):
        inspect_eval(folder / f"{number}.eval", task_id="same")
    return folder


def _other_arguments(folder: Path) -> Path:
    for number in range(2):
        inspect_eval(folder / f"{number}.eval", task_id=str(number), task_args={"level": number})
    return folder


def _words(folder: Path) -> Path:
    samples = [record | {"scores": {"judge": {"value": "fluent"}}} for record in inspect_samples()]
    return inspect_json(folder / "log.json", samples)


def _written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


INPUTS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "a document twice": (_twice, {}, r"`doc_id` 1 has two values of exact_match: .*--repeat-column"),
    "a repeat twice": (_twice, {"repeat_column": "target"}, r"`doc_id` 1 has two values of exact_match in repeat 2"),
    "cut in a line": (
        lambda f: _append(gsm8k(f), '{"doc_id": 3, "doc": {"q'),
        {},
        r"jsonl, line 25: is no JSON .* is the file cut short\?",
    ),
    "another line": (lambda f: _append(gsm8k(f), '{"id": 3}\n'), {}, r"line 25: is no sample .* no `doc_id`"),
    "no lines": (lambda f: lines(f / f"samples_x_{TIME}.jsonl", []), {}, "holds no sample"),
    "an id that is a list": (lambda f: _with(f, doc_id=[1]), {}, r"'\[1\]' cannot be an example's `doc_id`"),
    "ids of two kinds": (
        lambda f: lines(f / f"samples_x_{TIME}.jsonl", [sample("a", 1), sample("a", 2, doc_id="2")]),
        {},
        "some values of `doc_id` are numbers and some are texts",
    ),
    "one id for two documents": (
        lambda f: lines(f / f"samples_x_{TIME}.jsonl", [sample("a", 1), sample("a", 1, "maj", doc_hash="other")]),
        {},
        "`doc_id` 1 has two contents",
    ),
    "not a number": (lambda f: _with(f, exact_match=float("nan")), {}, "exact_match is nan on `doc_id` 0"),
    "infinite": (lambda f: _with(f, exact_match=float("inf")), {}, "exact_match is inf on `doc_id` 0"),
    "null": (_partial, {"metrics": ("exact_match",)}, "exact_match is null on `doc_id` 2"),
    "lists alone": (lambda f: _with(f, exact_match=[1, 2]), {}, "no metric is one number on every example"),
    "only a bypass": (lambda f: _with(f, metrics=["bypass"], bypass=999), {}, "no metric is one number"),
    "one filter cut short": (
        lambda f: lines(
            f / f"samples_x_{TIME}.jsonl",
            [*(sample("a", d) for d in range(5)), *(sample("a", d, "maj") for d in range(3))],
        ),
        {"metrics": ("exact_match,maj",)},
        "exact_match,maj is missing on 2 of 5 examples, as on `doc_id` 3",
    ),
    "a metric of two filters": (
        gsm8k,
        {"metrics": ("exact_match",)},
        "exact_match is by filter: name one of exact_match,flexible-extract, exact_match,strict-match",
    ),
    "no such metric": (arc, {"metrics": ("acc_nrm",)}, "no metric 'acc_nrm'; did you mean 'acc_norm'"),
    "no such filter": (gsm8k, {"where": (("filter", "strict"),)}, "no sample has this value; .*'strict-match'"),
    "no such field": (gsm8k, {"where": (("level", "1"),)}, "no sample has a field 'level'"),
    "no such cluster": (gsm8k, {"cluster": "doc.subjct"}, "no field 'doc.subjct'; did you mean 'doc.subject'"),
    "no such id": (gsm8k, {"id_column": "docid"}, "no field 'docid'; did you mean 'doc_id'"),
    "no such task": (lambda f: gsm8k(f).parent, {"value": "gsm9k"}, "no task 'gsm9k'; did you mean 'gsm8k'"),
    "two evaluations in one folder": (
        _two_times,
        {},
        f"samples_gsm8k_{TIME}.jsonl and samples_gsm8k_{LATER}.jsonl are two",
    ),
    "two results in one folder": (_two_results, {}, "two evaluations of one run on task 'arc_easy'"),
    "two models": (lambda f: _models(f, "org__large", "org__small"), {}, "2 folders, as 'org__large' and 'org__small'"),
    "two sizes of a model": (lambda f: _models(f, "llama-8B", "llama-70B"), {}, "--seed-column folder"),
    "versions of a model": (lambda f: _models(f, "deepseek-r1", "deepseek-r2"), {}, "--seed-column folder"),
    "steps of one training": (lambda f: _models(f, "1000", "2000"), {}, "--seed-column folder"),
    "models in folders of seeds": (lambda f: _models(f, "seed0/large", "seed1/small"), {}, "--seed-column folder"),
    "models named in results": (_two_named_models, {}, "models 'org/large' and 'org/small'"),
    "a task that a run lacks": (_lacking_task, {}, "run 'seed1' has no log of task 'gsm8k', and 'seed0' has"),
    "documents that a run lacks": (
        lambda f: _seeds(f, seed0=range(12), seed1=range(2, 12)),
        {},
        "lacks 2 of 12 examples that other runs of its source have, as `doc_id` 0",
    ),
    "two numbers of shots": (_two_shots, {}, "different tests, 0-shot, version 3 and 5-shot, version 3"),
    "results of something else": (
        lambda f: _written(f, "results_2.json", b'{"results": {"a": 1}}'),
        {},
        "no results file of lm-evaluation-harness",
    ),
    "results without numbers": (lambda f: results(f, {"x": {"acc,none": "N/A"}}), {}, "no number in its results"),
    "two programs": (_mixed, {}, "lm-evaluation-harness and of Inspect"),
    "not JSON": (
        lambda f: _written(f, "results_1.json", b'{"results": {'),
        {},
        "results_1.json: ",
    ),
    "a bomb": (_bomb, {}, "unpacks to|the most"),
    "samples in pieces": (_pieces, {}, "in pieces.*inspect log convert"),
    "a log without end": (_no_header, {}, "no header.json"),
    "a zip cut short": (
        lambda f: _written(f, "log.eval", inspect_eval(f / "whole.eval").read_bytes()[:400]),
        {},
        "log.eval: ",
    ),
    "no samples": (lambda f: inspect_json(f / "log.json", []), {}, "holds no samples"),
    "words for scores": (_words, {}, "judge is 'fluent', and no number or grade on `id` q0"),
    "an epoch twice": (
        lambda f: inspect_json(f / "log.json", inspect_samples() * 2),
        {},
        "`id` q0 has two values of match in repeat 1",
    ),
    "a retry": (_retry, {}, "its retry, which share samples"),
    "other arguments of a task": (
        _other_arguments,
        {},
        r"differ in task_args \(level=0; level=1\).*--ignore task_args",
    ),
    "no such epoch": (
        inspect_eval_at := lambda f: inspect_eval(f / "l.eval"),
        {"where": (("epoch", "7"),)},
        "--where epoch=7",
    ),
    "no such field of a sample": (inspect_eval_at, {"cluster": "topic"}, "no field 'topic'"),
    "no such model": (lambda f: inspect_eval_at(f).parent, {"where": (("model", "org/b"),)}, "no log of model 'org/b'"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path, case):
    make, options, sentence = INPUTS[case]
    options = dict(options)
    value = options.pop("value", None)
    path = make(tmp_path)
    with pytest.raises(PopnetError) as raised:
        runs_of_evaluation(path, Options(**options), value)
    assert re.search(sentence, str(raised.value)), raised.value
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ConfigError | DataError)


def test_what_is_refused_can_be_read_once_the_named_option_is_given(tmp_path):
    assert one(_models(tmp_path / "m", "large", "small"), seed_column="folder").count == 2
    assert one(_two_named_models(tmp_path / "n"), ignore=("model",)).count == 2
    assert one(_two_shots(tmp_path / "s"), ignore=("versions",)).count == 2
    assert one(_other_arguments(tmp_path / "a"), ignore=("task_args",)).count == 2
    assert one(_two_times(tmp_path / "t") / f"samples_gsm8k_{LATER}.jsonl").count == 1


def test_other_files_are_no_evaluations(tmp_path):
    table = lines(tmp_path / "samples.jsonl", [{"doc_id": 1, "label": 0, "prediction": 1}])
    other = _written(tmp_path, "data.json", b'[{"results": 1}]')
    (tmp_path / "results.csv").write_text("seed,acc\n1,2\n")
    _written(tmp_path, "x.eval", b"text")
    assert not any(map(is_evaluation, (table, other, tmp_path, tmp_path / "x.eval", tmp_path / "missing.json")))


def test_a_log_that_takes_too_much_memory_is_refused(tmp_path, monkeypatch):
    path = inspect_json(tmp_path / "log.json")
    monkeypatch.setattr(inspect_logs, "available_memory", lambda: 800)
    with pytest.raises(DataError, match="has more than 100 bytes"):
        one(path)
    with pytest.raises(DataError, match="of free memory"):
        one(inspect_eval(tmp_path / "log.eval"))


def test_reading_logs_imports_nothing_heavy(tmp_path):
    gsm8k(tmp_path)
    program = (
        "import sys; from pathlib import Path; from popnet.results.evaluations.logs import runs_of_evaluation;"
        "from popnet.results.found import Options; runs_of_evaluation(Path(sys.argv[1]), Options());"
        "heavy = {'torch', 'pandas', 'scipy.stats', 'scipy.optimize', 'pyarrow'};"
        "heavy |= {'popnet.native', 'popnet.config', 'popnet.store'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_a_task_by_option_and_by_colon_are_one(tmp_path):
    path = arc(tmp_path)
    results(tmp_path, {"arc_easy": {"acc,none": 0.9, "acc_norm,none": mean("a", "norm")}})
    assert list(one(tmp_path, where=(("task", "arc_easy"),)).samples) == ["acc_norm"]
    assert list(one(tmp_path, "arc_easy").samples) == ["acc_norm"]
    assert list(one(path).samples) == ["acc", "acc_norm"]


def test_the_page_lists_the_names_that_are_known():
    page = (Path(__file__).parent.parent / "docs" / "your-results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (higher|lower) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    shown = {name: (better == "higher", unit) for better, unit, names in rows for name in re.findall(r"`(\w+)`", names)}
    units = {"share": "percent, differences in points", "bounded": "as given", "free": "as given"}
    assert shown == {
        name: (known.higher_is_better, "nats" if known.unit == "nats" else units[known.kind])
        for name, known in KNOWN.items()
    }


def test_a_filter_picks_the_tasks_that_have_it(tmp_path):
    gsm8k(tmp_path)
    arc(tmp_path)
    runs = one(tmp_path, where=(("filter", "strict-match"),))
    assert runs.task == "gsm8k"
    assert runs.marks[0].startswith("task arc_easy is left out (--where filter=strict-match: no sample has this value")
    with pytest.raises(ConfigError, match="no sample has this value"):
        one(tmp_path, where=(("filter", "strictest"),))
