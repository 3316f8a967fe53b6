"""Normalization of images by a mean and a standard deviation for each channel."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor


def fit_normalization(
    mean: list[float], std: list[float], channels: int, folder: Path
) -> tuple[list[float], list[float]]:
    """Repeat a single number for all channels of the images in `folder`.

    Raises:
        MisconfigurationException: mean or std has neither one number nor one for each channel.
    """
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    if not len(mean) == len(std) == channels:
        raise MisconfigurationException(
            f"mean {mean} and std {std}: the images of {folder} have {channels} channels, "
            "give one number for each (or a single one for all)"
        )
    return mean, std


def check_same_normalization(state: dict, mean: list[float], std: list[float]) -> None:
    """Raise where the mean and std in a data module's saved state are others than this run's."""
    if (state["mean"], state["std"]) != (mean, std):
        raise MisconfigurationException(
            f"the checkpoint was trained with mean {state['mean']} and std {state['std']}, this run has "
            f"{mean} and {std}: set data.init_args.mean and std to the checkpoint's"
        )


def undo_normalization(view: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Turn a normalized view (B, C, H, W) back into pixels, uint8 (B, H, W, C)."""
    mean, std = (torch.tensor(values, device=view.device)[:, None, None] for values in (mean, std))
    return (view.float() * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
