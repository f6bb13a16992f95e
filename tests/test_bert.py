"""Pairs of sentences through the whole engine: a tiny BERT with random weights, and sentences made up on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import popnet
from popnet.errors import ConfigError, DataError
from popnet.metrics import theory

transformers = pytest.importorskip("transformers")

from popnet.data import text_pairs as text_pairs_module  # noqa: E402
from popnet.data.resident import ResidentImages  # noqa: E402
from popnet.data.text_pairs import text_pairs, tokens  # noqa: E402
from popnet.models.bert import bert  # noqa: E402
from popnet.protocol import ORIGINAL  # noqa: E402

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "under", "mat", "hill", "red", "blue", "fast"]
SIZES = {"train": 48, "dev": 10, "test": 14}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    filler = [f"[unused{i}]" for i in range(300)]  # pushes the words beyond one byte
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *filler, *WORDS]))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=305 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in MRPC's layout: equal sentences, or sentences of other words."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for split, size in SIZES.items():
        lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        for number in range(size):
            label = int(rng.integers(2))
            first = " ".join(rng.choice(WORDS, 5))
            second = first if label else " ".join(rng.choice(WORDS, 6))
            lines.append(f'{label}\t{number}\t{number}\t"{first}\t{second}')
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def experiment(model_folder: Path, data_folder: Path, **recipe: object) -> popnet.config.Experiment:
    content = {
        "name": "pairs",
        "recipe": {
            "dataset": {
                "import": "popnet.data.text_pairs:text_pairs",
                "kwargs": {"folder": str(data_folder), "tokenizer": str(model_folder), "length": 24},
            },
            "model": {"import": "popnet.models.bert:bert", "kwargs": {"folder": str(model_folder)}},
            "epochs": 1,
            "batch_size": 16,
            "optimizer": {"name": "adam", "lr": 2.0e-3},
            "schedule": "linear",
            "keep": ["predictions", "weights"],
            **recipe,
        },
        "population": 2,
        "variants": [
            {"name": "Init", "vary": ["init"]},
            {"name": "Dropout", "vary": ["stochastic"]},
            {"name": "All", "vary": ["init", "shuffle", "stochastic"]},
            {"name": "Determinism", "replicas": True},
        ],
    }
    return popnet.config.from_mapping(content)


def test_pairs_come_back_as_the_tokenizer_made_them(model_folder: Path, data_folder: Path) -> None:
    dataset = text_pairs(str(data_folder), str(model_folder), length=24)
    assert dataset.train_images.shape == (SIZES["train"], 24, 1, 3)
    assert dataset.test_images.shape == (SIZES["dev"] + SIZES["test"], 24, 1, 3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    first, second, labels = text_pairs_module._read(data_folder, "train")
    assert first[0].startswith('"')  # a quotation mark is text in these files
    expected = tokenizer(first, second, padding="max_length", truncation=True, max_length=24)
    assert dataset.train_labels.tolist() == labels
    raw = torch.from_numpy(dataset.train_images).permute(0, 3, 1, 2).float()
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        ids, segments, mask = tokens((raw / 255 / (1 / 255)).to(precision))
        assert ids.tolist() == expected["input_ids"]
        assert segments.tolist() == expected["token_type_ids"]
        assert mask.tolist() == expected["attention_mask"]
    assert ids.max() > 255
    resident = ResidentImages(torch.from_numpy(dataset.test_images), torch.zeros(24), dataset.mean, dataset.std)
    for dtype in (torch.float32, torch.bfloat16):
        out = resident.buffer(24, dtype, torch.contiguous_format)
        ids, _, mask = tokens(resident.view_batch(torch.arange(24), out, ORIGINAL))
        stored = dataset.test_images[:, :, 0].astype(np.int64)
        assert ids.tolist() == (stored[..., 0] + 256 * stored[..., 1]).tolist()
        assert mask.tolist() == (stored[..., 2] // 2).tolist()


def test_only_the_new_layer_is_random(model_folder: Path) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(bert(str(model_folder)).state_dict())
    same, other = (
        {name for name in weights[0] if torch.equal(weights[0][name], second[name])} for second in weights[1:]
    )
    assert same == set(weights[0])
    assert set(weights[0]) - other == {"classifier.classifier.weight"}


def test_a_population_of_berts(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    result = popnet.run(experiment(model_folder, data_folder), store=tmp_path / "s", workers=1)
    table = result.table()
    assert table["failed"].sum() == 0
    assert table.loc["Determinism", "disagreement"] == 0
    assert table.loc["Determinism", "spearman"] == 1
    digests = {
        population.name: [result.store.members().loc[m.id, "weights_digest"] for m in population.members]
        for population in result.plan.populations
    }
    assert len(set(digests["Determinism"])) == 1
    assert len(set(digests["Init"])) == len(set(digests["Dropout"])) == len(set(digests["All"])) == 2
    logits = np.stack([result.store.predictions(m.id)[0] for m in result.plan.populations[2].members])
    assert logits.shape == (2, SIZES["dev"] + SIZES["test"], 2)
    errors = logits.argmax(2) != result.store.labels()
    assert theory.PackedErrors.pack(errors[:, : SIZES["dev"]]).examples == SIZES["dev"]  # validation comes first


def test_mistakes_are_named(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no BERT"):
        bert(str(tmp_path))
    with pytest.raises(ConfigError, match="its SHA-256 is"):
        bert(str(model_folder), sha256="0" * 64)
    with pytest.raises(ConfigError, match="no tokenizer"):
        text_pairs(str(data_folder), str(tmp_path))
    with pytest.raises(DataError, match="no train pairs"):
        text_pairs(str(tmp_path), str(model_folder))
    (tmp_path / "train.jsonl").write_text(json.dumps({"sentence1": "a", "label": 1}) + "\n")
    with pytest.raises(DataError, match="pair 1 lacks"):
        text_pairs(str(tmp_path), str(model_folder))
    (tmp_path / "train.jsonl").write_text(json.dumps({"sentence1": "a", "sentence2": "b", "label": "yes"}) + "\n")
    with pytest.raises(DataError, match="not a number"):
        text_pairs(str(tmp_path), str(model_folder))
