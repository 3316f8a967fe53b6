"""Data sets that torchvision downloads, packed into the array layout once."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.layout import write_arrays
from datamodules.splits import Stored


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
    for split in splits:
        kinds = ["images"] if split == "unlabeled" else ["images", "labels"]
        if all((folder / f"{split}_{kind}.npy").is_file() for kind in kinds):
            continue
        try:
            stored = fetch(split, folder / "download")
        except (OSError, RuntimeError) as error:
            raise MisconfigurationException(
                f"no {title} in {folder.absolute()}, and downloading it failed ({' '.join(str(error).split())}): "
                f"try again, or point --data.init_args.data_dir to the folder that holds {folder.name}/"
            ) from error
        arrays = {f"{split}_{kind}": np.asarray(array) for kind, array in zip(kinds, stored, strict=False)}
        write_arrays(folder, arrays, class_names)
