"""The splits of a data set in the array layout: opening their files and checking what is in them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from datamodules.storage.image_files import read_manifest, read_survey
from datamodules.storage.labels import check_labels, read_labels
from datamodules.storage.layout import check_images, read_images
from datamodules.storage.pixels import describe_surveys
from datamodules.storage.splits import ArraySplit


def open_array_splits(
    splits: Iterable[str], locate_file: Callable[[str, str], Path]
) -> dict[str, ArraySplit]:
    """Open images and labels of each split that has a file of images; `unlabeled` has no labels.

    Args:
        locate_file: (split, "images" or "labels") -> path.
    """
    arrays, opened = {}, {}
    for split in splits:
        images_path, labels_path = locate_file(split, "images"), locate_file(split, "labels")
        if images_path.is_file():
            # one array of a file that is several splits: `make_splits` keeps validation out of the others
            images = opened.setdefault(images_path.resolve(), read_images(images_path))
            has_labels = labels_path.is_file() and split != "unlabeled"
            arrays[split] = ArraySplit(images, read_labels(labels_path, len(images)) if has_labels else None)
    return arrays


def check_array_splits(
    arrays: dict[str, ArraySplit],
    locate_file: Callable[[str, str], Path],
    center_crop: int | None,
    class_names: list[str] | None,
    target_names: list[str] | None,
) -> None:
    """Raise where the images of splits, or their labels, do not fit each other."""
    channels = arrays["train"].images.shape[-1]
    for split, (images, labels, _) in arrays.items():
        check_images(locate_file(split, "images"), images, channels, center_crop)
        if labels is not None:
            check_labels(locate_file(split, "labels"), labels, class_names, target_names)
    labels = arrays["train"].labels
    if class_names and labels is not None:
        present = set(np.unique(labels).tolist())
        absent = [name for k, name in enumerate(class_names) if k not in present]
        if absent:
            some = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            rank_zero_info(f"{len(absent)} of {len(class_names)} classes have no training image: {some}")


def describe_arrays(arrays: Iterable[np.ndarray], uncropped: bool) -> list[str]:
    """Say what was done to images when they were decoded, and what is done to those (N, H, W, C) that are not square.

    Args:
        uncropped: whether there are views whose recipe does not crop.
    """
    files = {getattr(images, "filename", None) for images in arrays} - {None}  # of memory maps
    manifests = [manifest for manifest in map(read_manifest, map(Path, files)) if read_survey(manifest)]
    counts = [len(manifest["ids"]) for manifest in manifests]
    notes = describe_surveys(sum(counts), [read_survey(manifest) for manifest in manifests])
    for height, width in sorted({images.shape[1:3] for images in arrays}):
        if height != width and uncropped:
            side = min(height, width)
            notes.append(
                f"images are {height} x {width} pixels: of the central {side} x {side}, where a view does not crop"
            )
    return notes
