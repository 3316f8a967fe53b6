"""The recipe of a view of an image, as a config gives it."""

from dataclasses import dataclass

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.ranges import (
    HalfTurn,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    UnitInterval,
    UpToHalf,
)


@dataclass
class Recipe:
    """How a view is made. The defaults do nothing; probabilities and ranges are torchvision's.

    Args:
        size: side of the square view in pixels; the data module's `size` if 0.
        copies: how many views are made so, each with draws of its own.
        crop: side in pixels of a square at a random place that is kept; 0 for the whole image.
        pad: black pixels put at each side of the image before the crop, which so shifts the image by up to as many.
        scale: share of the area that the random resized crop keeps; (1, 1) with ratio (1, 1) is no crop.
        ratio: width / height of the crop.
        flip: probability of a horizontal flip.
        rotate: the angle is uniform in [-rotate, rotate], in degrees; about the center, before any crop, corners black.
        jitter: probability of color jitter, of the four strengths that follow.
        brightness, contrast, saturation: the factor is uniform in [max(0, 1 - x), 1 + x].
        hue: the shift is uniform in [-hue, hue], in turns of the color wheel.
        gray: probability of grayscale.
        blur: probability of Gaussian blur; the kernel is 10 % of the image's side (SimCLR).
        sigma: range of its standard deviation, in pixels.
        solarize: probability of inverting what is brighter than 0.5 (BYOL).
        cutout: side in pixels of a square around a random pixel, or as much of it as lies in the view, that becomes 0
            after the normalization (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552).
    """

    size: NonNegativeInt = 0
    copies: PositiveInt = 1
    crop: NonNegativeInt = 0
    pad: NonNegativeInt = 0
    scale: tuple[PositiveShare, PositiveShare] = (1.0, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    flip: UnitInterval = 0.0
    rotate: HalfTurn = 0.0
    jitter: UnitInterval = 0.0
    brightness: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: UpToHalf = 0.0
    gray: UnitInterval = 0.0
    blur: UnitInterval = 0.0
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    solarize: UnitInterval = 0.0
    cutout: NonNegativeInt = 0

    @property
    def resized_crop(self) -> bool:
        return (*self.scale, *self.ratio) != (1, 1, 1, 1)

    @property
    def crops(self) -> bool:
        return self.crop > 0 or self.resized_crop


def check_recipe(recipe: Recipe, height: int, width: int, channels: int) -> None:
    """Raise where the recipe is impossible, or asks for what such images do not have: color, or enough pixels."""
    require_option(
        recipe.crop or not recipe.pad,
        recipe,
        "pad",
        "needs a crop: set crop to the side to keep, or pad to 0",
    )
    side = min(height, width) + 2 * recipe.pad
    fits = recipe.crop <= side
    require_option(
        fits, recipe, "crop", f"does not fit images of {height} x {width}: set it between 0 and {side}"
    )
    single_crop = not (recipe.crop and recipe.resized_crop)
    require_option(
        single_crop, recipe, "crop", "and a resized crop are two: leave out scale and ratio, or set crop to 0"
    )
    for name in ("scale", "ratio", "sigma"):
        low, high = getattr(recipe, name)
        require_option(low <= high, recipe, name, "is a range: write [low, high] with low <= high")
    for name in ("saturation", "hue", "gray"):
        fits = channels == 3 or getattr(recipe, name) == 0
        require_option(fits, recipe, name, f"needs 3 channels and the images have {channels}: set it to 0")


def require_option(condition: bool, recipe: Recipe, name: str, advice: str) -> None:
    """Raise unless the condition on an option of the recipe holds."""
    if not condition:
        raise MisconfigurationException(f"recipe: {name} = {getattr(recipe, name)} {advice}.")
