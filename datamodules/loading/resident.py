"""Images that stay on a GPU while a run trains; batches are picked there instead of copied there."""

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.loading.loader import RowsDataset

OPTION = "data.init_args.resident"


def keep_resident(device: torch.device, datasets: dict[str, RowsDataset], num_workers: int = 0) -> None:
    """Copy the splits that are read epoch after epoch to a GPU, once, and say how much memory they take.

    Raises:
        MisconfigurationException: no GPU, too little free memory there, or workers that would have to read from it.
    """
    splits = {split: datasets[split] for split in ("train", "bank", "val") if split in datasets}
    if all(rows.resident is not None and rows.resident.device == device for rows in splits.values()):
        return
    if num_workers:
        raise MisconfigurationException(
            f"{OPTION}: images on a GPU need no workers to read them: set data.init_args.num_workers to 0, "
            f"it is {num_workers}"
        )
    counts = ", ".join(f"{len(rows):,} of {split}" for split, rows in splits.items())
    size, free = sum(rows.nbytes for rows in splits.values()), free_bytes(device)
    if size > free:
        raise MisconfigurationException(
            f"{OPTION}: the images ({counts}) take {size / 2**20:,.1f} MiB and {device} has {free / 2**20:,.1f} free: "
            "set it to false"
        )
    for rows in splits.values():
        rows.keep_on(device)
    rank_zero_info(f"resident: images ({counts}) stay on {device} and take {size / 2**20:,.1f} MiB there")


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU."""
    if device.type != "cuda":
        raise MisconfigurationException(
            f"{OPTION}: it keeps images on a GPU of CUDA or ROCm, and this run is on {device.type}: set it to false"
        )
    return torch.cuda.mem_get_info(device)[0]
