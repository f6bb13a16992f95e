"""The store: a folder that holds every finished member's predictions, history and provenance.

    store.json                  format version, and the experiments that were run here with their recipes
    ledger.sqlite               one row for each member; only the driver writes it
    lock                        held by the run that writes
    labels/DIGEST.safetensors   the test labels of each data set
    members/ID.safetensors      predictions [views, examples, classes] float32; of a language model: LanguagePredictions
    weights/ID.safetensors      where the recipe keeps weights
    features/ID.safetensors     where it names representations: [examples, ...] float32 of each layer
    trajectories/ID.safetensors where it keeps the weights of every epoch: [epochs + 1, weights] float32
    checkpoints/ID-EPOCH.safetensors   beginnings that unfinished members share; removed when none needs them
    checkpoints/ID-beginning.safetensors   how far the training of such a beginning is
    checkpoints/ID.safetensors         how far an unfinished member is; removed when it is finished
    tables/NAME.csv             what the last run printed; its members and their epochs
    progress.json               how far the run is, or how the last one ended
    damaged/                    what did not match its digest, set aside

Files are written aside, flushed to disk and renamed, and only then entered in the ledger: whatever the ledger calls
done is there in full, and whatever was cut short is trained again. docs/store.md is the whole of the format.

What `popnet store` does is in modules of the same names: verify, repair, merge, export, prune.
"""

from popnet.store.files import digest, load_tensors, save_tensors, write_aside
from popnet.store.header import FORMAT
from popnet.store.store import Finished, LanguagePredictions, Store, open_store

__all__ = [
    "FORMAT",
    "Finished",
    "LanguagePredictions",
    "Store",
    "digest",
    "load_tensors",
    "open_store",
    "save_tensors",
    "write_aside",
]
