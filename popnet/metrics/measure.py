"""Anyone's predictions on disk -> one row of a variability table; what `popnet measure` calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from popnet.errors import DataError
from popnet.metrics.predictions import open_labels, open_predictions
from popnet.metrics.variability import RESAMPLES, Variability, variability


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
        A DataFrame indexed by `variant` with the fields of `Variability`, then population, failed and marks, as
        `popnet.report.render` prints it.

    Raises:
        DataError: one sentence that names the file, for whatever is wrong with it.
    """
    predictions = open_predictions(path)
    try:
        row = variability(
            predictions,
            open_labels(labels_path) if labels_path is not None else _own_labels(Path(path)),
            ensemble_cross_entropy=ensemble_cross_entropy,
            resamples=resamples,
            bootstrap_seed=bootstrap_seed,
            pairs_seed=pairs_seed,
            threads=threads,
            block=block,
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    values = {**row.as_dict(), "population": row.members, "failed": 0, "marks": "; ".join(_marks(row))}
    return pd.DataFrame([values], index=pd.Index([name or Path(path).name], name="variant"))


def _own_labels(path: Path) -> np.ndarray:
    if not (path / "store.json").exists():
        raise DataError(f"{path}: name the labels (--labels): only a popnet store brings its own")
    from popnet.store import open_store

    return open_store(path).labels()


def _marks(row: Variability) -> list[str]:
    marks = []
    if not row.all_pairs:
        marks.append(f"ensembles: {row.ensemble_pairs:,} sampled pairs, Δ ± {row.ensemble_delta_error:.1g}")
    return marks
