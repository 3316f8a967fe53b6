"""What a supervised method asks of the data module: how many outputs, of which kind; and whole splits."""

from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor


def count_outputs(data: LightningDataModule, target: str) -> int:
    """How wide a head the labels need. Raises where they are not what `target`, an option of Classifier, takes."""
    name = type(data).__name__
    if target == "class" and not data.num_classes:
        raise MisconfigurationException(
            f"{name} has no classes to predict: where its labels are numbers, set model.init_args.target to "
            "regression, or to fractions if they lie in [0, 1]"
        )
    if target != "class" and (data.num_classes or not data.num_outputs):
        kind = "classes: set model.init_args.target to class" if data.num_classes else "missing"
        raise MisconfigurationException(
            f"target {target} needs labels that are numbers, those of {name} are {kind}"
        )
    if target == "fractions":
        labels = data.datasets["train"].labels
        values = labels[~labels.isnan()]
        if (values < 0).any() or (values > 1).any():
            raise MisconfigurationException(
                f"target fractions needs labels in [0, 1], those of {name} go from {values.min():g} to "
                f"{values.max():g}: set model.init_args.target to regression"
            )
    return data.num_outputs


def check_class_labels(data: LightningDataModule, method: str) -> None:
    """Raise where a method that reads classes gets other labels, or none."""
    name = type(data).__name__
    if data.task != "classification":
        raise MisconfigurationException(
            f"{method} reads classes, which the labels of {name} are not: take other data"
        )
    if not (torch.as_tensor(data.train_dataloader().dataset.labels) >= 0).any():
        raise MisconfigurationException(
            f"{method} reads labels, and no training image of {name} has one: train on labeled images"
        )


@torch.no_grad()
def encode_split(
    encode: Callable[[Tensor], Tensor], data: LightningDataModule, split: str, device: torch.device
) -> Tensor:
    """Features (N, D) float32 of all images of a split without augmentation, on each process."""
    count, size = len(data.datasets[split]), data.batch_size
    parts = np.array_split(np.arange(count), range(size, count, size))
    return torch.cat([encode(data.read_batch(split, part, device).views[0]).float() for part in parts])
