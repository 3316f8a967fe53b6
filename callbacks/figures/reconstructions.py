"""Reconstructions beside their images, and their error over whole splits."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, make_axes_grid, show_example, write_title
from common.ranges import NonNegativeInt
from common.splits import SPLITS


def squared_error(rebuilt: Tensor, targets: Tensor) -> Tensor:
    """Squared error of images (B, C, H, W) -> (B, C), means over pixels."""
    return (rebuilt.float() - targets.float()).square().mean((2, 3))


def find_quarter_turns(views: Tensor, targets: Tensor) -> Tensor:
    """Find how many quarter turns, counter-clockwise, make each view (B, C, S, S) its target: (B,), -1 if none does."""
    turned = torch.stack([torch.rot90(views, k, (2, 3)) for k in range(4)])
    same = (turned == targets).flatten(2).all(2)  # (4, B)
    return torch.where(same.any(0), same.int().argmax(0), -1)


class Reconstructions(FigureCallback):
    """Draws images over their reconstructions, and logs the mean squared error over the whole training and validation
    set, unaugmented: `train/` and `val/reconstruction_mse`, of pixels in [0, 1] on any scale that the network reads.

    For any method with `reconstruct(views, labels)`. Where a method has `hide(views)`, what that leaves of an image is
    drawn between the two, and the error is over all pixels, given ones among them. Where a method turns its training
    images, some of those are drawn as well. Cost: a forward pass over training and validation images for each picture,
    about a third of an epoch.

    Args:
        positions: in the split, of the images shown.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("reconstruction_mse",)

    def __init__(
        self, positions: tuple[NonNegativeInt, ...] = (1, 2, 3, 6, 7, 9), every_n_epochs: NonNegativeInt = 0
    ):
        super().__init__(every_n_epochs)
        self.positions = positions
        self.trained_on: tuple[Tensor, Tensor, Tensor] | None = None  # views, targets, reconstructions

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx == 0 or self.trained_on is None) and "reconstructions" in outputs:
            first = batch.views[0], outputs["targets"], outputs["reconstructions"]
            self.trained_on = tuple(tensor[:64].clone() for tensor in first)

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not hasattr(module, "reconstruct"):
            self.skip_figure(f"{type(module).__name__} has no decoder")
            return
        data = trainer.datamodule
        errors = {name: compute_mean_error(trainer, module, name) for name in ("train", split)}  # (C,)
        scale = torch.tensor(data.std, device=module.device).square()
        means = {name: float((scale * error).mean()) for name, error in errors.items()}
        module.log_dict({f"{name}/reconstruction_mse": mean for name, mean in means.items()})
        if not trainer.is_global_zero:
            return
        positions = [i for i in self.positions if i < len(data.datasets[split])]
        if not positions:
            self.skip_figure(f"{SPLITS[split]} has no example at the positions {list(self.positions)}")
            return
        images = load_examples(trainer, split, positions)
        with eval_mode(trainer, module):
            rebuilt = module.reconstruct(images.view, images.labels)
            given = module.hide(images.view) if hasattr(module, "hide") else None
        mse = (scale * squared_error(rebuilt, images.view)).mean(1)
        texts = [f"no. {i}: {error:.2g}" for i, error in zip(positions, mse, strict=True)]
        rows = {SPLITS[split]: images.display}
        if given is not None:
            rows["given"] = to_pixels(data, given)
        rows["reconstruction"] = to_pixels(data, rebuilt)
        blocks = [(rows, texts)]
        arrays = {"original": images.display, "rebuilt": rows["reconstruction"], "mse": mse.cpu().numpy()}
        arrays |= {"given": rows["given"]} if "given" in rows else {}
        if (turned := self.select_turned(data, len(positions))) is not None:
            targets, rebuilt_targets, turns = turned
            rows = {"training, turned": targets, "reconstruction": rebuilt_targets}
            blocks.append((rows, [f"turned {90 * k}°" for k in turns]))
            arrays |= {"turned": targets, "turned_rebuilt": rebuilt_targets, "turns": turns}
        facts = {
            "unit": "mean squared error of pixels in [0, 1]",
            "positions": positions,
            "mse": mse.tolist(),
        }
        facts |= {f"{name}_mse": mean for name, mean in means.items()}
        facts["own_scale"] = {name: float(error.mean()) for name, error in errors.items()}
        facts["std"] = list(data.std)
        subtitle = format_errors(facts, split) + ("; given pixels count, too" if "given" in arrays else "")
        figure = draw_reconstructions(blocks, subtitle)
        save_figure(trainer, "reconstructions", figure, facts, **arrays)

    def select_turned(self, data, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Select training images as they were turned, their reconstructions, and the quarter turns; None where no image
        was turned."""
        if self.trained_on is None or len({*self.trained_on[0].shape[2:]}) > 1:
            return None
        views, targets, rebuilt = self.trained_on
        turns = find_quarter_turns(views, targets)
        rows = (turns > 0).nonzero().flatten()[:count]
        if not len(rows):
            return None
        return to_pixels(data, targets[rows]), to_pixels(data, rebuilt[rows]), turns[rows].cpu().numpy()


def compute_mean_error(trainer: Trainer, module: LightningModule, split: str) -> Tensor:
    """Compute the mean squared error of each channel (C,) over a split, of all processes. All must ask."""
    total = torch.zeros((), device=module.device)
    with eval_mode(trainer, module):
        for batch in trainer.datamodule.batches(split, module.device):
            view = batch.views[0]
            error = squared_error(module.reconstruct(view, batch.labels), view).double()
            total = total + torch.cat([error, torch.ones_like(error[:, :1])], dim=1).sum(0)  # (C + 1,)
    total = trainer.strategy.reduce(total, reduce_op="sum")
    return (total[:-1] / total[-1]).float()


def to_pixels(data, view: Tensor) -> np.ndarray:
    """Turn what the network reads (B, C, H, W) into uint8 images (B, H, W, C)."""
    return data.display(view).cpu().numpy()


def format_errors(facts: dict, split: str) -> str:
    """Format the errors in one line, on the network's own scale as well where that is not the pixels'."""
    train, other, name = facts["train_mse"], facts[f"{split}_mse"], SPLITS[split]
    text = f"mean squared error of pixels in [0, 1]: train {train:.3g}, {name} {other:.3g}"
    if any(std != 1 for std in facts["std"]):
        errors = facts["own_scale"]
        text += f"; as the network reads them: train {errors['train']:.3g}, {name} {errors[split]:.3g}"
    return text


def draw_reconstructions(blocks: list[tuple[dict[str, np.ndarray], list[str]]], under: str) -> Figure:
    """Draw blocks of rows: name of the row -> images (n, H, W, C), the last row of a block with a text under each."""
    count = sum(len(rows) for rows, _ in blocks)
    columns = max(len(texts) for _, texts in blocks)
    figure, axes = make_axes_grid(count, columns, cell=(1.25, 1.3), head=0.65)
    figure.subplots_adjust(hspace=0.2)
    for axis in axes.flat:
        axis.set_axis_off()
    rows_of_axes = iter(axes)
    for rows, texts in blocks:
        for name, images in rows.items():
            row = next(rows_of_axes)
            row[0].set_ylabel(name, fontsize=8, color=FAINT)
            for axis, image in zip(row, images, strict=False):  # a block may have fewer images than another
                axis.set_axis_on()
                show_example(axis, image)
        for axis, text in zip(row, texts, strict=False):
            axis.set_xlabel(text, fontsize=8, labelpad=2)
    write_title(figure, "Images and what comes back out of their features", under)
    return figure
