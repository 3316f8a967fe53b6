"""`cli.py predict`: features of a split, or of a folder of images, in a file. Cut off, it goes on where it stopped."""

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from common.batch import BatchKey
from common.checkpoint import read_checkpoint
from datamodules.base import DataModule
from datamodules.images import ImageDataModule
from datamodules.loading.loader import BatchLoader
from datamodules.storage.image_files import OnBadImage
from launch.feature_shards import FeatureShards, check_same, read_metadata


def write_features(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    data: DataModule,
    ckpt_path: str | None,
    split: str,
    images: str | None,
    output: str | None,
    on_bad_image: OnBadImage,
) -> None:
    """Write features (N, D) float32, labels, index and, where images come from files, their names to `output`.

    Rows are in the order of the split, or of the names. Until all are there they are in parts, in a folder beside it.
    Without `ckpt_path` the weights are those of the model's `ckpt` or, without one, those that its encoder has.
    """
    source = ckpt_path or model.ckpt
    if source:
        read_checkpoint(Path(source), option="--ckpt_path" if ckpt_path else "model.init_args.ckpt")
    data.prepare_data()
    data.setup("predict")
    loader, names = open_source(data, split, Path(images) if images else None, on_bad_image)
    what = Path(images).absolute().name if images else split
    if not (output or source):
        raise MisconfigurationException("predict with pretrained weights: give --output FEATURES.npz")
    target = Path(output or Path(source).with_name(f"{Path(source).stem}_{what}.npz"))
    if target.suffix != ".npz":
        raise MisconfigurationException(f"--output {target}: give a name that ends in .npz")
    about = {
        "path": str(Path(source).absolute()) if source else "pretrained weights",
        "checkpoint": fingerprint_weights(model.encoder, source),
        "data": type(data).__name__,
        "split": str(Path(images).absolute()) if images else split,
        "examples": len(loader.dataset),
        "first_and_last": fingerprint_views(data, loader),
        "batch_size": loader.batch_size,
        "precision": str(trainer.precision),
    }
    if target.is_file():
        check_same(target, about, read_metadata(target))
        rank_zero_info(f"{target} is complete and left as it is")
        return
    parts = FeatureShards(target.with_suffix(".parts"), about, names)
    if parts.done:
        rank_zero_info(f"{parts.folder}: going on after {parts.done} of {len(loader)} batches")
    if parts.done < len(loader):
        data.predict_dataloader = lambda: RemainingBatches(loader, parts.done)
        trainer.callbacks.append(parts)
        weights = {"ckpt_path": ckpt_path, "weights_only": True}
        with warnings.catch_warnings():  # no callback of the training is needed
            warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
            pl.Trainer.predict(trainer, model, datamodule=data, return_predictions=False, **weights)
    if parts.done == len(loader):
        parts.join_shards(target)
    else:  # limit_predict_batches
        rank_zero_info(f"{parts.folder} has {parts.done} of {len(loader)} batches: the same command goes on")


def open_source(
    data: DataModule, split: str, images: Path | None, on_bad_image: OnBadImage
) -> tuple[BatchLoader, list[str] | None]:
    """What to read, in order, and the name of each example if it has one."""
    if images is None:
        splits = {"bank", *data.datasets}
        if split not in splits:
            raise MisconfigurationException(
                f"--split {split}: {type(data).__name__} has {', '.join(sorted(splits))} here"
            )
        return data.make_loader(split), data.names_of(split if split in data.datasets else "train")
    if not isinstance(data, ImageDataModule):
        raise MisconfigurationException(f"--images: {type(data).__name__} reads no images")
    files = data.loose_images(images, on_bad_image)
    return BatchLoader(files, data.batch_size, num_workers=data.num_workers), files.names


def fingerprint_weights(encoder: nn.Module, ckpt: str | None) -> str:
    """A fingerprint of a checkpoint's file or, without one, of an encoder's weights."""
    if ckpt:
        with open(ckpt, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    weights = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        weights.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes())
    return weights.hexdigest()


def fingerprint_views(data: DataModule, loader: BatchLoader) -> str:
    """A fingerprint of the first and the last view: other data, sizes or normalizations have another."""
    ends = np.array([0, len(loader.dataset) - 1])
    stored = *loader.dataset.__getitems__(ends), BatchKey.single(0, len(ends))
    view = data.prepare_batch(stored, torch.device("cpu"), augment=False).views[0]
    return hashlib.sha256(view.numpy().tobytes()).hexdigest()


class RemainingBatches:
    """The batches of a loader from number `first` on."""

    def __init__(self, loader: BatchLoader, first: int):
        self.loader, self.first = loader, first
        loader.place = lambda: (0, first)

    def __len__(self) -> int:
        return len(self.loader) - self.first

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.loader)
