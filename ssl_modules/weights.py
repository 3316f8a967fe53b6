"""Weights that move between methods: any checkpoint's encoder into any module with the same encoder."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn


def misfit(own: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """How two sets of weights differ, naming up to three keys of each kind; empty where they fit."""
    wrong = {
        "missing": own.keys() - found.keys(),
        "unknown": found.keys() - own.keys(),
        "of another shape": [k for k in own.keys() & found.keys() if own[k].shape != found[k].shape],
    }
    said = (f"{len(keys)} {how} ({', '.join(sorted(keys)[:3])})" for how, keys in wrong.items() if keys)
    return "; ".join(said)


def load_encoder(encoder: nn.Module, path: str, normalisation: dict[str, list[float]]) -> None:
    """Load a checkpoint's encoder, in place.

    Args:
        encoder: built like the one in the checkpoint.
        path: of a checkpoint of any method.
        normalisation: `mean` and `std` of the present data, which must be those the encoder was trained with.

    Raises:
        MisconfigurationException: no such file, other weights (which), or other normalisation.
    """
    if not Path(path).is_file():
        raise MisconfigurationException(f"model.init_args.ckpt: there is no {Path(path).absolute()}")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "encoder."
    found = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    if wrong := misfit(encoder.state_dict(), found):
        raise MisconfigurationException(
            f"{path}: its encoder does not fit this one: {wrong}. Use the encoder block of its run's config.yaml"
        )
    stored = [v for v in checkpoint.values() if isinstance(v, dict) and v.keys() == normalisation.keys()]
    for theirs in stored:  # the data module's state
        if theirs != normalisation:
            raise MisconfigurationException(
                f"{path}: its encoder was trained with mean {theirs['mean']} and std {theirs['std']}, this run has "
                f"{normalisation['mean']} and {normalisation['std']}: set data.init_args.mean and std alike"
            )
    encoder.load_state_dict(found)
