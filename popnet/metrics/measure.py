"""Anyone's predictions on disk -> one row of a variability table; what `popnet measure` calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from popnet.errors import DataError
from popnet.metrics.language import LanguageVariability
from popnet.metrics.predictions import open_labels, open_predictions
from popnet.metrics.variability import RESAMPLES, Variability, variability

if TYPE_CHECKING:
    from popnet.metrics.language_populations import LanguagePopulation


def measure_file(
    path: str | Path,
    labels_path: str | Path | None = None,
    *,
    name: str | None = None,
    ensemble_cross_entropy: bool = True,
    resamples: int = RESAMPLES,
    bootstrap_seed: int = 1,
    pairs_seed: int = 1,
    threads: int | None = None,
    block: int | None = None,
) -> pd.DataFrame:
    """The variability of stored predictions, as a table of one row.

    Args:
        path: the predictions; see `popnet.metrics.open_predictions` for the forms.
        labels_path: integer labels [examples]: .npy, .npz, .pt, .safetensors, .txt or .csv; a popnet
            store brings its own.
        name: of the row; the file's or folder's name if not given.
        ensemble_cross_entropy, resamples, bootstrap_seed, pairs_seed, threads, block: as for `variability`.

    Returns:
        A DataFrame indexed by `variant` with the fields of `Variability`, or for a store of language models those of
        `LanguageVariability`, then population, failed and marks, as `popnet.report.render` prints it.

    Raises:
        DataError: one sentence that names the file, for whatever is wrong with it.
    """
    options: dict[str, Any] = {
        **{"resamples": resamples, "bootstrap_seed": bootstrap_seed, "pairs_seed": pairs_seed},
        **{"threads": threads, "block": block},
    }
    row: Variability | LanguageVariability
    try:
        language = _language_population(Path(path))
        if language is not None:
            row = language.variability(**options)
        else:
            labels = open_labels(labels_path) if labels_path is not None else _own_labels(Path(path))
            predictions = open_predictions(path)
            row = variability(predictions, labels, ensemble_cross_entropy=ensemble_cross_entropy, **options)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    values = {**row.as_dict(), "population": row.members, "failed": 0, "marks": "; ".join(_marks(row))}
    return pd.DataFrame([values], index=pd.Index([name or Path(path).name], name="variant"))


def _language_population(path: Path) -> LanguagePopulation | None:
    """All finished members of a store of language models; None for anything else."""
    if not (path / "store.json").exists():
        return None
    from popnet.metrics.language_populations import stored_population
    from popnet.store import open_store

    return stored_population(open_store(path))


def _own_labels(path: Path) -> np.ndarray:
    if not (path / "store.json").exists():
        raise DataError(f"{path}: name the labels (--labels): only a popnet store brings its own")
    from popnet.store import open_store

    return open_store(path).labels()


def _marks(row: Variability | LanguageVariability) -> list[str]:
    marks = []
    if not row.all_pairs:
        error = row.ensemble_delta_error if isinstance(row, Variability) else row.ensemble_ppl_delta_error
        marks.append(f"ensembles: {row.ensemble_pairs:,} sampled pairs, Δ ± {error:.1g}")
    return marks
