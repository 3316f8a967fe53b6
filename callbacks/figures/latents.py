"""What does each direction of the latent space do, and what lies between two images?"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import encode, looking
from callbacks.figures.base import Eye
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, make_axes_grid, show_example, write_title


def divergences(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of posteriors (N, D) from N(0, 1), in nats: (D,), the mean over images. 0: the component says nothing.

    Kingma & Welling 2013, appendix B, https://arxiv.org/abs/1312.6114
    """
    return ((mean.square() + log_variance.exp() - 1 - log_variance) / 2).mean(0)


def traversals(start: Tensor, components: Tensor, values: Tensor) -> Tensor:
    """Latents (n, v, D): `start` (D,) with the component of its row, of n, set to the value of its column, of v."""
    z = start.repeat(len(components), len(values), 1)
    z[torch.arange(len(components)), :, components] = values.to(z)
    return z


def interpolations(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Latents (n, D) both -> (n, steps, D): evenly along the straight line from a to b, ends included."""
    share = torch.linspace(0, 1, steps, device=a.device)[:, None]
    return a[:, None] * (1 - share) + b[:, None] * share


class Latents(Eye):
    """Traversals: images as one component of the latent goes from -3 to 3, for the components that tell most (largest
    mean divergence from the prior); and interpolations between the posterior means of pairs of images.

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
        positions: tuple[int, ...] = (1, 2, 3, 6, 7, 9),
        components: int = 8,
        every_n_epochs: int = 0,
    ):
        super().__init__(every_n_epochs)
        self.positions, self.components = positions, components

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not (hasattr(module, "decode") and hasattr(module.encoder, "posterior")):
            return self.skip(f"{type(module).__name__} has no latents with a prior")
        kl = self.information(trainer, module, split)
        if not trainer.is_global_zero:
            return None
        count = len(trainer.datamodule.datasets[split])
        chosen = load_examples(trainer, split, [i for i in self.positions if i < count])
        with looking(trainer, module):
            z = module.encoder.posterior(chosen.view)[0].float()
        self.draw_traversals(trainer, module, z[0], chosen.labels[:1], kl)
        if len(z) > 1:
            self.draw_interpolations(trainer, module, z, chosen)
        return None

    def information(self, trainer: Trainer, module: LightningModule, split: str) -> Tensor:
        """Mean divergence of each component (D,) over the split, from all processes."""

        def posterior(view: Tensor) -> Tensor:
            return torch.cat(module.encoder.posterior(view), dim=1)  # (B, 2D)

        found = encode(trainer, module.encoder, split, via=posterior)
        return divergences(*found.features.chunk(2, dim=1))

    def draw_traversals(self, trainer, module, start: Tensor, label: Tensor, kl: Tensor) -> None:
        components = kl.argsort(descending=True)[: self.components]
        values = torch.arange(-3.0, 4.0)
        images = decoded(trainer, module, traversals(start, components, values), label)
        names = [f"{k}: {kl[k]:.2f} nats" for k in components.tolist()]
        active = int((kl > 0.01).sum())
        figure = strips(images, names, [f"{value:g}" for value in values])
        under = (
            f"one component of the latent set to the number above, the others as of one image; {active} of "
        )
        write_title(
            figure, "What the latent's components do", f"{under}{len(kl)} components tell more than 0.01 nats"
        )
        facts = {"components": components.tolist(), "nats": kl.tolist(), "values": values.tolist()}
        save_figure(trainer, "traversals", figure, facts, images=images)

    def draw_interpolations(self, trainer, module, z: Tensor, chosen) -> None:
        pairs = len(z) // 2
        first, second = z[: 2 * pairs : 2], z[1 : 2 * pairs : 2]
        labels = chosen.labels[: 2 * pairs : 2]
        images = decoded(trainer, module, interpolations(first, second, 8), labels)
        real = chosen.display[: 2 * pairs].reshape(pairs, 2, *images.shape[2:])
        strip = np.concatenate([real[:, :1], images, real[:, 1:]], axis=1)
        figure = strips(strip, [""] * pairs, ["real", "decoded", *[""] * 7, "real"])
        write_title(
            figure, "Between two images", "decoded along the straight line between their posterior means"
        )
        save_figure(trainer, "interpolations", figure, images=images, original=real)


def decoded(trainer: Trainer, module: LightningModule, z: Tensor, labels: Tensor) -> np.ndarray:
    """Latents (n, v, D) and labels, one a row or one for all -> uint8 images (n, v, H, W, C)"""
    rows, columns = z.shape[:2]
    with looking(trainer, module):
        labels = labels.expand(rows).repeat_interleave(columns) if labels.ndim == 1 else None
        pixels = module.decode(z.flatten(0, 1), labels).sigmoid()
    shown = pixels.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return shown.reshape(rows, columns, *shown.shape[1:])


def strips(images: np.ndarray, names: list[str], heads: list[str]) -> Figure:
    """Images (n, v, H, W, C) in n rows, with names on the left and heads above."""
    figure, axes = make_axes_grid(*images.shape[:2], cell=0.9, head=0.75)
    for row, pictures, name in zip(axes, images, names, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            show_example(axis, picture)
        row[0].set_ylabel(name, fontsize=7, color=FAINT)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=8, pad=3)
    return figure
