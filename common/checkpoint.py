"""Reading of checkpoints, which unpickles nothing but tensors and plain types."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def read_checkpoint(path: Path, device: str = "meta", option: str = "--ckpt_path") -> dict[str, Any]:
    """Read a checkpoint that Lightning wrote.

    Args:
        path: path of the file.
        device: where its tensors go; `meta` reads all but their content.
        option: the option that gave the path, for error messages.

    Raises:
        MisconfigurationException: the file does not exist or is no checkpoint.
    """
    if not path.is_file():
        raise MisconfigurationException(f"{option} {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=device == "meta")
    except Exception as error:  # which one depends on the damage
        raise MisconfigurationException(
            f"{option} {path} cannot be read as a checkpoint ({type(error).__name__}): give another one"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise MisconfigurationException(
            f"{option} {path} is no checkpoint of a run: give RUN/checkpoints/last.ckpt"
        )
    return checkpoint


def encoder_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the encoder's weights from any method's checkpoint, under the encoder's own names."""
    prefix = "encoder."
    weights = checkpoint["state_dict"].items()
    return {name.removeprefix(prefix): weight for name, weight in weights if name.startswith(prefix)}


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Move an unfinished epoch's sums of metrics to the callback's state; older checkpoints have them as weights."""
    prefix = "means."
    weights = checkpoint["state_dict"]
    sums: dict[str, dict[str, torch.Tensor]] = {}
    for name in list(weights):
        if name.startswith(prefix):
            metric, kind = name.removeprefix(prefix).rsplit(".", 1)
            sums.setdefault(metric, {})[kind] = weights.pop(name)
    if sums:
        rows = {metric: torch.stack([pair["mean_value"], pair["weight"]]) for metric, pair in sums.items()}
        checkpoint.setdefault("callbacks", {})["EpochMeans"] = {"sums": rows}
