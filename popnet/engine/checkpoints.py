"""Checkpoints of a training: safetensors that say whose they are, and carry the digest of their content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as deserialise
from safetensors.torch import save as serialise
from torch import Tensor

from popnet.errors import StoreError
from popnet.protocol import View
from popnet.store.files import CHECKPOINT_DIGEST, digest
from popnet.untrusted.arrays import check_safetensors, check_safetensors_content

_OWNER = "checkpoint.owner"


def pack(state: dict[str, Tensor], member_id: str, views: Sequence[View]) -> bytes:
    """A trainer's state as the content of a file that belongs to a member and the views it predicts."""
    owned = {**state, _OWNER: _text(_owner(member_id, views))}
    return serialise({**owned, CHECKPOINT_DIGEST: _text(digest(owned))})


def unpack(content: bytes, path: Path, member_id: str, views: Sequence[View]) -> dict[str, Tensor]:
    """The state that `pack` made a file of, in memory of torch's own alignment.

    Raises:
        StoreError: the content of `path` is damaged, or of another member.
    """
    try:
        check_safetensors_content(content)
        tensors = {name: tensor.clone() for name, tensor in deserialise(content).items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: damaged: {error}") from None
    recorded = tensors.pop(CHECKPOINT_DIGEST, None)
    if recorded is None or not torch.equal(recorded, _text(digest(tensors))):
        raise StoreError(f"{path}: damaged: it does not match its digest")
    if not torch.equal(tensors.pop(_OWNER, torch.empty(0)), _text(_owner(member_id, views))):
        raise StoreError(f"{path}: is no checkpoint of member {member_id} with these views")
    return tensors


def epoch_of(path: Path) -> int:
    """How far the training in a checkpoint is, in epochs; 0 where there is none that can be read."""
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return int(file.get_tensor("epoch"))
    except (OSError, SafetensorError, ValueError, RuntimeError):  # the last: an epoch that is no single number
        return 0


def _owner(member_id: str, views: Sequence[View]) -> str:
    return json.dumps({"member": member_id, "views": [list(view.key) for view in views]})


def _text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).clone()
