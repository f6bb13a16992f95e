"""Learning rates against the published formulas, written out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from popnet.config import Recipe, load
from popnet.training import learning_rates

STEPS = 98  # 50,000 images in batches of 512, the last partial batch kept


def recipe(**changes) -> Recipe:
    return load("resnet14").recipe.changed(changes)


def released(step: int, epochs: int = 500, largest: float = 0.4) -> float:
    """The released program of Summers & Dinneen: linear while e <= 3, then a cosine that no warm-up shifts."""
    e = step / STEPS
    if e <= 3:
        return largest * e / 3
    return 0.5 * largest * (1 + math.cos(math.pi * e / epochs))


# The first steps, both sides of the warm-up's end (3 * 98 = 294), the middle, the last step.
CHOSEN = [0, 1, 2, 49, 97, 98, 99, 196, 292, 293, 294, 295, 296, 1000, 9800, 24499, 24500, 24501, 40000, 48999]


def test_cosine_at_twenty_steps():
    rates = learning_rates(recipe(), STEPS)
    assert rates.dtype == np.float64
    assert rates.shape == (49_000,)
    assert len(CHOSEN) == 20
    np.testing.assert_allclose(rates[CHOSEN], [released(step) for step in CHOSEN], rtol=1e-13)


def test_cosine_is_the_formula_at_every_step():
    rates = learning_rates(recipe(), STEPS)
    np.testing.assert_allclose(rates, [released(step) for step in range(49_000)], rtol=1e-12)


def test_cosine_at_known_values():
    rates = learning_rates(recipe(), STEPS)
    assert rates[0] == 0.0
    assert rates[294] == 0.4, "e = 3 still belongs to the warm-up"
    assert rates[295] < 0.4 * 0.99992, "the cosine starts as if it had run since step 0"
    assert rates[24500] == pytest.approx(0.2, rel=1e-14)


def test_snapshot_at_twenty_steps():
    """Five cycles of 100 epochs; each warms up over 3 epochs and falls to 0 (accelerated ensembling)."""
    rates = learning_rates(recipe().with_snapshots(5), STEPS)
    cycle = 100 * STEPS
    chosen = [0, 1, 293, 294, 295, 4900, 9799, 9800, 9801, 10094, 10095, 14700, 19599, 19600]
    chosen += [29400, 29694, 34300, 39199, 39200, 48999]
    assert len(chosen) == 20
    expected = [released(step % cycle, epochs=100) for step in chosen]
    np.testing.assert_allclose(rates[chosen], expected, rtol=1e-13)
    np.testing.assert_array_equal(rates.reshape(5, cycle), np.tile(rates[:cycle], (5, 1)))
    assert rates[9799] < 1e-7
    assert rates[9800] == 0.0


def test_linear_falls_from_step_0_to_zero_after_the_last():
    rates = learning_rates(
        recipe(epochs=16, schedule={"name": "linear", "warmup_epochs": 0}, optimizer={"lr": 0.5}), 100
    )
    chosen = [0, 1, 2, 50, 99, 100, 101, 199, 400, 401, 800, 801, 1000, 1199, 1200, 1400, 1500, 1597, 1598, 1599]
    np.testing.assert_allclose(rates[chosen], [0.5 * (1 - step / 1600) for step in chosen], rtol=1e-13)


def test_linear_with_a_warm_up_from_a_start():
    """Jordan's ImageNet recipe: from 5e-5 up over 2 epochs, then linear to 0."""
    schedule = {"name": "linear", "warmup_epochs": 2, "start": 5e-5}
    rates = learning_rates(recipe(epochs=100, schedule=schedule, optimizer={"lr": 0.5}), 50)

    def expected(step: int) -> float:
        e = step / 50
        return 5e-5 + (0.5 - 5e-5) * e / 2 if e <= 2 else 0.5 * (100 - e) / 98

    np.testing.assert_allclose(rates, [expected(step) for step in range(5000)], rtol=1e-12)
    assert rates[0] == 5e-5
    assert rates.max() == rates[100] == 0.5


def test_constant():
    rates = learning_rates(recipe(epochs=2, schedule={"name": "constant", "warmup_epochs": 0}), 3)
    assert rates.tolist() == [0.4] * 6


def test_without_warm_up_the_cosine_starts_at_the_largest_rate():
    assert learning_rates(recipe(schedule={"warmup_epochs": 0}), STEPS)[0] == 0.4


def test_a_fraction_of_an_epoch_warms_up():
    rates = learning_rates(recipe(epochs=2, schedule={"warmup_epochs": 0.5}), 4)
    assert rates[:3].tolist() == pytest.approx([0.0, 0.2, 0.4])


def test_no_epochs_no_rates():
    rates = learning_rates(recipe(epochs=0), 4)
    assert rates.shape == (0,)


def test_an_epoch_has_steps():
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1, got 0"):
        learning_rates(recipe(), 0)
