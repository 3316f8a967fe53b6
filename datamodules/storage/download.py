"""Data sets that torchvision downloads, packed into the array layout once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.storage.disk import exclusive_lock, readable_disk_errors
from datamodules.storage.layout import write_arrays
from datamodules.storage.splits import ArraySplit


def download_splits(
    title: str,
    folder: Path,
    splits: Sequence[str],
    class_names: list[str],
    download_split: Callable[[str, Path], ArraySplit],
) -> None:
    """Download and write the splits that `folder` lacks; those that exist stay unchanged.

    Args:
        title: the name of the data set.
        download_split: (split, folder for downloads) -> images (N, H, W, C) uint8, labels (N,) or None.

    Raises:
        MisconfigurationException: the download failed.
    """
    if not missing_splits(folder, splits):
        return
    with exclusive_lock(folder):
        for split in missing_splits(folder, splits):  # asked again: another process may have been faster
            try:
                arrays = download_split(split, folder / "download")
            except (OSError, RuntimeError) as error:
                raise MisconfigurationException(
                    f"no {title} in {folder.absolute()}, and downloading it failed ({' '.join(str(error).split())}): "
                    f"try again, or point --data.init_args.data_dir to the folder that holds {folder.name}/"
                ) from error
            files = {f"{split}_images": arrays.images}
            if arrays.labels is not None:
                files[f"{split}_labels"] = arrays.labels
            write_arrays(folder, files, class_names)


def missing_splits(folder: Path, splits: Sequence[str]) -> list[str]:
    """List the splits of which a file is missing."""
    kinds = {split: ["images"] if split == "unlabeled" else ["images", "labels"] for split in splits}
    with readable_disk_errors(folder):
        return [s for s in splits if not all((folder / f"{s}_{kind}.npy").is_file() for kind in kinds[s])]
