"""The training examples that are nearest to some queries, by features and by the raw input."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation.features import Features, FeatureSet, extract_features
from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.neighbors import draw_image_neighbors, draw_text_neighbors
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


class Neighbors(NamedTuple):
    """Neighbors of N queries, nearest first, (N, k) each: cosine similarity, position in the bank, label."""

    similarity: Tensor
    index: Tensor
    labels: Tensor


def find_nearest(queries: Tensor, bank: Tensor, k: int, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Find the k vectors of a bank (M, D) at the smallest angles to each query (N, D), nearest first.

    Returns:
        Cosine similarities and rows of the bank, (N, k) both; all of a bank smaller than k.
    """
    queries, bank = F.normalize(queries.float(), dim=1), F.normalize(bank.float(), dim=1)
    blocks = [(part @ bank.T).topk(min(k, len(bank))) for part in queries.split(chunk)]
    return torch.cat([block.values for block in blocks]), torch.cat([block.indices for block in blocks])


def search_bank(queries: FeatureSet, bank: FeatureSet, k: int) -> Neighbors:
    """Search a bank for the k neighbors of each query, and say where they are in their split."""
    similarity, rows = find_nearest(queries.features, bank.features, k)
    return Neighbors(similarity, bank.index[rows], bank.labels[rows])


def neighbor_precision(labels: Tensor, neighbors: Tensor) -> float:
    """Share of the neighbors, classes (N, k), that have their query's class (N,)."""
    return float((neighbors == labels[:, None]).float().mean())


class Retrieval(FigureCallback):
    """Draws examples beside the labeled training examples nearest to them, by features and, as the floor, by the raw
    input.

    Beside `figures/retrieval/epoch=N.png`, a `.json` has positions, classes and similarities, and an `.npz` the images.
    `SPLIT/precision_at_10`, and `pixels/SPLIT/precision_at_10` of the floor, are the shares of neighbors that have the
    query's class. Where labels are numbers, neighbors are shown and nothing is measured.

    Cost, for 2,000 queries among 45,000 images of 32x32 on one core: 17 s the first time, most of it the floor's pass
    over the raw input, then 1 s. Callbacks share the forward pass over the bank.

    Args:
        queries: examples that are shown, of different classes.
        k: neighbors of each.
        measured: queries that precision is the mean over, as equal a number of each class as there is.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("precision_at_10",)  # with the usual k

    def __init__(
        self,
        queries: PositiveInt = 5,
        k: PositiveInt = 10,
        measured: PositiveInt = 2000,
        every_n_epochs: NonNegativeInt = 0,
    ):
        super().__init__(every_n_epochs)
        self.queries, self.k, self.measured = queries, k, measured
        self.floor: dict[str, Neighbors] = {}  # of a split; training does not change it

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        data, features = trainer.datamodule, Features.find_in(trainer)
        labeled, bank = (
            features.collect_split(trainer).select_labeled(),
            features.encode_bank(trainer, module),
        )
        if not (len(labeled.index) and len(bank.index)):
            self.skip_figure(f"the labels of {SPLITS[split]} or of training examples are unknown")
            return
        queries = labeled.select_rows(pick_evenly(labeled.labels, self.measured))
        if split not in self.floor:
            self.floor[split] = self.search_raw(trainer, module, split, queries)
        neighbors = {"neighbors": search_bank(queries, bank, self.k), data.raw_name: self.floor[split]}
        facts = {"split": split, "raw": data.raw_name, "measured": len(queries.index)}
        if data.task == "classification":
            scores = {name: neighbor_precision(queries.labels, of.labels) for name, of in neighbors.items()}
            by_features, by_raw = scores.values()
            name = f"{split}/precision_at_{self.k}"
            module.log_dict({name: by_features, f"{data.raw_name}/{name}": by_raw})
            facts[f"precision_at_{self.k}"] = scores
        if trainer.is_global_zero:
            self.draw_neighbors(trainer, queries, neighbors, facts)

    def search_raw(
        self, trainer: Trainer, module: LightningModule, split: str, queries: FeatureSet
    ) -> Neighbors:
        """Search the neighbors of the same queries by the raw input."""
        pixels, bank = (
            extract_features(trainer, module.encoder, name, via=trainer.datamodule.compute_raw_features)
            for name in (split, "bank")
        )
        queries = pixels.select_rows(torch.searchsorted(pixels.index, queries.index))
        return search_bank(queries, bank.select_labeled(), self.k)

    def draw_neighbors(
        self, trainer: Trainer, queries: FeatureSet, neighbors: dict[str, Neighbors], facts: dict
    ) -> None:
        """Draw some queries beside their neighbors, and save the figure with the facts of these."""
        rows, split, data = pick_evenly(queries.labels, self.queries), facts["split"], trainer.datamodule
        facts["queries"] = [describe_query(queries, neighbors, row, split) for row in rows.tolist()]
        pictures = {"query": load_examples(trainer, split, queries.index[rows].cpu()).display}
        for name, of in neighbors.items():
            pictures[name] = load_examples(trainer, "bank", of.index[rows].flatten().cpu()).display
        texts = isinstance(pictures["query"], list)
        facts |= {"texts": pictures} if texts else {}
        draw_examples = draw_text_neighbors if texts else draw_image_neighbors
        figure = draw_examples(facts["queries"], pictures, data.class_names)
        text = f"{SPLITS[split].capitalize()} examples beside the training examples nearest to them"
        write_title(figure, text, self.describe_precision(facts))
        save_figure(trainer, "retrieval", figure, facts, **({} if texts else pictures))

    def describe_precision(self, facts: dict) -> str:
        """Write what goes under the title."""
        text = "Numbers are cosine similarities."
        if scores := facts.get(f"precision_at_{self.k}"):
            by_features, by_raw = (f"{100 * score:.0f} %" for score in scores.values())
            text += (
                f" Red: of another class. Of the neighbors of {facts['measured']:,} examples, {by_features} "
            )
            text += f"have their class by features, {by_raw} by {facts['raw']}."
        return text


def describe_query(
    queries: FeatureSet, neighbors: dict[str, Neighbors], row: int, split: str
) -> dict[str, Any]:
    """List plain facts of a query, and [position, class, similarity] of its neighbors; class None without classes."""
    classes = queries.labels.ndim == 1
    label = int(queries.labels[row]) if classes else None
    facts: dict[str, Any] = {"query": {"index": int(queries.index[row]), "split": split, "label": label}}
    for name, of in neighbors.items():
        similarity, index, labels = (column[row].tolist() for column in of)
        labels = labels if classes else [None] * len(index)
        facts[name] = [list(triple) for triple in zip(index, labels, similarity, strict=True)]
    return facts
