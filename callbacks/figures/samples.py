"""What images does the model believe in? Draws from its prior and for each class, beside real ones."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import encode, looking
from callbacks.figures.base import Eye
from callbacks.measures.frechet import frechet_distance, patch_statistics
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, INK, make_axes_grid, show_example, write_title

MEASURE = "Fréchet distance of the means and standard deviations of 4 x 4 patches"


class Samples(Eye):
    """Images that a generative method draws: from its prior, and for each class beside real ones of it.

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

    def __init__(self, compared: int = 1000, classes: int = 10, seed: int = 0, every_n_epochs: int = 0):
        super().__init__(every_n_epochs)
        self.compared, self.classes, self.seed = compared, classes, seed

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not hasattr(module, "generate"):
            return self.skip(f"{type(module).__name__} is no generative method")
        data = trainer.datamodule
        labels = data.datasets.get("bank", data.datasets["train"]).labels
        drawn, facts = self.compare(trainer, module, labels, torch.arange(len(labels)))
        module.log(f"{split}/sample_distance", facts["distance"])
        if trainer.is_global_zero:
            some = drawn[torch.linspace(0, len(drawn) - 1, min(64, len(drawn))).long()]
            save_figure(trainer, "samples", draw_prior(some, facts), facts, samples=some)
        if data.task == "classification" and (labels >= 0).any():
            self.look_at_classes(trainer, module, labels)
        return None

    def look_at_classes(self, trainer: Trainer, module: LightningModule, labels: Tensor) -> None:
        gaussians = {} if module.conditions else fit(trainer, module)
        if not trainer.is_global_zero:
            return
        real, drawn, facts = [], [], []
        for k in labels[labels >= 0].unique().tolist()[: self.classes]:
            positions = (labels == k).nonzero().flatten()
            if len(positions) >= 4:  # two on each side of a distance
                images, found = self.compare(trainer, module, labels, positions, gaussians.get(k))
                real.append(load_examples(trainer, "bank", positions[:6]).display)
                drawn.append(images[:6])
                facts.append({"class": trainer.datamodule.class_names[k], **found})
        if facts:
            arrays = {
                f"{kind}_{found['class']}": images
                for kind, rows in (("real", real), ("drawn", drawn))
                for found, images in zip(facts, rows, strict=True)
            }
            save_figure(
                trainer, "class_samples", draw_classes(real, drawn, facts), {"classes": facts}, **arrays
            )

    def compare(
        self,
        trainer: Trainer,
        module: LightningModule,
        labels: Tensor,
        positions: Tensor,
        gaussian: Any = None,
    ) -> tuple[np.ndarray, dict]:
        """Draws uint8 (n, H, W, C), and facts: their distance to n real images, and that of n others to these.

        Args:
            labels: of all labeled training images; a conditional method is given those of the n real ones.
            positions: of real images, among them.
            gaussian: where latents come from; the prior if None.
        """
        count = min(self.compared, len(positions) // 2)
        chosen = positions[torch.linspace(0, len(positions) - 1, 2 * count).long()]
        reference, others = (load_examples(trainer, "bank", chosen[start::2]).display for start in (0, 1))
        given = labels[chosen[::2]] if module.conditions else None
        generator = torch.Generator().manual_seed(self.seed)
        drawn = []
        with looking(trainer, module):
            for rows in torch.arange(count).split(100):
                of_rows = None if given is None else given[rows]
                drawn.append(module.generate(len(rows), generator, gaussian, of_rows))
        images = torch.cat(drawn).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        made, near, apart = map(statistics, (images, reference, others))
        facts = {"distance": frechet_distance(made, near), "real_distance": frechet_distance(apart, near)}
        return images, facts | {"compared": count, "measure": MEASURE}


def statistics(images: np.ndarray) -> Tensor:
    return patch_statistics(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)


def fit(trainer: Trainer, module: LightningModule) -> dict:
    """The Gaussian of each class's posteriors, by label. All processes must ask."""

    def posterior(view: Tensor) -> Tensor:
        return torch.cat(module.encoder.posterior(view), dim=1)  # (B, 2D)

    bank = encode(trainer, module.encoder, "bank", via=posterior)
    return module.class_gaussians(*bank.features.chunk(2, dim=1), bank.labels)


def draw_prior(drawn: np.ndarray, facts: dict) -> Figure:
    """(n, H, W, C), up to 64"""
    columns = min(8, len(drawn))
    figure, axes = make_axes_grid(-(-len(drawn) // columns), columns, 0.9)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image in zip(axes.flat, drawn, strict=False):
        show_example(axis, image)
    under = f"Fréchet distance to real images {facts['distance']:.2g}; of real images to each other"
    write_title(figure, "Images drawn from the prior", f"{under} {facts['real_distance']:.2g}")
    return figure


def draw_classes(originals: list[np.ndarray], drawn: list[np.ndarray], facts: list[dict]) -> Figure:
    """A row a class: up to six real images, and six drawn."""
    figure, axes = make_axes_grid(len(facts), 13, 0.9)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, real, made, found in zip(axes, originals, drawn, facts, strict=True):
        for axis, image in [*zip(row, real, strict=False), *zip(row[7:], made, strict=False)]:
            show_example(axis, image)
        place = {"transform": row[6].transAxes, "ha": "center", "va": "center", "fontsize": 7}
        row[6].text(0.5, 0.75, found["class"], color=INK, weight="bold", **place)
        row[6].text(
            0.5, 0.35, f"{found['distance']:.2g}\n({found['real_distance']:.2g})", color=FAINT, **place
        )
    for column, text in ((0, "real"), (7, "drawn")):
        axes[0, column].set_title(text, fontsize=8, loc="left", pad=3)
    under = "below the name: Fréchet distance of drawn to real images, in brackets that of real images to each other"
    write_title(figure, "Images drawn for each class, beside real ones", under)
    return figure
