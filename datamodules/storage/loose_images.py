"""Images in any folder, decoded when they are read, not packed into an array."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datamodules.storage.image_files import OnBadImage, decode_square
from datamodules.storage.image_listing import JPG_OR_PNG, FileListing
from datamodules.storage.pixels import describe_surveys, survey_images


class LooseImages:
    """JPGs and PNGs in a folder and in all folders in it, by name, as `decode_square` decodes them, without labels.

    Args:
        folder: what is hidden in it is left out.
        crop: side in pixels of the central square that is kept; all of the shorter side if None.
        side: side in pixels to which it is resized.
        channels: 3, or 1 for gray.
        on_bad_image: `error` names an image that cannot be decoded, `skip` leaves it out of its batch.
        bits: of the training images of 16 bits; as many as the brightest pixel here has if None.
    """

    def __init__(
        self,
        folder: Path,
        crop: int | None,
        side: int,
        channels: int,
        on_bad_image: OnBadImage,
        bits: int | None = None,
    ):
        if not folder.is_dir():
            raise MisconfigurationException(f"there is no folder {folder.absolute()}")
        if channels not in (1, 3):
            raise MisconfigurationException(
                f"images of {channels} channels are no JPGs and PNGs: give the data as arrays (README, Data)"
            )
        self.folder, self.crop, self.side, self.channels = folder, crop, side, channels
        self.on_bad_image = on_bad_image
        listing = FileListing(folder, JPG_OR_PNG)
        self.names = listing.walk_images()
        if not self.names:
            raise MisconfigurationException(f"no JPGs or PNGs in {folder.absolute()}")
        survey = survey_images([folder / name for name in self.names], bits)
        self.bits = survey.bits or 16
        notes = [listing.describe({"": len(self.names)}), *describe_surveys(len(self.names), [survey])]
        rank_zero_info("; ".join(notes))

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
            square = decode_square(path.read_bytes(), self.crop, self.side, self.bits)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            if self.on_bad_image == "skip":
                return None
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            raise MisconfigurationException(
                f"{path.absolute()} cannot be decoded ({reason}): put it right, or leave such images out by "
                "--on_bad_image skip"
            ) from error
        return square if self.channels == 3 else np.asarray(Image.fromarray(square).convert("L"))[..., None]
