"""Which examples are hardest for it, and which easiest?"""

import textwrap
from typing import Any

import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation.class_scores import NO_HEAD, linear_head
from callbacks.evaluation.features import Features, FeatureSet, gather, looking
from callbacks.figures.base import Eye
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


class Hardest(Eye):
    """The examples with the largest and with the lowest loss, each with its class and what it is taken for.

    The loss is the method's own where its validation step gives one for each example (RotNet's is of turns, an
    autoencoder's of pixels), else the cross-entropy of a probe on the features. Beside `figures/hardest/epoch=N.png`, a
    `.json` has which `loss` it is and, for `hardest` and `easiest` each, index in the split, loss, label, pred, prob
    and, of texts, text; of images, an `.npz` has them. W&B gets the same as a table.

    Cost: 1 s of drawing a picture; without an online probe or classifier also a probe on the bank, see Confusion; with
    `training` a pass over the bank.

    Args:
        count: how many of each.
        training: the same for the labeled training examples, without augmentation, in `figures/hardest_training`.
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

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not self.rows and trainer.datamodule.task != "classification":
            reason = "has no loss of single examples, and the data have no classes"
            return self.skip(f"{type(module).__name__} {reason}")
        seen = Features.of(trainer).split(trainer)
        self.picture(trainer, module, split, gather(trainer, self.rows).features if self.rows else None, seen)
        if self.training:
            if self.rows:
                self.picture(trainer, module, "bank", *losses_of_bank(trainer, module))
            else:
                self.picture(trainer, module, "bank", None, Features.of(trainer).bank(trainer, module))
        return None

    def picture(
        self, trainer: Trainer, module: LightningModule, split: str, losses: Tensor | None, seen: FeatureSet
    ) -> None:
        """The extremes of a split, by the method's losses (N,) or, where there are none, by those of a probe."""
        data, loss, head, scores = trainer.datamodule, f"{type(module).__name__}'s loss", None, None
        if data.task == "classification" and (scorer := linear_head(trainer, module)):
            linear, head = scorer
            seen = seen if losses is not None else seen.labeled()
            scores = linear.scores(seen.features)
        if losses is None and scores is None:
            return self.skip(NO_HEAD)
        if losses is None:
            loss = f"cross-entropy of the {head}"
            losses = F.cross_entropy(scores, seen.labels, reduction="none")
        if not trainer.is_global_zero:
            return None
        rows = {"hardest": largest(losses, self.count), "easiest": largest(-losses, self.count)}
        if not len(rows["hardest"]):
            return self.skip(f"no {SPLITS[split]} example has a known loss")
        found = {kind: entries(chosen, losses, seen, scores) for kind, chosen in rows.items()}
        shown = {kind: load_examples(trainer, split, seen.index[rows[kind]].cpu()).display for kind in rows}
        for kind, texts in shown.items():
            if isinstance(texts, list):
                found[kind] = [{**row, "text": text} for row, text in zip(found[kind], texts, strict=True)]
        figure = draw(found, shown, data.class_names)
        red = f"; in red what the {head} says" if head else ""
        write_title(
            figure, f"Hardest and easiest, by {loss}", f"Of {len(losses):,} {SPLITS[split]} examples{red}."
        )
        facts = {"split": split, "loss": loss, "head": head, "classes": data.class_names, **found}
        name = "hardest_training" if split == "bank" else "hardest"
        table = [
            {"kind": kind, "example": example} | {key: value for key, value in row.items() if key != "text"}
            for kind in found
            for row, example in zip(found[kind], shown[kind], strict=True)
        ]
        save_table(trainer, name, table)
        arrays = {kind: images for kind, images in shown.items() if not isinstance(images, list)}
        return save_figure(trainer, name, figure, facts=facts, **arrays)


def losses_of_bank(trainer: Trainer, module: LightningModule) -> tuple[Tensor, FeatureSet]:
    """What the validation step says of the labeled training examples: losses (N,) and features."""
    losses, features = [], []
    with looking(trainer, module):
        for batch_idx, batch in enumerate(trainer.datamodule.batches("bank", trainer.strategy.root_device)):
            outputs = module.validation_step(batch, batch_idx)
            losses.append((outputs["losses"], batch.labels, batch.index))
            features.append((outputs["features"], batch.labels, batch.index))
    return gather(trainer, losses).features, gather(trainer, features)


def largest(losses: Tensor, count: int) -> Tensor:
    """Positions of the largest (N,), the largest first; never of an unknown one, NaN."""
    order = losses.argsort(descending=True, stable=True)
    return order[~losses[order].isnan()][:count]


def entries(chosen: Tensor, losses: Tensor, seen: FeatureSet, scores: Tensor | None) -> list[dict[str, Any]]:
    """Facts of the chosen positions, as plain types; scores (N, K) or None."""
    rows = [
        {"index": index, "loss": loss}
        for index, loss in zip(seen.index[chosen].tolist(), losses[chosen].tolist(), strict=True)
    ]
    if scores is not None:
        prob, predicted = scores[chosen].double().softmax(1).max(1)
        columns = {"label": seen.labels[chosen], "pred": predicted, "prob": prob}
        for name, column in columns.items():
            for row, value in zip(rows, column.tolist(), strict=True):
                row[name] = value
    return rows


def draw(found: dict[str, list[dict]], shown: dict[str, Any], names: list[str] | None) -> Figure:
    """Hardest on the left, easiest on the right: images, four in a row, or texts; class, error and loss beside each."""
    texts = isinstance(shown["hardest"], list)
    columns, width, height, caption = (1, 4.4, 0.56, 0.26) if texts else (4, 1.0, 1.0, 0.55)  # inches
    apart, top = columns * (width + 0.08) + 0.4, 0.85
    lines = -(-max(map(len, found.values())) // columns)
    size = 2 * apart - 0.4, top + lines * (height + caption)
    figure = plt.figure(figsize=size)
    for side, kind in enumerate(found):
        left = 0.09 + side * apart
        heading = {"fontsize": 9, "weight": "bold", "color": INK}
        figure.text(left / size[0], 1 - (top - 0.1) / size[1], kind.capitalize(), **heading)
        for k, (entry, example) in enumerate(zip(found[kind], shown[kind], strict=True)):
            line, column = divmod(k, columns)
            place_of = left + column * (width + 0.08), top + line * (height + caption) + 0.2 * texts
            axis = place_axes(figure, *place_of, width, height)
            if texts:
                axis.set_axis_off()
                axis.text(0, 1, textwrap.fill(example, 78), fontsize=7, color=INK, va="top", parse_math=False)
            else:
                show_example(axis, example)
            for number, (text, color) in enumerate(words(entry, names)):
                offset = (90 * number, 10) if texts else (0, -3 - 10 * number)
                at = {"xycoords": "axes fraction", "xytext": offset, "textcoords": "offset points"}
                style = {"fontsize": 7, "color": color, "weight": "bold" if color == INK else "normal"}
                axis.annotate(text, (0, float(texts)), **at, **style, va="top")
    return figure


def words(entry: dict[str, Any], names: list[str] | None) -> list[tuple[str, str]]:
    """What stands below an example, each with its color."""
    size = abs(entry["loss"])
    loss = format(entry["loss"], ".2f" if size >= 0.1 else "#.2g") if size >= 1e-4 else "below 0.0001"
    lines = [(f"loss {loss}", FAINT)]
    if "pred" in entry:
        if entry["label"] not in (-1, entry["pred"]):
            lines.insert(0, (f"\N{BALLOT X} {truncate_text(names[entry['pred']], 16)}", WRONG))
        lines.insert(0, (truncate_text(label_name(names, entry["label"]), 18), INK))
    return lines
