"""The hardest and the easiest examples of a split."""

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
from common.splits import SPLITS


class Hardest(FigureCallback):
    """Draws the examples with the largest and with the lowest loss, each with its class and what it is taken for.

    The loss is the method's own where its validation step gives one for each example (RotNet's is of turns, an
    autoencoder's of pixels), else the cross-entropy of a probe on the features. Beside `figures/hardest/epoch=N.png`, a
    `.json` has which `loss` it is and, for `hardest` and `easiest` each, index in the split, loss, label, pred, prob
    and, of texts, text; of images, an `.npz` has them. W&B gets the same as a table.

    Cost: 1 s of drawing a picture; without an online probe or classifier also a probe on the bank, see Confusion; with
    `training` a pass over the bank.

    Args:
        count: how many of each.
        training: draw the same for the labeled training examples, without augmentation, in `figures/hardest_training`.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, count: int = 12, training: bool = False, every_n_epochs: int = 0):
        super().__init__(every_n_epochs)
        self.count, self.training = count, training
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.rows = []

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        if "losses" in outputs:
            self.rows.append((outputs["losses"], batch.labels, batch.index))

    on_test_epoch_start, on_test_batch_end = on_validation_epoch_start, on_validation_batch_end

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not self.rows and trainer.datamodule.task != "classification":
            reason = "has no loss of single examples, and the data have no classes"
            self.skip_figure(f"{type(module).__name__} {reason}")
            return
        split_features = Features.find_in(trainer).collect_split(trainer)
        losses = gather_feature_set(trainer, self.rows).features if self.rows else None
        self.draw_split(trainer, module, split, losses, split_features)
        if self.training:
            if self.rows:
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
        """Draw and save the extremes of a split, by the method's losses (N,) or, without them, by those of a probe."""
        data, loss_name, head_name, scores = trainer.datamodule, f"{type(module).__name__}'s loss", None, None
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
        rows = {"hardest": find_largest(losses, self.count), "easiest": find_largest(-losses, self.count)}
        if not len(rows["hardest"]):
            self.skip_figure(f"no {SPLITS[split]} example has a known loss")
            return
        entries = {
            kind: describe_examples(of_kind, losses, features, scores) for kind, of_kind in rows.items()
        }
        pictures = {
            kind: load_examples(trainer, split, features.index[rows[kind]].cpu()).display for kind in rows
        }
        for kind, texts in pictures.items():
            if isinstance(texts, list):
                pairs = zip(entries[kind], texts, strict=True)
                entries[kind] = [{**entry, "text": text} for entry, text in pairs]
        figure = draw_extremes(entries, pictures, data.class_names)
        red = f"; in red what the {head_name} says" if head_name else ""
        under = f"Of {len(losses):,} {SPLITS[split]} examples{red}."
        write_title(figure, f"Hardest and easiest, by {loss_name}", under)
        facts = {"split": split, "loss": loss_name, "head": head_name, "classes": data.class_names, **entries}
        name = "hardest_training" if split == "bank" else "hardest"
        table = [
            {"kind": kind, "example": example} | {key: value for key, value in entry.items() if key != "text"}
            for kind in entries
            for entry, example in zip(entries[kind], pictures[kind], strict=True)
        ]
        save_table(trainer, name, table)
        arrays = {kind: images for kind, images in pictures.items() if not isinstance(images, list)}
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
    """Find the positions of the largest of the losses (N,), the largest first; NaN, an unknown loss, is left out."""
    order = losses.argsort(descending=True, stable=True)
    return order[~losses[order].isnan()][:count]


def describe_examples(
    rows: Tensor, losses: Tensor, features: FeatureSet, scores: Tensor | None
) -> list[dict[str, Any]]:
    """List the facts of the examples at some rows, as plain types; scores (N, K) or None."""
    entries = [
        {"index": index, "loss": loss}
        for index, loss in zip(features.index[rows].tolist(), losses[rows].tolist(), strict=True)
    ]
    if scores is not None:
        prob, predicted = scores[rows].double().softmax(1).max(1)
        columns = {"label": features.labels[rows], "pred": predicted, "prob": prob}
        for name, column in columns.items():
            for entry, value in zip(entries, column.tolist(), strict=True):
                entry[name] = value
    return entries


def draw_extremes(
    entries: dict[str, list[dict]], pictures: dict[str, Any], names: list[str] | None
) -> Figure:
    """Draw the hardest on the left and the easiest on the right: images, four in a row, or texts; class, error and
    loss beside each."""
    texts = isinstance(pictures["hardest"], list)
    columns, width, height, caption = (1, 4.4, 0.56, 0.26) if texts else (4, 1.0, 1.0, 0.55)  # inches
    apart, top = columns * (width + 0.08) + 0.4, 0.85
    lines = -(-max(map(len, entries.values())) // columns)
    size = 2 * apart - 0.4, top + lines * (height + caption)
    figure = plt.figure(figsize=size)
    for side, kind in enumerate(entries):
        left = 0.09 + side * apart
        heading = {"fontsize": 9, "weight": "bold", "color": INK}
        figure.text(left / size[0], 1 - (top - 0.1) / size[1], kind.capitalize(), **heading)
        for k, (entry, example) in enumerate(zip(entries[kind], pictures[kind], strict=True)):
            line, column = divmod(k, columns)
            corner = left + column * (width + 0.08), top + line * (height + caption) + 0.2 * texts
            axis = place_axes(figure, *corner, width, height)
            if texts:
                axis.set_axis_off()
                axis.text(0, 1, textwrap.fill(example, 78), fontsize=7, color=INK, va="top")
            else:
                show_example(axis, example)
            for number, (text, color) in enumerate(write_caption(entry, names)):
                offset = (90 * number, 10) if texts else (0, -3 - 10 * number)
                at = {"xycoords": "axes fraction", "xytext": offset, "textcoords": "offset points"}
                style = {"fontsize": 7, "color": color, "weight": "bold" if color == INK else "normal"}
                axis.annotate(text, (0, float(texts)), **at, **style, va="top")
    return figure


def write_caption(entry: dict[str, Any], names: list[str] | None) -> list[tuple[str, str]]:
    """Write the lines below an example, each with its color."""
    size = abs(entry["loss"])
    loss = format(entry["loss"], ".2f" if size >= 0.1 else "#.2g") if size >= 1e-4 else "below 0.0001"
    lines = [(f"loss {loss}", FAINT)]
    if "pred" in entry:
        if entry["label"] not in (-1, entry["pred"]):
            lines.insert(0, (f"\N{BALLOT X} {truncate_text(names[entry['pred']], 16)}", WRONG))
        lines.insert(0, (truncate_text(label_name(names, entry["label"]), 18), INK))
    return lines
