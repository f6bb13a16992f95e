"""The card of published predictions: what they are, and how to load them, for a page of a hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from popnet.publish.folder import Published

_ROUNDED = """
The logits are rounded to fp16, which can make two of an example's logits equal, or order them otherwise: metrics of
these files may differ in their last digits from those of the float32 logits that popnet measured.
"""


def card(rows: Sequence[Published], experiments: Mapping[str, Any], dtype: str) -> str:
    """README.md, with a head that lets `datasets` load the table of each row's runs."""
    head = {
        "tags": ["popnet", "training-variance", "logits"],
        "configs": [
            {"config_name": row.folder.replace("/", "--"), "data_files": f"{row.folder}/runs.csv"} for row in rows
        ],
    }
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {' and '.join(experiments)}: logits of many runs\n",
    ]
    lines += [text for one in experiments.values() if (text := str(one.get("description") or ""))]
    lines += ["", "| row | folder | logits [runs, examples, classes] |", "| --- | --- | --- |"]
    for row in rows:
        partly = f" (of {row.planned} planned)" if row.runs < row.planned else ""
        lines.append(f"| {row.row} | `{row.folder}` | {row.runs}{partly} x {row.examples} x {row.classes} |")
    first = rows[0].folder
    lines.append(f"""
```python
import numpy as np

logits = np.load("{first}/logits.npy", mmap_mode="r")
labels = np.load("{first}/labels.npy")
accuracies = [(run.argmax(-1) == labels).mean() for run in logits]
```

`runs.csv` has a line for each member of each run: its id, and the seed of each source of randomness. `metadata.json`
holds the experiments in full, the kind of device, and the library versions.""")
    if dtype == "fp16":
        lines.append(_ROUNDED.rstrip())
    return "\n".join(lines) + "\n"
