"""Checkpoints, read: nothing but tensors and plain types is unpickled."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def read_checkpoint(path: Path, device: str = "meta", option: str = "--ckpt_path") -> dict[str, Any]:
    """A checkpoint of Lightning.

    Args:
        path: of the file.
        device: where its tensors go; `meta` reads all but their content.
        option: that names the file, for the message.

    Raises:
        MisconfigurationException: no such file, or one that is no checkpoint.
    """
    if not path.is_file():
        raise MisconfigurationException(f"{option} {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=device == "meta")
    except Exception as error:  # torch raises whatever the damage leads to
        raise MisconfigurationException(
            f"{option} {path} cannot be read as a checkpoint ({type(error).__name__}): give another one"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise MisconfigurationException(
            f"{option} {path} is no checkpoint of a run: give RUN/checkpoints/last.ckpt"
        )
    return checkpoint


def encoder_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of the encoder of any method's checkpoint, under the encoder's own names."""
    prefix = "encoder."
    weights = checkpoint["state_dict"]
    return {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Move the sums of an unfinished epoch from where they once lay, among the weights, to the callback's state."""
    prefix, sums = "means.", {}
    for name in [name for name in checkpoint["state_dict"] if name.startswith(prefix)]:
        metric, kind = name.removeprefix(prefix).rsplit(".", 1)
        sums.setdefault(metric, {})[kind] = checkpoint["state_dict"].pop(name)
    if sums:
        rows = {metric: torch.stack([sum_["mean_value"], sum_["weight"]]) for metric, sum_ in sums.items()}
        checkpoint.setdefault("callbacks", {})["EpochMeans"] = {"sums": rows}
