"""What an encoder tells apart within an image: principal components of its patches as colors."""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation.features import Features, eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.measures.components import (
    Components,
    match_components,
    orient_components,
    principal_components,
)
from callbacks.plotting.component_grid import draw_components
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.save import figure_path, read_previous_data, save_figure
from callbacks.plotting.style import write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


class PatchMap(FigureCallback):
    """Draws the three principal components of the last maps, or of a transformer's patches, as red, green and blue.

    Components are those of all cells of all images of the picture together, so that a color has one meaning. Patches of
    a transformer may mostly tell where they are: below, the same is drawn less the mean of each position over the
    images. Nothing is cut away: DINOv2's figure 1 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193) leaves the
    background out by a threshold on the first component, which is here a row of its own. In the first picture,
    components come by variance and rise with the brightness of the image; later, each keeps the color and the sign of
    the earlier one that it correlates with. Beside `figures/patch_map/epoch=N.png`, an `.npz` has `index`, `labels` and
    `original` of n images, `components` (n, 3, h, w) and their `shares` (3,) of the variance, and the same `_centered`,
    less the means. The images are the same in every run.

    Cost: 1 s on one core, 3 s for a small transformer on 224 pixels.

    Args:
        images: how many, of different classes.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, images: PositiveInt = 10, every_n_epochs: NonNegativeInt = 10):
        super().__init__(every_n_epochs)
        self.images = images

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        encoder, name = module.encoder, type(module.encoder).__name__
        if not hasattr(encoder, "maps"):
            self.skip_figure(f"{name} has no maps")
            return
        examples = Features.find_in(trainer).collect_split(trainer)
        if not trainer.is_global_zero:
            return
        rows = pick_evenly(examples.labels, self.images)
        images = load_examples(trainer, split, examples.index[rows].cpu())
        with eval_mode(trainer, module):
            maps = encoder.maps(images.view).float().cpu()
        if problem := find_problem(maps):
            self.skip_figure(f"the maps of {name} {problem}")
            return
        index = images.index.cpu().numpy()
        earlier = read_previous_data(figure_path(trainer, "patch_map").parent, trainer.current_epoch)
        earlier = earlier if earlier and np.array_equal(earlier["index"], index) else {}
        components, position_share = {}, measure_position_share(maps)
        for key, values in {"": maps, "_centered": maps - maps.mean(0)}.items():
            components[key] = compute_components(values, images.view, earlier.get(f"components{key}"))
        names = trainer.datamodule.class_names if images.labels.ndim == 1 else None
        figure = draw_components(images, *components.values(), names)
        kind = "patches" if hasattr(encoder, "grid") else "cells of the last maps"
        write_title(
            figure,
            f"Principal components of {kind}, as colors",
            describe_picture(maps, position_share, split),
        )
        facts = {"split": split, "kind": kind, "position_share": position_share}
        facts["shares"] = components[""].shares.tolist()
        arrays = {"index": index, "labels": images.labels.cpu().numpy(), "original": images.display}
        for key, (scores, shares) in components.items():
            arrays |= {f"components{key}": scores.float().numpy(), f"shares{key}": shares.float().numpy()}
        save_figure(trainer, "patch_map", figure, facts, **arrays)


def find_problem(maps: Tensor) -> str | None:
    """Say in words why maps have nothing to see, if they have not."""
    if maps.ndim != 4:
        return "have no height and width"
    if maps[0, 0].numel() == 1:
        return "have a single cell"
    if not maps.isfinite().all():
        return "are not finite"
    cells = maps.movedim(1, -1).flatten(0, 2)
    return None if (cells != cells[0]).any() else "are alike in all cells"


def compute_components(maps: Tensor, view: Tensor, earlier: np.ndarray | None = None) -> Components:
    """Compute the components of maps (n, D, h, w).

    Args:
        view: (n, C, H, W), of which the brightness gives the signs.
        earlier: scores (n, 3, h, w) of an earlier epoch, which give order and signs instead.
    """
    grid = maps.shape[2:]
    scores, shares = principal_components(maps.movedim(1, -1).flatten(0, 2))
    brightness = F.adaptive_avg_pool2d(view.float().cpu().mean(1, keepdim=True), grid)
    scores = orient_components(scores, brightness.flatten())
    if earlier is not None and earlier.shape == (len(maps), 3, *grid):
        cells = torch.from_numpy(earlier).movedim(1, -1).flatten(0, 2)
        order, signs = match_components(scores, cells)
        scores, shares = scores[:, order] * signs, shares[order]
    return Components(scores.unflatten(0, (len(maps), *grid)).movedim(-1, 1), shares)


def measure_position_share(maps: Tensor) -> float | None:
    """Measure how much of the variance of all cells of maps (n, D, h, w) their position accounts for.

    One less the variance around the means of positions by all variance, both unbiased, so that noise has about 0; not
    below 0, and None for a single image.
    """
    n, cells = len(maps), maps.shape[2] * maps.shape[3]
    if n < 2:
        return None
    within = (maps - maps.mean(0)).double().square().sum() / ((n - 1) * cells)
    total = (maps - maps.mean((0, 2, 3), keepdim=True)).double().square().sum() / (n * cells - 1)
    return max(0.0, 1 - float(within / total))


def describe_picture(maps: Tensor, position_share: float | None, split: str) -> str:
    """Write what goes under the title."""
    size = " x ".join(map(str, maps.shape[2:]))
    text = f"{SPLITS[split].capitalize()} images of {size} cells, their background among them. Components are those of "
    text += "all images together: a color has one meaning.\nEach goes from dark, its lowest hundredth, to light, its "
    text += "highest."
    if position_share is not None:
        text += f" The position of a cell accounts for {100 * position_share:.0f} % of the variance."
    return text
