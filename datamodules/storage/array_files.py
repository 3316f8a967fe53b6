"""The splits of a data set in the array layout: opening their files and checking what is in them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from datamodules.storage.labels import check_labels, read_labels
from datamodules.storage.layout import check_images, read_images
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
