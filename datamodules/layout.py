"""The array layout, DIR/{train,val,test,unlabeled}_{images,labels}.npy and classes.txt: read, checked, written."""

import os
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def read_images(path: Path) -> np.ndarray:
    """A memory map, uint8 (N, H, W, C); (N, H, W) is read as one channel."""
    images = _load(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise MisconfigurationException(
            f"{path}: expected images as uint8 (N, H, W, C), found {images.dtype} {images.shape}"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[-1] > images.shape[1]:
        raise MisconfigurationException(
            f"{path}: shape {images.shape} looks like (N, C, H, W): store channels last, (N, H, W, C)"
        )
    return images


def read_labels(path: Path, count: int) -> np.ndarray:
    """int64 (N,), one for each image; -1 where unknown."""
    labels = _load(path)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise MisconfigurationException(
            f"{path}: expected labels as int64 (N,), found {labels.dtype} {labels.shape}"
        )
    if len(labels) != count:
        raise MisconfigurationException(f"{path}: {len(labels)} labels for {count} images")
    return labels.astype(np.int64)


def check_range(path: Path, labels: np.ndarray, num_classes: int) -> None:
    """Raises where a label is no class."""
    wrong = np.flatnonzero((labels < -1) | (labels >= num_classes))
    if len(wrong):
        raise MisconfigurationException(
            f"{path}: label {labels[wrong[0]]} in row {wrong[0]} ({len(wrong)} such rows): "
            f"labels are 0 ... {num_classes - 1}, or -1 where unknown"
        )


def check_images(path: Path, images: np.ndarray, channels: int, center_crop: int | None) -> None:
    """Raises where images have other channels than the training images, or are smaller than their central part."""
    _, height, width, found = images.shape
    if found != channels:
        raise MisconfigurationException(f"{path}: {found} channels, the training images have {channels}")
    if center_crop is not None and not 0 < center_crop <= min(height, width):
        raise MisconfigurationException(
            f"center_crop: {center_crop} of images of {height} x {width} ({path}): "
            f"set it between 1 and {min(height, width)}, or to null for whole images"
        )


def read_classes(path: Path) -> list[str] | None:
    """One class name a line; None where there is no such file."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else None


def write_arrays(folder: Path, arrays: dict[str, np.ndarray], class_names: list[str]) -> None:
    """Each file appears whole or not at all: a name that exists can be trusted."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".part-{os.getpid()}"
    temporary.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    os.replace(temporary, folder / "classes.txt")
    for name, array in arrays.items():
        with open(temporary, "wb") as file:
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(array), 1000):  # a large transposed array is never held twice
                file.write(np.ascontiguousarray(array[start : start + 1000]).data)
        os.replace(temporary, folder / f"{name}.npy")


def _load(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise MisconfigurationException(f"{path}: not a plain .npy array ({error})") from error
