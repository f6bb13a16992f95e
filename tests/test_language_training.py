"""Language models: the model and a whole training step against an independent PyTorch version, and the promise."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import popnet
from popnet import config, models
from popnet.config import Language, Recipe
from popnet.data.resident import ResidentText
from popnet.engine import plan, run
from popnet.errors import ConfigError, TrainingError
from popnet.protocol import Member, Platform, Seeds, member
from popnet.training import language as language_module
from popnet.training.language import LanguageTrainer, logit_positions, segment_length

WORDS = 60
CONTENT: dict[str, Any] = {
    "name": "tiny_language",
    "recipe": {
        "dataset": {
            "name": "synthetic_text",
            "kwargs": {"train": 600, "validation": 120, "test": 90, "types": WORDS, "seed": 1},
        },
        "model": {"name": "qrnn", "kwargs": {"embedding": 12, "hidden": 16, "layers": 3}},
        "epochs": 3,
        "batch_size": 4,
        "optimizer": {"name": "sgd", "lr": 5.0, "momentum": 0.0, "weight_decay": 1.2e-6},
        "schedule": "constant",
        "keep": ["predictions", "weights"],
        "language": {"sequence_length": 20, "validation_batch": 2, "averaging_patience": 1, "logit_positions": 3},
    },
    "population": 3,
    "variants": [
        {"name": "Parameter Initialization", "vary": ["init"]},
        {"name": "Stochastic Operations", "vary": ["stochastic"]},
        {"name": "All Nondeterminism Sources", "vary": "all"},
        {"name": "Random Bit Change", "vary": ["bit"]},
        {"name": "late", "vary": ["stochastic"], "onset": 2},
        {"name": "late bit", "vary": ["bit"], "onset": 1},
        {"name": "Acc. Ens.", "vary": "all", "snapshots": 3},
        {"name": "same", "replicas": True},
    ],
}


def experiment(**changes: Any) -> popnet.Experiment:
    """`CONTENT` with keys of the recipe replaced."""
    content = copy.deepcopy(CONTENT)
    content["recipe"] |= changes
    return config.from_mapping(content)


def some_text(tokens: int = 600) -> ResidentText:
    draw = torch.Generator().manual_seed(7)
    train, validation, test = (torch.randint(WORDS, (n,), generator=draw) for n in (tokens, 120, 90))
    return ResidentText(train, validation, test, WORDS)


ONES = Seeds()


def a_member(seeds: Seeds = ONES, **changes: Any) -> Member:
    return member(Recipe.model_validate(CONTENT["recipe"] | changes), seeds, seeds, Platform("cpu", ()))


# ---- the model -------------------------------------------------------------------------------------------------------


def test_the_paper_sizes():
    model = models.build_language("qrnn", vocabulary=10_000)
    assert sum(p.numel() for p in model.parameters()) == 4_539_920
    assert model.embedding.weight.abs().max() <= 0.1
    assert not model.decoder_bias.any()
    assert [tuple(layer.linear.weight.shape) for layer in model.layers] == [(1536, 512), (1536, 512), (768, 512)]


def test_an_untrained_model_knows_nothing():
    trainer = LanguageTrainer(a_member(epochs=0), some_text())
    predicted = trainer.prediction_tensors()
    assert math.exp(-predicted["target_log_probabilities"].mean()) == pytest.approx(WORDS, rel=0.02)


class PlainQRNN(nn.Module):
    """The model written the obvious way: a loop over time, gates apart, nothing shared with popnet."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Parameter(source.embedding.weight.detach().clone())
        self.bias = nn.Parameter(source.decoder_bias.detach().clone())
        self.weights = nn.ParameterList([nn.Parameter(layer.linear.weight.detach().clone()) for layer in source.layers])
        self.biases = nn.ParameterList([nn.Parameter(layer.linear.bias.detach().clone()) for layer in source.layers])

    def forward(self, tokens, cells, last_input, masks):
        """tokens [length, batch]; returns output before dropout, after, logits, and the carried states."""
        series = [self.embedding[t] * masks.words[t].unsqueeze(1) * masks.input for t in tokens]
        carried, last = [], None
        for number in range(len(self.weights)):
            before = last_input if number == 0 else None
            h, outputs = cells[number], []
            for x in series:
                inputs = torch.cat([x, before], 1) if number == 0 else x
                gates = inputs @ (self.weights[number] * masks.weights[number]).t() + self.biases[number]
                z, f, o = gates.chunk(3, dim=1)
                h = torch.sigmoid(f) * torch.tanh(z) + (1 - torch.sigmoid(f)) * h
                outputs.append(torch.sigmoid(o) * h)
                before = x
            last = before if number == 0 else last
            carried.append(h)
            raw = torch.stack(outputs)
            series = list(raw * masks.outputs[number])
        dropped = torch.stack(series)
        return raw, dropped, dropped @ self.embedding.t() + self.bias, carried, last


def test_output_and_training_steps_are_those_of_a_plain_version(monkeypatch):
    """Forward, loss with penalties, gradient, clipping, rate by length, averaging: step after step to 1e-5."""
    trainer = LanguageTrainer(a_member(epochs=4), some_text())
    plain = PlainQRNN(trainer.model)
    optimizer = torch.optim.SGD(plain.parameters(), lr=5.0, weight_decay=1.2e-6)
    drawn, losses = [], []
    masks_of, step_of = trainer.model.masks, trainer._step

    def masks(*arguments):
        drawn.append(masks_of(*arguments))
        return drawn[-1]

    def step(tokens, state, seed, epoch, number, rate):
        loss, after = step_of(tokens, state, seed, epoch, number, rate)
        losses.append((loss, tokens, after, rate, seed))
        return loss, after

    monkeypatch.setattr(trainer.model, "masks", masks)
    monkeypatch.setattr(trainer, "_step", step)
    trainer.run(until=1)
    assert len(drawn) == len(losses) > 5

    cells, last = [torch.zeros(4, n) for n in (16, 16, 12)], torch.zeros(4, 12)
    position = 0
    for number, ((loss, tokens, after, rate, seed), mask) in enumerate(zip(losses, drawn)):
        raw, dropped, logits, cells, last = plain(tokens[:-1], cells, last, mask)
        cells, last = [cell.detach() for cell in cells], last.detach()
        expected = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())
        penalties = 2.0 * dropped.pow(2).mean() + 1.0 * (raw[1:] - raw[:-1]).pow(2).mean()
        optimizer.zero_grad()
        (expected + penalties).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
        length = segment_length(trainer.language, seed, 0, number)
        assert rate == pytest.approx(5.0 * length / 20)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
        for state, cell in zip(after, cells):
            torch.testing.assert_close(state.cell, cell, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(after[0].last_input, last, atol=1e-5, rtol=1e-5)
        position += len(tokens) - 1
    assert position >= len(trainer._train) - 2, "the epoch covers the text"
    torch.testing.assert_close(trainer.model.embedding.weight, plain.embedding, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trainer.model.decoder_bias, plain.bias, atol=1e-5, rtol=1e-5)
    for layer, weight, bias in zip(trainer.model.layers, plain.weights, plain.biases):
        torch.testing.assert_close(layer.linear.weight, weight, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer.linear.bias, bias, atol=1e-5, rtol=1e-5)


def test_averages_are_those_of_torchs_asgd():
    trainer = LanguageTrainer(a_member(epochs=2), some_text())
    trainer._average = torch.zeros_like(trainer._flat.values)
    seen = []
    step = trainer._optimizer.step

    def recorded(rate: float) -> None:
        step(rate)
        seen.append(trainer._flat.values.clone())

    trainer._optimizer.step = recorded
    trainer._train_epoch(0)
    torch.testing.assert_close(trainer._average, torch.stack(seen).mean(0), atol=1e-6, rtol=1e-5)


# ---- the scheme ------------------------------------------------------------------------------------------------------


def test_segment_lengths_follow_the_published_distribution():
    language = Language()
    lengths = np.array([segment_length(language, 3, 5, step) for step in range(20_000)])
    short = lengths < 52
    assert short.mean() == pytest.approx(0.05, abs=0.005)
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.2), "int() rounds down"
    assert lengths[~short].std() == pytest.approx(5.0, abs=0.1)
    assert lengths[short].mean() == pytest.approx(34.5, abs=0.6)
    assert min(segment_length(Language(sequence_length=4), 1, 0, step) for step in range(200)) == 5


def test_averaging_begins_when_validation_no_longer_improves(monkeypatch):
    """Above the least of all but the last `patience` losses; then the averages are what is validated and kept."""
    losses = iter([5.0, 4.0, 4.5, 4.2, 4.1, 3.9, 3.95])
    trainer = LanguageTrainer(a_member(epochs=7), some_text(200))
    validated = []

    def validate(values):
        validated.append(values)
        trainer.validation_losses.append(next(losses))
        return trainer.validation_losses[-1]

    monkeypatch.setattr(trainer, "_validate", validate)
    began = []
    for epoch in range(7):
        trainer.run(until=epoch + 1)
        began.append(trainer._average is not None)
        if epoch == 5:
            best = trainer._average.clone()
    # patience 1: 4.5 is above 4.0 only once 4.0 is not among the last one, that is, for the loss after it
    assert began == [False, False, False, True, True, True, True]
    assert validated[-1] is trainer._average
    assert torch.equal(trainer._best, best), "3.9 was the best, an average"


def test_the_best_on_validation_is_tested():
    trainer = LanguageTrainer(a_member(optimizer={"name": "sgd", "lr": 40.0, "momentum": 0.0}, epochs=5), some_text())
    best, least = None, math.inf
    for epoch in range(5):
        trainer.run(until=epoch + 1)
        if trainer.validation_losses[-1] < least:
            least, best = trainer.validation_losses[-1], trainer._best.clone()
    assert torch.equal(trainer._best, best)
    kept = trainer.weights()
    start, length = trainer._flat.offsets["decoder_bias"]
    assert torch.equal(kept["decoder_bias"], best[start : start + length])
    accuracy, cross_entropy = trainer.history[-1][3:]
    log_probabilities = trainer.prediction_tensors()["target_log_probabilities"]
    assert cross_entropy == pytest.approx(-float(log_probabilities.mean()), rel=1e-6)
    assert 0.0 <= accuracy <= 100.0


def test_predictions_hold_every_target_and_the_sampled_logits():
    text = some_text()
    trainer = LanguageTrainer(a_member(), text)
    trainer.run()
    predicted = trainer.prediction_tensors()
    assert {name: (tuple(x.shape), x.dtype) for name, x in predicted.items()} == {
        "target_log_probabilities": ((1, 89), torch.float32),
        "argmax": ((1, 89), torch.int32),
        "logits": ((1, 3, WORDS), torch.float32),
    }
    positions = logit_positions(trainer.language, 89)
    assert positions.tolist() == sorted(set(positions.tolist()))
    log_probabilities = predicted["logits"][0].log_softmax(1)
    targets = text.test[1:][positions]
    torch.testing.assert_close(
        log_probabilities[torch.arange(3), targets], predicted["target_log_probabilities"][0, positions]
    )
    assert torch.equal(log_probabilities.argmax(1).int(), predicted["argmax"][0, positions])


def test_snapshots_are_views_whose_probabilities_are_averaged():
    recipe = {"schedule": {"name": "snapshot", "cycles": 3}, "language": {"sequence_length": 20, "logit_positions": 89}}
    trainer = LanguageTrainer(a_member(**recipe), some_text())
    trainer.run()
    assert trainer._average is None
    predicted = trainer.prediction_tensors()
    assert predicted["target_log_probabilities"].shape == (3, 89)
    mean = predicted["logits"].softmax(2).mean(0)
    assert torch.equal(predicted["mean_argmax"], mean.argmax(1).int())
    expected = -mean[torch.arange(89), trainer._test[1:, 0]].log().mean()
    assert trainer.history[-1][4] == pytest.approx(float(expected), rel=1e-5)


# ---- the promise -----------------------------------------------------------------------------------------------------


def bits(trainer: LanguageTrainer) -> list[torch.Tensor]:
    return [trainer._flat.values, trainer._best, *trainer.prediction_tensors().values()]


@pytest.mark.parametrize("changes", [{}, {"schedule": {"name": "snapshot", "cycles": 5}}])
@pytest.mark.parametrize("epoch", [1, 4])
def test_a_checkpoint_goes_on_with_the_same_bits(epoch, changes):
    whole = LanguageTrainer(a_member(epochs=5, **changes), some_text())
    whole.run()
    assert changes or whole._average is not None, "the averages are part of what is resumed"
    first, second = (LanguageTrainer(a_member(epochs=5, **changes), some_text()) for _ in range(2))
    first.run(until=epoch)
    second.restore(first.checkpoint())
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(bits(whole), bits(second)))
    assert whole.history == second.history or np.array_equal(whole.history, second.history, equal_nan=True)
    assert whole.validation_losses == second.validation_losses


def test_sources_are_isolated():
    """`init` moves the weights and no mask or length; `stochastic` the reverse; nothing touches torch's own state."""
    state = torch.random.get_rng_state()

    def masks_and_weights(seeds: Seeds) -> tuple[list[torch.Tensor], list[int], torch.Tensor]:
        trainer = LanguageTrainer(a_member(seeds), some_text())
        draw = language_module._Draw(seeds.stochastic, 5, trainer._row_numbers)
        masks = trainer.model.masks(trainer.language.dropout, 4, draw)
        lengths = [segment_length(trainer.language, seeds.stochastic, 0, step) for step in range(50)]
        return [masks.words, masks.input, *masks.outputs, *masks.weights], lengths, trainer._flat.values

    one, other_init = masks_and_weights(Seeds()), masks_and_weights(Seeds(init=2))
    other_stochastic = masks_and_weights(Seeds(stochastic=2))
    assert all(torch.equal(a, b) for a, b in zip(one[0], other_init[0]))
    assert one[1] == other_init[1]
    assert not torch.equal(one[2], other_init[2])
    assert all(not torch.equal(a, b) for a, b in zip(one[0], other_stochastic[0]))
    assert one[1] != other_stochastic[1]
    assert torch.equal(one[2], other_stochastic[2])
    for seed in ("shuffle", "augment"):
        assert all(torch.equal(a, b) for a, b in zip(one[0], masks_and_weights(Seeds(**{seed: 2}))[0]))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_masks_differ_from_step_to_step_and_layer_to_layer():
    trainer = LanguageTrainer(a_member(), some_text())
    draws = [
        language_module._Draw(1, epoch << 20 | step, trainer._row_numbers)(4, 400, 0.5)
        for epoch, step in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    again = language_module._Draw(1, 0, trainer._row_numbers)
    draws += [again(4, 400, 0.5), again(4, 400, 0.5)]
    assert torch.equal(draws[0], draws[4])
    for i, one in enumerate(draws):
        for j, other in enumerate(draws[i + 1 :], i + 1):
            if (i, j) != (0, 4):
                assert 0.4 < (one != other).float().mean() < 0.6


def digests(store: popnet.Store) -> dict[str, tuple[Any, ...]]:
    table = store.members()
    assert set(table["status"]) == {"done"}
    return {
        key: (row["weights_digest"], row["predictions_digest"], store.history(key).to_csv())
        for key, row in table.iterrows()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> popnet.Result:
    return run(experiment(), tmp_path_factory.mktemp("language") / "store", workers=2)


def test_bits_depend_neither_on_workers_nor_on_order_nor_on_a_break(trained, tmp_path):
    reference = digests(trained.store)
    assert not trained.store.verify()
    assert digests(run(experiment(), tmp_path / "alone", workers=1, order=lambda m: m[::-1]).store) == reference

    started: list[Any] = []

    class Stop(popnet.engine.Silent):
        def member(self, failed: bool = False) -> None:
            started.append(failed)
            if len(started) == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment(), tmp_path / "broken", workers=2, reporter=Stop())
    kept = digests(popnet.open_store(tmp_path / "broken"))
    assert 0 < len(kept) < len(reference)
    assert all(reference[key] == value for key, value in kept.items())
    assert digests(run(experiment(), tmp_path / "broken", workers=2).store) == reference


def test_members_of_a_population_differ_where_they_should(trained):
    rows = {p.name: [digests(trained.store)[m.id] for m in p.members] for p in trained.plan.populations}
    for name, found in rows.items():
        distinct = len({weights for weights, _, _ in found})
        assert distinct == (1 if name == "same" else 3), name
    late = [trained.store.history(m.id)["train_loss"].tolist() for m in trained.plan.populations[4].members]
    assert late[0][:2] == late[1][:2] == late[2][:2]
    assert len({losses[2] for losses in late}) == 3
    bit = [trained.store.history(m.id)["train_loss"].tolist() for m in trained.plan.populations[5].members]
    assert bit[0][0] == bit[1][0] == bit[2][0]
    assert trained.store.labels().shape == (89,)
    assert trained.store.language_predictions(trained.plan.members[0].id).logits.shape == (1, 3, WORDS)


# ---- what cannot be is said before anything trains -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet14"}, r"model 'resnet14' is no language model.*use qrnn"),
        ({"language": None}, r"model 'qrnn' is a language model: add a section 'language'"),
        ({"optimizer": {"name": "adam", "lr": 1.0}}, r"language models train by 'sgd'"),
        ({"precision": "bf16"}, r"precision=bf16: language models train in fp32 or tf32"),
        ({"augment": {"flip": True}}, r"augment is for models of images"),
        ({"epochs": 4096}, r"epochs=4096: language models train for at most 4,095"),
        ({"language": {"dropout": {"inputs": 0.1}}}, r"language.dropout.inputs: unknown key; did you mean 'input'"),
    ],
)
def test_a_wrong_recipe_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment(**changes)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"vary": ["shuffle"]}, r"varies 'shuffle', which a language model's training does not draw from"),
        ({"vary": ["init"], "views": "flip"}, r"views=flip is for images"),
        ({"vary": ["stochastic"], "until_step": 3}, r"until_step=3: a language model's epochs have varying numbers"),
        ({"vary": ["bit"], "perturbation": {"step": 3}}, r"perturbation.step=3"),
    ],
)
def test_a_wrong_variant_is_refused(variant, message):
    with pytest.raises(ConfigError, match=message):
        config.from_mapping({**CONTENT, "variants": [{"name": "wrong", **variant}]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digits"}, r"dataset 'digits' is no text"),
        ({"model": {"name": "qrnn", "kwargs": {"layers": 0}}}, r"layers must be a positive integer, not 0"),
        ({"model": {"name": "qrnn", "kwargs": {"layer": 2}}}, r"'qrnn' has no option 'layer'"),
        ({"batch_size": 400}, r"recipe.batch_size=400 needs a training part of at least 1200 tokens"),
        ({"train_examples": 10**6}, r"recipe.train_examples=1000000: the training part has"),
        ({"language": {"logit_positions": 90}}, r"logit_positions=90: the test part has 89 tokens to predict"),
    ],
)
def test_what_does_not_fit_the_text_is_refused(changes, message, tmp_path):
    wanted = experiment(**changes)
    with pytest.raises(ConfigError, match=message):
        run(wanted, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_divergence_is_said():
    violent = {
        "optimizer": {"name": "sgd", "lr": 1e25, "momentum": 0.0, "weight_decay": 0.1},
        "language": {"clip_gradient": None},
    }
    trainer = LanguageTrainer(a_member(**violent), some_text())
    with pytest.raises(TrainingError, match=r"loss.* is (nan|inf).*gradient clipping"):
        trainer.run()


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_all_means_what_the_recipe_has():
    rows = {v.name: v.sources for v in experiment().variants}
    assert rows["All Nondeterminism Sources"] == rows["Acc. Ens."] == ("init", "stochastic")


def test_recipes_of_images_keep_their_digests():
    image = {
        "dataset": "digits",
        "model": "linear",
        "epochs": 1,
        "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 1},
    }
    assert "language" not in Recipe.model_validate(image).canonical()
    assert "language" in experiment().recipe.canonical()
    assert plan(experiment()).members[0].identity["recipe"]["language"]["dropout"]["words"] == 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_trains_the_same_model():
    here, there = (LanguageTrainer(a_member(epochs=1), some_text(), device) for device in ("cpu", "cuda"))
    here.run()
    there.run()
    torch.testing.assert_close(here._flat.values, there._flat.values.cpu(), atol=1e-4, rtol=1e-3)
    again = LanguageTrainer(a_member(epochs=1), some_text(), "cuda")
    again.run()
    assert torch.equal(again._flat.values, there._flat.values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", [7, 20])
def test_a_graph_for_each_length_gives_the_same_gradient(length):
    trainer = LanguageTrainer(a_member(), some_text(), "cuda")
    trainer.model.train()
    tokens, state = trainer._train[: length + 1], trainer.model.start(4)
    draw = language_module._Draw(1, 0, trainer._row_numbers)
    masks = trainer.model.masks(trainer.language.dropout, 4, draw)
    trainer._flat.gradients.zero_()
    loss, _ = trainer.gradients(tokens, state, masks)
    expected = trainer._flat.gradients.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured, _ = trainer.gradients(tokens, state, masks)
    trainer._flat.gradients.zero_()
    graph.replay()
    assert torch.equal(captured, loss)
    assert torch.equal(trainer._flat.gradients, expected)
