"""Images that a generative method draws from its prior and for each class, beside real ones."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.figures.generative import extract_posteriors, to_uint8_images
from callbacks.measures.frechet import frechet_distance, patch_statistics
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, INK, make_axes_grid, show_example, write_title
from common.ranges import NonNegativeInt, PositiveInt, Seed

MEASURE = "Fréchet distance of the means and standard deviations of 4 x 4 patches"


class Samples(FigureCallback):
    """Draws images of a generative method: from its prior, and for each class beside real ones of it.

    For methods with `generate`, `conditions` and `class_gaussians`, as VAE has them. A conditional one is given the
    class, any other draws from the Gaussian that fits the posteriors of the class's training images.
    `val/sample_distance` is the Fréchet distance of patch statistics (see frechet.py) between draws of the prior and
    real images; as a floor, the picture has that between equally many other real images and these. Cost: a forward pass
    over the labeled training images and `compared` decoded images for each class and the prior, for each picture.

    Args:
        compared: images on each side of a distance, at most; half of the real ones there are if those are fewer.
        classes: rows of the picture by class, the first ones.
        seed: of the draws, the same for all epochs.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("sample_distance",)

    def __init__(
        self,
        compared: PositiveInt = 1000,
        classes: PositiveInt = 10,
        seed: Seed = 0,
        every_n_epochs: NonNegativeInt = 0,
    ):
        super().__init__(every_n_epochs)
        self.compared, self.classes, self.seed = compared, classes, seed

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not hasattr(module, "generate"):
            self.skip_figure(f"{type(module).__name__} is no generative method")
            return
        data = trainer.datamodule
        labels = data.datasets.get("bank", data.datasets["train"]).labels
        images, facts = self.compare_with_real(trainer, module, labels, torch.arange(len(labels)))
        module.log(f"{split}/sample_distance", facts["distance"])
        if trainer.is_global_zero:
            some = images[torch.linspace(0, len(images) - 1, min(64, len(images))).long()]
            save_figure(trainer, "samples", draw_prior_samples(some, facts), facts, samples=some)
        if data.task == "classification" and (labels >= 0).any():
            self.draw_class_samples(trainer, module, labels)

    def draw_class_samples(self, trainer: Trainer, module: LightningModule, labels: Tensor) -> None:
        """Draw and save samples of each class beside real images. All processes must ask.

        Args:
            labels: of all labeled training images.
        """
        gaussians = {} if module.conditions else fit_class_gaussians(trainer, module)
        if not trainer.is_global_zero:
            return
        real, samples, facts = [], [], []
        for k in labels[labels >= 0].unique().tolist()[: self.classes]:
            positions = (labels == k).nonzero().flatten()
            if len(positions) >= 4:  # two on each side of a distance
                images, distances = self.compare_with_real(
                    trainer, module, labels, positions, gaussians.get(k)
                )
                real.append(load_examples(trainer, "bank", positions[:6]).display)
                samples.append(images[:6])
                facts.append({"class": trainer.datamodule.class_names[k], **distances})
        if not facts:
            return
        arrays = {
            f"{kind}_{entry['class']}": images
            for kind, rows in (("real", real), ("drawn", samples))
            for entry, images in zip(facts, rows, strict=True)
        }
        figure = draw_samples_by_class(real, samples, facts)
        save_figure(trainer, "class_samples", figure, {"classes": facts}, **arrays)

    def compare_with_real(
        self,
        trainer: Trainer,
        module: LightningModule,
        labels: Tensor,
        positions: Tensor,
        gaussian: Any = None,
    ) -> tuple[np.ndarray, dict]:
        """Generate images, uint8 (n, H, W, C), and measure their distance to n real images, and that of n others to
        these.

        Args:
            labels: of all labeled training images; a conditional method is given those of the n real ones.
            positions: of real images, among them.
            gaussian: where latents come from; the prior if None.

        Returns:
            The generated images, and facts: the two distances and what they are.
        """
        count = min(self.compared, len(positions) // 2)
        even = positions[torch.linspace(0, len(positions) - 1, 2 * count).long()]
        reference, others = (load_examples(trainer, "bank", even[start::2]).display for start in (0, 1))
        conditions = labels[even[::2]] if module.conditions else None
        generator = torch.Generator().manual_seed(self.seed)
        batches = []
        with eval_mode(trainer, module):
            for rows in torch.arange(count).split(100):
                of_rows = None if conditions is None else conditions[rows]
                batches.append(module.generate(len(rows), generator, gaussian, of_rows))
        images = to_uint8_images(torch.cat(batches))
        generated, real, other_real = map(compute_statistics, (images, reference, others))
        facts = {
            "distance": frechet_distance(generated, real),
            "real_distance": frechet_distance(other_real, real),
        }
        return images, facts | {"compared": count, "measure": MEASURE}


def compute_statistics(images: np.ndarray) -> Tensor:
    """Compute the patch statistics of uint8 images (n, H, W, C)."""
    return patch_statistics(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)


def fit_class_gaussians(trainer: Trainer, module: LightningModule) -> dict:
    """Fit a Gaussian to the posteriors of each class: label -> Gaussian. All processes must ask."""
    bank = extract_posteriors(trainer, module, "bank")
    return module.class_gaussians(*bank.features.chunk(2, dim=1), bank.labels)


def draw_prior_samples(images: np.ndarray, facts: dict) -> Figure:
    """Draw up to 64 images (n, H, W, C) from the prior."""
    columns = min(8, len(images))
    figure, axes = make_axes_grid(-(-len(images) // columns), columns, 0.9)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image in zip(axes.flat, images, strict=False):
        show_example(axis, image)
    under = f"Fréchet distance to real images {facts['distance']:.2g}; of real images to each other"
    write_title(figure, "Images drawn from the prior", f"{under} {facts['real_distance']:.2g}")
    return figure


def draw_samples_by_class(
    originals: list[np.ndarray], samples: list[np.ndarray], facts: list[dict]
) -> Figure:
    """Draw a row for each class: up to six real images, and six samples."""
    figure, axes = make_axes_grid(len(facts), 13, 0.9)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, real, generated, entry in zip(axes, originals, samples, facts, strict=True):
        for axis, image in [*zip(row, real, strict=False), *zip(row[7:], generated, strict=False)]:
            show_example(axis, image)
        style = {"transform": row[6].transAxes, "ha": "center", "va": "center", "fontsize": 7}
        row[6].text(0.5, 0.75, entry["class"], color=INK, weight="bold", **style)
        distances = f"{entry['distance']:.2g}\n({entry['real_distance']:.2g})"
        row[6].text(0.5, 0.35, distances, color=FAINT, **style)
    for column, text in ((0, "real"), (7, "drawn")):
        axes[0, column].set_title(text, fontsize=8, loc="left", pad=3)
    under = "below the name: Fréchet distance of drawn to real images, in brackets that of real images to each other"
    write_title(figure, "Images drawn for each class, beside real ones", under)
    return figure
