"""Traversals of a latent space, and interpolations between images."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.figures.generative import extract_posteriors, to_uint8_images
from callbacks.plotting.examples import Examples, load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, make_axes_grid, show_example, write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


def posterior_divergences(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of posteriors (N, D) from N(0, 1), in nats: (D,), the mean over images. A component at 0 says nothing.

    Kingma & Welling 2013, appendix B, https://arxiv.org/abs/1312.6114
    """
    return ((mean.square() + log_variance.exp() - 1 - log_variance) / 2).mean(0)


def make_traversals(start: Tensor, components: Tensor, values: Tensor) -> Tensor:
    """Make latents (n, v, D): `start` (D,) with one of n components, by row, set to one of v values, by column."""
    z = start.repeat(len(components), len(values), 1)
    z[torch.arange(len(components)), :, components] = values.to(z)
    return z


def interpolate_latents(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Interpolate between latents a and b (n, D) -> (n, steps, D), evenly along a straight line, with both ends."""
    weight = torch.linspace(0, 1, steps, device=a.device)[:, None]
    return a[:, None] * (1 - weight) + b[:, None] * weight


class Latents(FigureCallback):
    """Draws traversals: images as one component of the latent goes from -3 to 3, for the components that tell most
    (largest mean divergence from the prior); and interpolations between the posterior means of pairs of images.

    For any method with `decode(z, labels)` and an encoder with `posterior(view)`. A conditional decoder is given the
    label of the first image. Cost: a forward pass over the split, and some 80 decoded images.

    Args:
        positions: in the split, of images to go between: from the first to the second, the third to the fourth, ...
            The traversals start from the first.
        components: of the latent, that many rows.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(
        self,
        positions: tuple[NonNegativeInt, ...] = (1, 2, 3, 6, 7, 9),
        components: PositiveInt = 8,
        every_n_epochs: NonNegativeInt = 0,
    ):
        super().__init__(every_n_epochs)
        self.positions, self.components = positions, components

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not (hasattr(module, "decode") and hasattr(module.encoder, "posterior")):
            self.skip_figure(f"{type(module).__name__} has no latents with a prior")
            return
        posteriors = extract_posteriors(trainer, module, split)
        kl = posterior_divergences(*posteriors.features.chunk(2, dim=1))
        if not trainer.is_global_zero:
            return
        count = len(trainer.datamodule.datasets[split])
        positions = [i for i in self.positions if i < count]
        if not positions:
            self.skip_figure(f"{SPLITS[split]} has no example at the positions {list(self.positions)}")
            return
        images = load_examples(trainer, split, positions)
        with eval_mode(trainer, module):
            z = module.encoder.posterior(images.view)[0].float()
        self.draw_traversals(trainer, module, z[0], images.labels[:1], kl)
        if len(z) > 1:
            self.draw_interpolations(trainer, module, z, images)

    def draw_traversals(self, trainer, module, start: Tensor, label: Tensor, kl: Tensor) -> None:
        """Draw and save traversals from a latent (D,), by the divergences (D,) of its components."""
        components = kl.argsort(descending=True)[: self.components]
        values = torch.arange(-3.0, 4.0)
        images = decode_to_images(trainer, module, make_traversals(start, components, values), label)
        names = [f"{k}: {kl[k]:.2f} nats" for k in components.tolist()]
        active = int((kl > 0.01).sum())
        figure = draw_strips(images, names, [f"{value:g}" for value in values])
        under = "one component of the latent set to the number above, the others as of one image; "
        under += f"{active} of {len(kl)} components tell more than 0.01 nats"
        write_title(figure, "What the latent's components do", under)
        facts = {"components": components.tolist(), "nats": kl.tolist(), "values": values.tolist()}
        save_figure(trainer, "traversals", figure, facts, images=images)

    def draw_interpolations(self, trainer, module, z: Tensor, originals: Examples) -> None:
        """Draw and save interpolations between pairs of the latents (n, D) of these images."""
        pairs = len(z) // 2
        first, second = z[: 2 * pairs : 2], z[1 : 2 * pairs : 2]
        labels = originals.labels[: 2 * pairs : 2]
        images = decode_to_images(trainer, module, interpolate_latents(first, second, 8), labels)
        real = originals.display[: 2 * pairs].reshape(pairs, 2, *images.shape[2:])
        strip = np.concatenate([real[:, :1], images, real[:, 1:]], axis=1)
        figure = draw_strips(strip, [""] * pairs, ["real", "decoded", *[""] * 7, "real"])
        write_title(
            figure, "Between two images", "decoded along the straight line between their posterior means"
        )
        save_figure(trainer, "interpolations", figure, images=images, original=real)


def decode_to_images(trainer: Trainer, module: LightningModule, z: Tensor, labels: Tensor) -> np.ndarray:
    """Decode latents (n, v, D), with a label for each row or one for all, to uint8 images (n, v, H, W, C)."""
    rows, columns = z.shape[:2]
    with eval_mode(trainer, module):
        labels = labels.expand(rows).repeat_interleave(columns) if labels.ndim == 1 else None
        pixels = module.decode(z.flatten(0, 1), labels).sigmoid()
    images = to_uint8_images(pixels)
    return images.reshape(rows, columns, *images.shape[1:])


def draw_strips(images: np.ndarray, names: list[str], heads: list[str]) -> Figure:
    """Draw images (n, v, H, W, C) in n rows, with names on the left and heads above."""
    figure, axes = make_axes_grid(*images.shape[:2], cell=0.9, head=0.75)
    for row, pictures, name in zip(axes, images, names, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            show_example(axis, picture)
        row[0].set_ylabel(name, fontsize=7, color=FAINT)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=8, pad=3)
    return figure
