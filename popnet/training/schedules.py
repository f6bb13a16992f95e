"""Learning rates as a table: the rate used at each step, known before training begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popnet.config import Recipe


def learning_rates(recipe: Recipe, steps_per_epoch: int) -> NDArray[np.float64]:
    """The learning rate at each step, for group multiplier 1; `popnet.config.Schedule` states the formulas.

    Args:
        recipe: its optimiser's `lr` is the largest rate.
        steps_per_epoch: 98 for 50,000 images in batches of 512.

    Returns:
        float64 [epochs * steps_per_epoch]. Step 0 of a warm-up from 0 has rate 0, as in the released programs of
        Summers & Dinneen, which set the rate before each step from the steps already made.
    """
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    cycle_epochs = recipe.epochs // recipe.schedule.cycles
    steps = np.arange(recipe.epochs * steps_per_epoch)
    return _rates(recipe, (steps % max(cycle_epochs * steps_per_epoch, 1)) / steps_per_epoch)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The rate after `epoch` epochs, a fraction included: for language models, whose epochs vary in steps."""
    cycle_epochs = recipe.epochs // recipe.schedule.cycles
    return float(_rates(recipe, np.array(epoch % max(cycle_epochs, 1))))


def _rates(recipe: Recipe, epoch: NDArray[np.float64]) -> NDArray[np.float64]:
    """`epoch`: counted from the cycle's start."""
    schedule, largest = recipe.schedule, recipe.optimizer.lr
    cycle_epochs = recipe.epochs // schedule.cycles
    if schedule.name in ("cosine", "snapshot"):
        rates = 0.5 * largest * (1.0 + np.cos(np.pi * epoch / max(cycle_epochs, 1)))
    elif schedule.name == "linear":
        falling = cycle_epochs - schedule.warmup_epochs
        rates = largest * (1.0 - (epoch - schedule.warmup_epochs) / max(falling, 1e-300))
    else:
        rates = np.full(epoch.shape, largest)
    if schedule.warmup_epochs > 0:
        rising = schedule.start + (largest - schedule.start) * (epoch / schedule.warmup_epochs)
        rates = np.where(epoch <= schedule.warmup_epochs, rising, rates)
    return np.asarray(rates, dtype=np.float64)
