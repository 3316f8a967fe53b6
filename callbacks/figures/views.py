"""Training images beside augmented views of them."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from matplotlib import pyplot as plt

from callbacks.plotting.save import save_figure


class Views(Callback):
    """Draws training images beside augmented views of them, by the run's own recipes, when training starts.

    Text has no picture: a line says so, and quotes the first one as it is read. Cost: a fraction of a second, once.

    Args:
        images: rows of the picture.
        draws: augmented views of each.
    """

    def __init__(self, images: int = 8, draws: int = 6):
        self.images, self.draws = images, draws

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.global_step or not trainer.is_global_zero:
            return
        data = trainer.datamodule
        positions = np.arange(min(self.images, len(data.rows_of("bank"))))
        original = data.display(data.read_batch("bank", positions, torch.device("cpu")).views[0])
        if isinstance(original, list):
            rank_zero_info(f"Views: text has no picture; the first example is read as {original[0]!r}")
            return
        original, views = original.numpy(), []
        for key in range(self.draws):
            batch = data.read_batch("bank", positions, torch.device("cpu"), augment=True, key=key)
            views += [data.display(view).numpy() for view in batch.views]
        views = np.stack(views[: self.draws], 1)  # (n, draws, H, W, C)
        save_figure(trainer, "views", draw_views(original, views), original=original, views=views)


def draw_views(original: np.ndarray, views: np.ndarray) -> plt.Figure:
    """Draw a row for each image, the original first: original (n, H, W, C), views (n, v, H, W, C), both uint8."""
    rows, columns = views.shape[:2]
    figure, axes = plt.subplots(rows, columns + 1, figsize=(columns + 1, rows + 0.4), squeeze=False)
    for row, (axis_row, image, image_views) in enumerate(zip(axes, original, views, strict=True)):
        for axis, picture in zip(axis_row, [image, *image_views], strict=True):
            axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_axis_off()
        if row == 0:
            axis_row[0].set_title("original", fontsize=9)
            axis_row[1].set_title("views as trained on", fontsize=9, loc="left")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure
