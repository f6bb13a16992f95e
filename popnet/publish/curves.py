"""Learning curves of finished members as TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from popnet.errors import ConfigError, DataError, StoreError
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.populations import finished_members
from popnet.store import Store


def write_curves(
    store: Store, output: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """Write what each epoch of each finished member measured: `OUTPUT/EXPERIMENT/ROW/MEMBER`, one scalar a column.

    Args:
        store: is only read. A member that several rows share is written once, in the first of them.
        output: a folder that is not there, or empty.
        progress: is told of members written, and of how many there are.

    Returns:
        The members' folders.

    Raises:
        ConfigError: TensorBoard is not installed, or `output` holds something.
        DataError: nothing is finished.
        StoreError: the folder cannot be made.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError('TensorBoard is not installed: pip install "popnet[tensorboard]"') from None
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(f"{output}: is there already: choose another name")
    done = store.done()
    folders: dict[str, Path] = {}
    for plan in stored_plans(store):
        for population in plan.populations:
            row = output / plan.experiment.name / population.name.replace("/", "-")
            for m in finished_members(population, done):
                folders.setdefault(m.id, row / m.id)
    if not folders:
        raise DataError(f"{store.path}: no finished run to export")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written: {error.strerror}") from None
    for count, (member, folder) in enumerate(folders.items(), start=1):
        with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]
            for name, values in store.history(member).items():
                for epoch, value in values.dropna().items():
                    writer.add_scalar(str(name), value, epoch)  # type: ignore[no-untyped-call]
        progress(count, len(folders))
    return list(folders.values())
