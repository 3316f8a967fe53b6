"""Writing a checkpoint to the disk, and keeping the one before."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


def link_or_rename(path: Path, other: Path) -> None:
    """Give a file the second name `other`, so that a killed run has one; on a disk without links, rename the file."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        os.replace(path, other)


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint straight to its path; Lightning's goes through the system's folder for temporary files."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        # into memory first: where the disk is full, torch.save raises an error that does not say so
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(buffer.getbuffer())
