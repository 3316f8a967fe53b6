"""A matrix that shows which layers of a network hold the same representation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from callbacks.evaluation.features import eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import ACCENT, INK, write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.similarity import linear_cka


def cka_matrix(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> np.ndarray:
    """Linear CKA (len(a), len(b)) between the layers of two networks, or of one: name -> features (N, D) of the same N
    examples."""
    return np.array([[linear_cka(x, y) for y in b.values()] for x in a.values()])


def list_blocks(encoder: nn.Module) -> dict[str, nn.Module]:
    """List an encoder's layers and blocks by name.

    Sequences, encoders inside it (they have `dim`) and what it merely wraps are split up; anything else, such as a
    residual block, is one part.
    """
    root, prefix = encoder, ""
    while len(inner := list(root.named_children())) == 1:
        prefix, root = f"{prefix}{inner[0][0]}.", inner[0][1]
    blocks: dict[str, nn.Module] = {}
    waiting = [(prefix + name, part) for name, part in inner] or [(prefix.rstrip("."), root)]
    while waiting:
        name, part = waiting.pop(0)
        children = list(part.named_children())
        if children and (isinstance(part, nn.Sequential | nn.ModuleList) or hasattr(part, "dim")):
            waiting[:0] = [(f"{name}.{child}", inside) for child, inside in children]
        else:
            blocks[name] = part
    return blocks


def starts_layer(part: nn.Module) -> bool:
    """Whether a part has weights of its own: norms, activations and pooling belong to the layer they follow."""
    norm = isinstance(part, nn.GroupNorm | nn.LayerNorm | nn.modules.batchnorm._BatchNorm)
    return not norm and any(True for _ in part.parameters())


def pool_output(output: Tensor | tuple) -> Tensor:
    """Average what a layer returned over space (B, C, h, w) or time (B, T, C) -> (B, C) float32."""
    output = (output[0] if isinstance(output, tuple) else output).float()
    if output.ndim == 4:
        return output.mean((2, 3))
    return output.mean(1) if output.ndim == 3 else output


class CKA(FigureCallback):
    """Draws a matrix of linear CKA between the encoder's layers, pooled over space, on validation images that are the
    same in every run.

    `cka_features.npz` in the run folder has their features, layer by layer, and their positions (`index`): what
    `cka_matrix` needs to compare two runs. Cost: a forward pass over `images` images, and a second for ten layers.

    Args:
        images: of the split, evenly spaced.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, images: PositiveInt = 1000, every_n_epochs: NonNegativeInt = 0):
        super().__init__(every_n_epochs)
        self.images = images

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not trainer.is_global_zero:
            return
        total = len(trainer.datamodule.datasets[split])
        index = torch.linspace(0, total - 1, min(self.images, total)).long()
        features = extract_layer_features(trainer, module, split, index)
        if bad := [layer for layer, rows in features.items() if not np.isfinite(rows).all()]:
            self.skip_figure(f"the outputs of {', '.join(bad)} are not finite")
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / ".cka_features.npz", index=index.numpy(), **features)
        (folder / ".cka_features.npz").replace(folder / "cka_features.npz")
        matrix, layers = cka_matrix(features, features), list(features)
        save_figure(trainer, "cka", draw_cka(matrix, layers, len(index)), {"layers": layers}, cka=matrix)


def extract_layer_features(
    trainer: Trainer, module: LightningModule, split: str, index: Tensor
) -> dict[str, np.ndarray]:
    """Extract the pooled output (N, C) of each layer, in the order they run, for the examples at positions `index`.

    The last is the encoder's output, `features`.
    """
    batches: list[dict[str, Tensor]] = []

    def make_hook(name: str, starts: bool):
        def hook(_, __, output: Tensor | tuple) -> None:
            layer = name if starts else next(reversed(batches[-1]), None)
            if layer is not None:  # None before the first weights
                batches[-1][layer] = pool_output(output).cpu()

        return hook

    hooks = [
        block.register_forward_hook(make_hook(name, starts_layer(block)))
        for name, block in list_blocks(module.encoder).items()
    ]
    try:
        with eval_mode(trainer, module):
            for positions in index.split(250):
                batches.append({})
                features = module.encode(load_examples(trainer, split, positions).view)
                batches[-1]["features"] = features.float().cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def draw_cka(matrix: np.ndarray, names: list[str], count: int) -> Figure:
    """Draw a matrix (L, L), the first layer at the top left."""
    side = max(3.2, 0.5 * len(names))
    figure, axis = plt.subplots(figsize=(side + 1.4, side + 1.4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.6 / (side + 1.4)))
    axis.imshow(matrix, cmap=LinearSegmentedColormap.from_list("accent", ["white", ACCENT]), vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(matrix):
        color = "white" if value > 0.7 else INK
        axis.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=color)
    write_title(
        figure, "Similarity of layers", f"linear CKA in %, features pooled over space, {count:,} images"
    )
    return figure
