"""Data sets that torchvision downloads, packed into the array layout once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.storage.disk import exclusive_lock, readable_disk_errors
from datamodules.storage.layout import write_arrays
from datamodules.storage.splits import Stored


def pack(
    title: str,
    folder: Path,
    splits: Sequence[str],
    class_names: list[str],
    fetch: Callable[[str, Path], Stored],
) -> None:
    """Write the splits that `folder` lacks; what is there is left as it is.

    Args:
        title: what the data set is called.
        fetch: (split, folder for what is downloaded) -> images (N, H, W, C) uint8, labels (N,) or None.

    Raises:
        MisconfigurationException: the download failed.
    """
    if not unpacked(folder, splits):
        return
    with exclusive_lock(folder):
        for split in unpacked(folder, splits):  # asked again: another process may have been faster
            try:
                stored = fetch(split, folder / "download")
            except (OSError, RuntimeError) as error:
                raise MisconfigurationException(
                    f"no {title} in {folder.absolute()}, and downloading it failed ({' '.join(str(error).split())}): "
                    f"try again, or point --data.init_args.data_dir to the folder that holds {folder.name}/"
                ) from error
            arrays = {f"{split}_images": stored.images, f"{split}_labels": stored.labels}
            write_arrays(
                folder, {name: array for name, array in arrays.items() if array is not None}, class_names
            )


def unpacked(folder: Path, splits: Sequence[str]) -> list[str]:
    """Splits of which a file is not there."""
    kinds = {split: ["images"] if split == "unlabeled" else ["images", "labels"] for split in splits}
    with readable_disk_errors(folder):
        return [s for s in splits if not all((folder / f"{s}_{kind}.npy").is_file() for kind in kinds[s])]
