"""`cli.py predict`: features of a split, or of a folder of images, in a file. Cut off, it goes on where it stopped."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import BadZipFile

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import DataModule
from datamodules.image_files import OnBadImage
from datamodules.images import ImageDataModule
from datamodules.loader import BatchLoader
from launch.folders import whole

EVERY = 30.0  # seconds between two parts: what a crash may cost


def predict(
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
    """
    if not ckpt_path or not Path(ckpt_path).is_file():
        what = f"--ckpt_path {ckpt_path}: no such file" if ckpt_path else "predict needs a checkpoint"
        raise MisconfigurationException(f"{what}: give --ckpt_path RUN/checkpoints/last.ckpt")
    ckpt = Path(ckpt_path)
    data.prepare_data()
    data.setup("predict")
    loader, names = source(data, split, Path(images) if images else None, on_bad_image)
    what = Path(images).absolute().name if images else split
    target = Path(output) if output else ckpt.with_name(f"{ckpt.stem}_{what}.npz")
    if target.suffix != ".npz":
        raise MisconfigurationException(f"--output {target}: give a name that ends in .npz")
    with open(ckpt, "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    about = {
        "path": str(ckpt.absolute()),
        "checkpoint": weights,
        "data": type(data).__name__,
        "split": str(Path(images).absolute()) if images else split,
        "examples": len(loader.dataset),
        "first_and_last": looks(data, loader),
        "batch_size": loader.batch_size,
        "precision": str(trainer.precision),
    }
    if target.is_file():
        same(target, about, about_of(target))
        rank_zero_info(f"{target} is complete and left as it is")
        return
    parts = Parts(target.with_suffix(".parts"), about)
    if parts.done:
        rank_zero_info(f"{parts.folder}: going on after {parts.done} of {len(loader)} batches")
    if parts.done < len(loader):
        data.predict_dataloader = lambda: Rest(loader, parts.done)
        trainer.callbacks.append(parts)
        weights = {"ckpt_path": ckpt, "weights_only": True}
        pl.Trainer.predict(trainer, model, datamodule=data, return_predictions=False, **weights)
    if parts.done == len(loader):
        parts.join(target, names)
    else:  # limit_predict_batches
        rank_zero_info(f"{parts.folder} has {parts.done} of {len(loader)} batches: the same command goes on")


def source(
    data: DataModule, split: str, images: Path | None, on_bad_image: OnBadImage
) -> tuple[BatchLoader, list[str] | None]:
    """What to read, in order, and the name of each example if it has one."""
    if images is None:
        known = {"bank": data.datasets["train"]} | data.datasets
        if split not in known:
            raise MisconfigurationException(
                f"--split {split}: {type(data).__name__} has {', '.join(sorted(known))} here"
            )
        loader = data.bank_dataloader() if split == "bank" else data.loader(split)
        return loader, data.names_of(split if split in data.datasets else "train")
    if not isinstance(data, ImageDataModule):
        raise MisconfigurationException(f"--images: {type(data).__name__} reads no images")
    files = data.loose_images(images, on_bad_image)
    return BatchLoader(files, data.batch_size, num_workers=data.num_workers), files.names


def looks(data: DataModule, loader: BatchLoader) -> str:
    """A fingerprint of the first and the last view: other data, sizes or normalisations have another."""
    ends = np.array([0, len(loader.dataset) - 1])
    views, *_ = data.prepare((*loader.dataset.__getitems__(ends), 0), torch.device("cpu"), augment=False)
    return hashlib.sha256(views[0].numpy().tobytes()).hexdigest()


def about_of(file: Path) -> dict:
    """What an .npz file says of itself; empty if that is nothing."""
    try:
        return json.loads(str(np.load(file)["about"]))
    except (OSError, ValueError, KeyError, BadZipFile):
        return {}


def same(place: Path, wanted: dict, found: dict) -> None:
    """Raises where a file or folder was not made of what is wanted now. A checkpoint may lie elsewhere."""
    if other := [name for name in wanted if wanted[name] != found.get(name) and name != "path"]:
        raise MisconfigurationException(
            f"{place} was made with another {' and '.join(other)}: give the same, another --output, or remove it"
        )


class Rest:
    """The batches of a loader from number `first` on."""

    def __init__(self, loader: BatchLoader, first: int):
        self.loader, self.first = loader, first
        loader.place = lambda: (0, first)

    def __len__(self) -> int:
        return len(self.loader) - self.first

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.loader)


class Parts(Callback):
    """Features in a folder, a file for the batches of each half minute, whole or not there.

    Args:
        folder: what is in it counts, if it is of the same `about`.
        about: what the features are of.
    """

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder, self.about = folder, about
        self.note = folder / "about.json"
        if self.note.is_file():
            same(folder, about, json.loads(self.note.read_text(encoding="utf-8")))
        self.done = max((int(path.stem.split("-")[1]) for path in self.files()), default=0)
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.saved = perf_counter()

    def files(self) -> list[Path]:
        """FIRST-END.npz, batches counted from 0, in order."""
        return sorted(self.folder.glob("[0-9]*-[0-9]*.npz"))

    def on_predict_batch_end(self, trainer, module, outputs: Tensor, batch, batch_idx, dataloader_idx=0):
        _, labels, index, _ = batch
        self.rows.append(tuple(column.cpu().numpy() for column in (outputs, labels, index)))
        if perf_counter() - self.saved >= EVERY:
            self.save()

    def save(self) -> None:
        """What has come since the last time, as a file."""
        if not self.note.is_file():
            with whole(self.note) as path:
                path.write_text(json.dumps(self.about), encoding="utf-8")
        if self.rows:
            end = self.done + len(self.rows)
            with whole(self.folder / f"{self.done:09}-{end:09}.npz") as path:
                np.savez(path, **joined(self.rows))
            self.done, self.rows, self.saved = end, [], perf_counter()

    def on_predict_end(self, trainer, module) -> None:
        self.save()

    def on_exception(self, trainer, module, exception: BaseException) -> None:
        self.save()

    def join(self, target: Path, names: list[str] | None) -> None:
        """All parts as one file; the folder goes."""
        parts = [np.load(path) for path in self.files()]
        columns = joined([(part["features"], part["labels"], part["index"]) for part in parts])
        order = columns["index"].argsort()
        columns = {name: column[order] for name, column in columns.items()}
        if names:
            columns["names"] = np.array(names)[columns["index"]]
        with whole(target) as path:
            np.savez(path, **columns, about=json.dumps(self.about))
        shutil.rmtree(self.folder)
        rows, dim = columns["features"].shape
        rank_zero_info(f"{target}: {rows} examples, {dim} features")
        if missing := sorted(set(range(self.about["examples"])) - set(columns["index"].tolist())):
            first = f"the first is {names[missing[0]]}"
            rank_zero_info(f"{len(missing)} images cannot be decoded and are left out, {first}")


def joined(rows: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    columns = (np.concatenate(column) for column in zip(*rows, strict=True))
    return dict(zip(("features", "labels", "index"), columns, strict=True))
