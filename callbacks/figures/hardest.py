"""The hardest and the easiest examples of a split."""

import math
import textwrap
from typing import Any

import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.class_scores import NO_HEAD, find_linear_head
from callbacks.evaluation.features import Features, FeatureSet, eval_mode, gather_feature_set
from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import load_examples
from callbacks.plotting.save import save_figure, save_table
from callbacks.plotting.style import (
    FAINT,
    INK,
    WRONG,
    label_name,
    place_axes,
    show_example,
    truncate_text,
    write_title,
)
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


class Hardest(FigureCallback):
    """Draws the examples with the highest and the lowest loss, each with its class and the predicted one.

    The loss is the method's own if its validation step returns `losses`, one for each example (RotNet's is of turns,
    an autoencoder's of pixels), else the cross-entropy of a probe on the features. Beside
    `figures/hardest/epoch=N.png`, a `.json` names the `loss` and lists the `hardest` and the `easiest` examples: index
    in the split, loss, label, pred and prob, and a text's text. An `.npz` holds images. W&B gets the same as a table.

    Cost: 1 s to draw a figure; a probe on the bank where there is no online probe or classifier, see Confusion; a pass
    over the bank with `training`.

    Args:
        count: the number of hardest examples, and of easiest ones.
        training: draw the labeled training examples as well, without augmentation, in `figures/hardest_training`.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, count: PositiveInt = 12, training: bool = False, every_n_epochs: NonNegativeInt = 0):
        super().__init__(every_n_epochs)
        self.count, self.training = count, training
        self.loss_batches: list[tuple[Tensor, Tensor, Tensor]] = []  # losses, labels and index of a split

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.loss_batches = []

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        if "losses" in outputs:
            self.loss_batches.append((outputs["losses"], batch.labels, batch.index))

    on_test_epoch_start, on_test_batch_end = on_validation_epoch_start, on_validation_batch_end

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not self.loss_batches and trainer.datamodule.task != "classification":
            method = type(module).__name__
            self.skip_figure(f"{method} returns no loss for each example, and the data have no classes")
            return
        split_features = Features.find_in(trainer).collect_split(trainer)
        losses = gather_feature_set(trainer, self.loss_batches).features if self.loss_batches else None
        self.draw_split(trainer, module, split, losses, split_features)
        if self.training:
            if self.loss_batches:
                losses, bank = compute_bank_losses(trainer, module)
            else:
                losses, bank = None, Features.find_in(trainer).encode_bank(trainer, module)
            self.draw_split(trainer, module, "bank", losses, bank)

    def draw_split(
        self,
        trainer: Trainer,
        module: LightningModule,
        split: str,
        losses: Tensor | None,
        features: FeatureSet,
    ) -> None:
        """Draw and save the extremes of a split by the method's losses (N,), or by a probe's if they are None."""
        data = trainer.datamodule
        loss_name = f"{type(module).__name__}'s loss"
        head_name = scores = None
        if data.task == "classification" and (head_and_name := find_linear_head(trainer, module)):
            head, head_name = head_and_name
            if losses is None:
                features = features.select_labeled()
            scores = head.score_classes(features.features)
        if losses is None and scores is None:
            self.skip_figure(NO_HEAD)
            return
        if losses is None:
            loss_name = f"cross-entropy of the {head_name}"
            losses = F.cross_entropy(scores, features.labels, reduction="none")
        if not trainer.is_global_zero:
            return
        positions = {
            "hardest": find_largest(losses, self.count),
            "easiest": find_largest(-losses, self.count),
        }
        if not len(positions["hardest"]):
            self.skip_figure(f"no {SPLITS[split]} example has a known loss")
            return
        entries, examples = {}, {}
        for kind, of_kind in positions.items():
            entries[kind] = describe_examples(of_kind, losses, features, scores)
            examples[kind] = load_examples(trainer, split, features.index[of_kind].cpu()).display
        figure = draw_extremes(entries, examples, data.class_names)
        red = f"; in red the {head_name}'s mistakes" if head_name else ""
        subtitle = f"Of {len(losses):,} {SPLITS[split]} examples{red}."
        write_title(figure, f"Hardest and easiest, by {loss_name}", subtitle)
        name = "hardest_training" if split == "bank" else "hardest"
        table = [
            {"kind": kind, "example": example, **entry}
            for kind in entries
            for entry, example in zip(entries[kind], examples[kind], strict=True)
        ]
        save_table(trainer, name, table)
        arrays = {}
        for kind, images_or_texts in examples.items():
            if isinstance(images_or_texts, list):  # texts go to the JSON file, images to the arrays
                for entry, text in zip(entries[kind], images_or_texts, strict=True):
                    entry["text"] = text
            else:
                arrays[kind] = images_or_texts
        facts = {"split": split, "loss": loss_name, "head": head_name, "classes": data.class_names, **entries}
        save_figure(trainer, name, figure, facts=facts, **arrays)


def compute_bank_losses(trainer: Trainer, module: LightningModule) -> tuple[Tensor, FeatureSet]:
    """Compute losses (N,) and features of the labeled training examples by the validation step."""
    losses, features = [], []
    with eval_mode(trainer, module):
        for batch_idx, batch in enumerate(trainer.datamodule.batches("bank", trainer.strategy.root_device)):
            outputs = module.validation_step(batch, batch_idx)
            losses.append((outputs["losses"], batch.labels, batch.index))
            features.append((outputs["features"], batch.labels, batch.index))
    return gather_feature_set(trainer, losses).features, gather_feature_set(trainer, features)


def find_largest(losses: Tensor, count: int) -> Tensor:
    """Find the positions of the largest losses (N,), in falling order, without unknown ones (NaN)."""
    order = losses.argsort(descending=True, stable=True)
    return order[~losses[order].isnan()][:count]


def describe_examples(
    positions: Tensor, losses: Tensor, features: FeatureSet, scores: Tensor | None
) -> list[dict[str, Any]]:
    """Describe the examples at `positions` by index and loss and, with scores (N, K), by label and prediction."""
    columns = {"index": features.index[positions], "loss": losses[positions]}
    if scores is not None:
        prob, predicted = scores[positions].double().softmax(1).max(1)
        columns |= {"label": features.labels[positions], "pred": predicted, "prob": prob}
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def draw_extremes(
    entries: dict[str, list[dict]], examples: dict[str, Any], names: list[str] | None
) -> Figure:
    """Draw the hardest on the left and the easiest on the right, each with its class, wrong prediction and loss.

    Images stand four in a row, texts below each other.
    """
    are_texts = isinstance(examples["hardest"], list)
    columns, width, height, caption = (1, 4.4, 0.56, 0.26) if are_texts else (4, 1.0, 1.0, 0.55)  # inches
    half, top = columns * (width + 0.08) + 0.4, 0.85
    lines = math.ceil(max(map(len, entries.values())) / columns)
    size = 2 * half - 0.4, top + lines * (height + caption)
    figure = plt.figure(figsize=size)
    for side, kind in enumerate(entries):
        left = 0.09 + side * half
        heading = {"fontsize": 9, "weight": "bold", "color": INK}
        figure.text(left / size[0], 1 - (top - 0.1) / size[1], kind.capitalize(), **heading)
        for k, (entry, example) in enumerate(zip(entries[kind], examples[kind], strict=True)):
            line, column = divmod(k, columns)
            corner = left + column * (width + 0.08), top + line * (height + caption) + 0.2 * are_texts
            axis = place_axes(figure, *corner, width, height)
            if are_texts:
                axis.set_axis_off()
                axis.text(0, 1, textwrap.fill(example, 78), fontsize=7, color=INK, va="top")
            else:
                show_example(axis, example)
            for number, (text, color) in enumerate(write_caption(entry, names)):
                offset = (90 * number, 10) if are_texts else (0, -3 - 10 * number)
                at = {"xycoords": "axes fraction", "xytext": offset, "textcoords": "offset points"}
                style = {"fontsize": 7, "color": color, "weight": "bold" if color == INK else "normal"}
                axis.annotate(text, (0, float(are_texts)), **at, **style, va="top")
    return figure


def write_caption(entry: dict[str, Any], names: list[str] | None) -> list[tuple[str, str]]:
    """Write the caption of an example: its class, a wrong prediction and its loss, each with its color."""
    lines = []
    if "pred" in entry:
        lines.append((truncate_text(label_name(names, entry["label"]), 18), INK))
        if entry["label"] not in (-1, entry["pred"]):
            lines.append((f"\N{BALLOT X} {truncate_text(names[entry['pred']], 16)}", WRONG))
    return [*lines, (f"loss {_format_loss(entry['loss'])}", FAINT)]


def _format_loss(loss: float) -> str:
    if abs(loss) < 1e-4:
        return "below 0.0001"
    return f"{loss:.2f}" if abs(loss) >= 0.1 else f"{loss:#.2g}"
