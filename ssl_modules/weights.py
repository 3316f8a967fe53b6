"""Weights that move between methods: any checkpoint's encoder into any module with the same encoder."""

from pathlib import Path
from typing import Any

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


def said(state: dict[str, Any]) -> str:
    """'mean [0.5] and std [0.25]'"""
    return " and ".join(f"{name} {value}" for name, value in state.items())


def load_encoder(encoder: nn.Module, path: str, data_state: dict[str, Any]) -> None:
    """Load a checkpoint's encoder, in place.

    Args:
        encoder: built like the one in the checkpoint.
        path: of a checkpoint of any method.
        data_state: the present data module's `state_dict()`, which must be the one that the encoder was trained with.

    Raises:
        MisconfigurationException: no such file, not plain tensors, other weights (which), or data that are presented
            otherwise.
    """
    if not Path(path).is_file():
        raise MisconfigurationException(f"model.init_args.ckpt: there is no {Path(path).absolute()}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise MisconfigurationException(
            f"model.init_args.ckpt: {path} cannot be read as a checkpoint ({type(error).__name__}): give another one"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise MisconfigurationException(
            f"model.init_args.ckpt: {path} is no checkpoint of a run: give RUN/checkpoints/last.ckpt"
        )
    prefix = "encoder."
    found = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    if wrong := misfit(encoder.state_dict(), found):
        raise MisconfigurationException(
            f"{path}: its encoder does not fit this one: {wrong}. Use the encoder block of its run's config.yaml"
        )
    for theirs in checkpoint.values():
        if isinstance(theirs, dict) and theirs.keys() == data_state.keys() and theirs != data_state:
            raise MisconfigurationException(
                f"{path}: its encoder was trained with {said(theirs)}, this run has {said(data_state)}: "
                "set these options of data.init_args alike"
            )
    encoder.load_state_dict(found)
