"""Images in any folder, decoded when they are read, not packed into an array."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datamodules.storage.image_files import OnBadImage, decode_square

SUFFIXES = (".jpg", ".jpeg", ".png")


class LooseImages:
    """JPGs and PNGs in a folder and in all folders in it, by name, as `decode_square` decodes them, without labels.

    Args:
        folder: what is hidden in it is left out.
        crop: side in pixels of the central square that is kept; all of the shorter side if None.
        side: side in pixels to which it is resized.
        channels: 3, or 1 for gray.
        on_bad_image: `error` names an image that cannot be decoded, `skip` leaves it out of its batch.
    """

    def __init__(self, folder: Path, crop: int | None, side: int, channels: int, on_bad_image: OnBadImage):
        if not folder.is_dir():
            raise MisconfigurationException(f"there is no folder {folder.absolute()}")
        if channels not in (1, 3):
            raise MisconfigurationException(
                f"images of {channels} channels are no JPGs and PNGs: give the data as arrays (README, Data)"
            )
        self.folder, self.crop, self.side, self.channels = folder, crop, side, channels
        self.on_bad_image = on_bad_image
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        self.names = sorted(
            path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)
        )
        if not self.names:
            raise MisconfigurationException(f"no JPGs or PNGs in {folder.absolute()}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (B,) -> images uint8 (B, side, side, channels), labels of -1, index (B,)"""
        with ThreadPoolExecutor() as pool:
            squares = list(pool.map(self.decode_image, positions))
        decoded = [k for k, square in enumerate(squares) if square is not None]
        images = np.zeros((len(decoded), self.side, self.side, self.channels), np.uint8)
        for row, k in enumerate(decoded):
            images[row] = squares[k]
        index = torch.as_tensor(positions)[decoded]
        return torch.from_numpy(images), torch.full((len(decoded),), -1), index

    def decode_image(self, position: int) -> np.ndarray | None:
        """Decode one image, uint8 (side, side, channels); None where it is to be skipped."""
        path = self.folder / self.names[position]
        try:
            square = decode_square(path.read_bytes(), self.crop, self.side)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            if self.on_bad_image == "skip":
                return None
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            raise MisconfigurationException(
                f"{path.absolute()} cannot be decoded ({reason}): put it right, or leave such images out by "
                "--on_bad_image skip"
            ) from error
        return square if self.channels == 3 else np.asarray(Image.fromarray(square).convert("L"))[..., None]
