"""The array layout, DIR/{train,val,test,unlabeled}_{images,labels}.npy and classes.txt: reading, checking, writing."""

from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.files import atomic_write
from datamodules.storage.disk import readable_disk_errors


def read_images(path: Path) -> np.ndarray:
    """Open a memory map, uint8 (N, H, W, C); (N, H, W) is read as one channel."""
    images = open_array(path)
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


def check_images(path: Path, images: np.ndarray, channels: int, center_crop: int | None) -> None:
    """Raise where images have other channels than the training images, or are smaller than their central part."""
    _, height, width, image_channels = images.shape
    if image_channels != channels:
        raise MisconfigurationException(
            f"{path}: {image_channels} channels, the training images have {channels}"
        )
    if center_crop is not None and center_crop > min(height, width):
        raise MisconfigurationException(
            f"center_crop: {center_crop} of images of {height} x {width} ({path}): "
            f"set it between 1 and {min(height, width)}, or to null for whole images"
        )


def write_arrays(folder: Path, arrays: dict[str, np.ndarray], class_names: list[str]) -> None:
    """Write class names and arrays, each file complete or not at all: one that exists can be trusted."""
    path = folder / "classes.txt"
    with readable_disk_errors(path), atomic_write(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        with readable_disk_errors(path), atomic_write(path) as temporary, open(temporary, "wb") as file:
            write_header(file, array.dtype, array.shape)
            for start in range(0, len(array), 1000):  # a large transposed array is never held twice
                file.write(np.ascontiguousarray(array[start : start + 1000]).data)


def write_header(file, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Write the header of an .npy file, which is equally long for any number of rows."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def open_array(path: Path) -> np.ndarray:
    """Open a memory map of a .npy file; nothing is unpickled."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise MisconfigurationException(f"{path}: not a plain .npy array ({error})") from error
