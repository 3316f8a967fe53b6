"""How much of an image comes back out of its features?"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.features import looking
from callbacks.figures.base import Eye
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import FAINT, make_axes_grid, show_example, write_title
from common.splits import SPLITS


def squared_error(rebuilt: Tensor, targets: Tensor) -> Tensor:
    """(B, C, H, W) both -> (B, C), means over pixels."""
    return (rebuilt.float() - targets.float()).square().mean((2, 3))


def quarter_turns(views: Tensor, targets: Tensor) -> Tensor:
    """How many quarter turns, counter-clockwise, make each view (B, C, S, S) its target: (B,), -1 where none does."""
    turned = torch.stack([torch.rot90(views, k, (2, 3)) for k in range(4)])
    same = (turned == targets).flatten(2).all(2)  # (4, B)
    return torch.where(same.any(0), same.int().argmax(0), -1)


class Reconstructions(Eye):
    """Images over their reconstructions, and the mean squared error over the whole training and validation set,
    unaugmented: `train/` and `val/reconstruction_mse`, of pixels in [0, 1] whatever the network reads.

    For any method with `reconstruct(views, labels)`. Where a method turns its training images, some of those too.
    Cost: a forward pass over training and validation images for each picture, about a third of an epoch.

    Args:
        positions: in the split, of the images shown.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("reconstruction_mse",)

    def __init__(self, positions: tuple[int, ...] = (1, 2, 3, 6, 7, 9), every_n_epochs: int = 0):
        super().__init__(every_n_epochs)
        self.positions = positions
        self.trained_on: tuple[Tensor, Tensor, Tensor] | None = None  # views, targets, reconstructions

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx == 0 or self.trained_on is None) and "reconstructions" in outputs:
            first = batch.views[0], outputs["targets"], outputs["reconstructions"]
            self.trained_on = tuple(tensor[:64].clone() for tensor in first)

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not hasattr(module, "reconstruct"):
            return self.skip(f"{type(module).__name__} has no decoder")
        data = trainer.datamodule
        errors = {name: mean_error(trainer, module, name) for name in ("train", split)}  # (C,)
        scale = torch.tensor(data.std, device=module.device).square()
        means = {name: float((scale * error).mean()) for name, error in errors.items()}
        module.log_dict({f"{name}/reconstruction_mse": mean for name, mean in means.items()})
        if not trainer.is_global_zero:
            return None
        positions = [i for i in self.positions if i < len(data.datasets[split])]
        chosen = load_examples(trainer, split, positions)
        with looking(trainer, module):
            rebuilt = module.reconstruct(chosen.view, chosen.labels)
        mse = (scale * squared_error(rebuilt, chosen.view)).mean(1)
        pairs = {
            SPLITS[split]: (
                chosen.display,
                shown(data, rebuilt),
                [f"no. {i}: {error:.2g}" for i, error in zip(positions, mse, strict=True)],
            )
        }
        arrays = {"original": chosen.display, "rebuilt": pairs[SPLITS[split]][1], "mse": mse.cpu().numpy()}
        if (turned := self.turned(data, len(positions))) is not None:
            targets, back, turns = turned
            pairs["training, turned"] = targets, back, [f"turned {90 * k}°" for k in turns]
            arrays |= {"turned": targets, "turned_rebuilt": back, "turns": turns}
        facts = {
            "unit": "mean squared error of pixels in [0, 1]",
            "positions": positions,
            "mse": mse.tolist(),
        }
        facts |= {f"{name}_mse": mean for name, mean in means.items()}
        facts["own_scale"] = {name: float(error.mean()) for name, error in errors.items()}
        facts["std"] = list(data.std)
        save_figure(trainer, "reconstructions", draw(pairs, caption(facts, split)), facts, **arrays)
        return None

    def turned(self, data, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Training images as turned, their reconstructions then, and the quarter turns; None where none was turned."""
        if self.trained_on is None or len({*self.trained_on[0].shape[2:]}) > 1:
            return None
        views, targets, rebuilt = self.trained_on
        turns = quarter_turns(views, targets)
        rows = (turns > 0).nonzero().flatten()[:count]
        if not len(rows):
            return None
        return shown(data, targets[rows]), shown(data, rebuilt[rows]), turns[rows].cpu().numpy()


def mean_error(trainer: Trainer, module: LightningModule, split: str) -> Tensor:
    """Squared error of each channel (C,), the mean over a split, of all processes. All must ask."""
    total = torch.zeros((), device=module.device)
    with looking(trainer, module):
        for batch in trainer.datamodule.batches(split, module.device):
            view = batch.views[0]
            error = squared_error(module.reconstruct(view, batch.labels), view).double()
            total = total + torch.cat([error, torch.ones_like(error[:, :1])], dim=1).sum(0)  # (C + 1,)
    total = trainer.strategy.reduce(total, reduce_op="sum")
    return (total[:-1] / total[-1]).float()


def shown(data, view: Tensor) -> np.ndarray:
    return data.display(view).cpu().numpy()


def caption(facts: dict, split: str) -> str:
    """One line; the network's own scale where that is not the pixels'."""
    train, other, name = facts["train_mse"], facts[f"{split}_mse"], SPLITS[split]
    text = f"mean squared error of pixels in [0, 1]: train {train:.3g}, {name} {other:.3g}"
    if any(std != 1 for std in facts["std"]):
        own = facts["own_scale"]
        text += f"; as the network reads them: train {own['train']:.3g}, {name} {own[split]:.3g}"
    return text


def draw(pairs: dict[str, tuple[np.ndarray, np.ndarray, list[str]]], under: str) -> Figure:
    """Name -> images (n, H, W, C), their reconstructions below them, and what to write under each."""
    columns = max(len(texts) for *_, texts in pairs.values())
    figure, axes = make_axes_grid(2 * len(pairs), columns, cell=(1.25, 1.3), head=0.65)
    figure.subplots_adjust(hspace=0.2)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (name, (originals, rebuilt, texts)) in enumerate(pairs.items()):
        for column, (image, back, text) in enumerate(zip(originals, rebuilt, texts, strict=True)):
            over, below = axes[2 * row, column], axes[2 * row + 1, column]
            for axis, picture in ((over, image), (below, back)):
                axis.set_axis_on()
                show_example(axis, picture)
            below.set_xlabel(text, fontsize=8, labelpad=2)
        axes[2 * row, 0].set_ylabel(name, fontsize=8, color=FAINT)
        axes[2 * row + 1, 0].set_ylabel("reconstruction", fontsize=8, color=FAINT)
    write_title(figure, "Images and what comes back out of their features", under)
    return figure
