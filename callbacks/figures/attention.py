"""From which patches a transformer gathers: the attention of its last layer, and of all layers together."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from callbacks.evaluation.features import Features, eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.measures.attention import attention_to_patches, roll_out_attention
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.heat import MOST_HEADS, draw_heat
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


class Attention(FigureCallback):
    """Draws to which patches the class token attends: in each head of the last layer, in their mean, and rolled out
    over all layers (Abnar & Zuidema 2020, https://arxiv.org/abs/2005.00928).

    Without a class token the patches attend, and the mean over all of them is drawn. For encoders with `attention` and
    `grid`. Heads and their mean share a scale that starts at 0. Rolled out, all patches have much the same share, half
    of which in each layer is their own: that column has a scale of its own. Beside `figures/attention/epoch=N.png`, an
    `.npz` has `index`, `labels` and `original` of n images, `heads` (n, heads, h, w) and `rollout` (n, h, w): of each
    query's attention, 1, the share of each patch. The images are the same in every run.

    Cost: 2 s on one core, 4 s for a small transformer on 224 pixels; the weights of one image at a time are in memory.

    Args:
        images: how many, of different classes.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, images: PositiveInt = 6, every_n_epochs: NonNegativeInt = 10):
        super().__init__(every_n_epochs)
        self.images = images

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        encoder = module.encoder
        if not (hasattr(encoder, "attention") and hasattr(encoder, "grid")):
            missing = "grid of patches" if hasattr(encoder, "attention") else "attention"
            self.skip_figure(f"{type(encoder).__name__} has no {missing}")
            return
        examples = Features.find_in(trainer).collect_split(trainer)
        if not trainer.is_global_zero:
            return
        rows = pick_evenly(examples.labels, self.images)
        images = load_examples(trainer, split, examples.index[rows].cpu())
        with eval_mode(trainer, module):
            heads, rollout, facts = measure_attention(encoder, images.view)
        if not (heads.isfinite().all() and rollout.isfinite().all()):
            self.skip_figure(f"the attention of {type(encoder).__name__} is not finite")
            return
        names = trainer.datamodule.class_names if images.labels.ndim == 1 else None
        tokens = facts["tokens"]
        figure = draw_heat(images, heads.numpy() * tokens, rollout.numpy() * tokens, names)
        write_title(figure, *describe_attention(facts, split, encoder.pooled))
        arrays = {"index": images.index.cpu().numpy(), "labels": images.labels.cpu().numpy()}
        arrays |= {"original": images.display, "heads": heads.numpy(), "rollout": rollout.numpy()}
        save_figure(trainer, "attention", figure, {"split": split, **facts}, **arrays)


def measure_attention(encoder: nn.Module, view: Tensor) -> tuple[Tensor, Tensor, dict]:
    """Measure how much of its attention the class token, or without one the mean patch, gives to each patch.

    Args:
        view: (n, C, H, W).

    Returns:
        On the CPU, of each head of the last layer (n, heads, h, w), and rolled out over all (n, h, w); and the numbers
        of layers, heads and tokens, and who asks.
    """
    grid, heads, rollout = encoder.grid(view), [], []
    for image in view.split(1):  # layers * heads * tokens ** 2 weights an image
        weights = encoder.attention(image).float()  # (layers, 1, heads, T, T)
        with_class_token = weights.shape[-1] > grid[0] * grid[1]
        class_token = getattr(encoder, "has_class_token", with_class_token)
        heads.append(attention_to_patches(weights[-1], grid, class_token).cpu())
        rollout.append(attention_to_patches(roll_out_attention(weights), grid, class_token).cpu())
    layers, _, count, tokens, _ = weights.shape
    facts = {"layers": layers, "heads": count, "tokens": tokens}
    facts["query"] = "class token" if class_token else "patches"
    return torch.cat(heads), torch.cat(rollout), facts


def describe_attention(facts: dict, split: str, pooled: bool) -> tuple[str, str]:
    """Write the title, and below it how to read the picture."""
    by_token = facts["query"] == "class token"
    title = "Where the class token looks" if by_token else "Where the patches look, on average"
    under = f"{SPLITS[split].capitalize()} images. Attention to each patch in the last of {facts['layers']} layers, "
    under += f"and rolled out over all.\n1 is an even share among {facts['tokens']} tokens."
    under += " Features are the mean of the patches' tokens." if by_token and pooled else ""
    if facts["heads"] > MOST_HEADS:
        under += f" {MOST_HEADS} of {facts['heads']} heads are shown, the mean is of all."
    return title, under
