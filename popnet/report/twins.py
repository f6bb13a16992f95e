"""Which runs are twins, alike but for one weight that was changed or for the arithmetic of their first step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popnet.config import Variant
from popnet.metrics import theory
from popnet.results.found import Runs


def are_twins(runs: Runs, twin: Runs) -> bool:
    """Whether the first are the second's runs with one weight changed, or the first step in another precision."""
    if runs.variant is None or twin.variant is None or runs.seeds is None or twin.seeds is None:
        return False
    poked = "bit" in runs.variant.sources and "bit" not in twin.variant.sources
    stepped = runs.variant.first_step_precision is not None and twin.variant.first_step_precision is None
    if not (poked or stepped) or runs.recipe != twin.recipe or runs.variant.part != twin.variant.part:
        return False
    return set(_unpoked(runs)) <= set(_unpoked(twin))


def change_of(variant: Variant) -> str:
    """What makes a row's runs differ from their twins, but for the step: only rows alike in it can be set side by side.

    Empty of a row in which nothing does.
    """
    change = variant.perturbation.model_copy(update={"step": 0}).model_dump_json() if "bit" in variant.sources else ""
    return " ".join(filter(None, (change, variant.first_step_precision)))


def twin_disagreements(runs: Runs, twin: Runs) -> NDArray[np.float64]:
    """The share of predictions in which each run differs from its own twin, percent, float64 [runs]."""
    assert runs.predictions is not None
    assert twin.predictions is not None
    place = {seeds: row for row, seeds in enumerate(_unpoked(twin))}
    order = [place[seeds] for seeds in _unpoked(runs)]
    return 100.0 * theory.twin_disagreements(runs.predictions, twin.predictions[order])


def _unpoked(runs: Runs) -> list[object]:
    """Each run's seeds but for the changed weight's."""
    assert runs.seeds is not None
    return [
        tuple(part for part in seeds if not (isinstance(part, tuple) and part[0] == "bit"))
        if isinstance(seeds, tuple)
        else seeds
        for seeds in runs.seeds
    ]
