"""Which training examples does the network find most like this one?"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation.features import Features, FeatureSet, encode
from callbacks.figures.base import Eye
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.neighbors import draw_image_neighbors, draw_text_neighbors
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import write_title
from common.splits import SPLITS


class Found(NamedTuple):
    """Neighbors of N queries, nearest first, (N, k) each: cosine similarity, position in the bank, label."""

    similarity: Tensor
    index: Tensor
    labels: Tensor


def nearest(queries: Tensor, bank: Tensor, k: int, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """The k vectors of a bank (M, D) at the smallest angles to each query (N, D), nearest first.

    Returns:
        Cosine similarities and places in the bank, (N, k) both; all of a bank smaller than k.
    """
    queries, bank = F.normalize(queries, dim=1), F.normalize(bank, dim=1)
    found = [(part @ bank.T).topk(min(k, len(bank))) for part in queries.split(chunk)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def search(queries: FeatureSet, bank: FeatureSet, k: int) -> Found:
    similarity, places = nearest(queries.features, bank.features, k)
    return Found(similarity, bank.index[places], bank.labels[places])


def precision(labels: Tensor, neighbors: Tensor) -> float:
    """Share of the neighbors, classes (N, k), that have their query's class (N,)."""
    return float((neighbors == labels[:, None]).float().mean())


class Retrieval(Eye):
    """Examples beside the labeled training examples nearest to them, by features and, as the floor, by the raw input.

    Beside `figures/retrieval/epoch=N.png`, a `.json` has positions, classes and similarities, and an `.npz` the images.
    `SPLIT/precision_at_10`, and `pixels/SPLIT/precision_at_10` of the floor, are the shares of neighbors that have the
    query's class. Where labels are numbers, neighbors are shown and nothing is measured.

    Cost, for 2,000 queries among 45,000 images of 32x32 on one core: 17 s the first time, most of it the floor's pass
    over the raw input, then 1 s. Eyes share the forward pass over the bank.

    Args:
        queries: examples shown, of different classes.
        k: neighbors of each.
        measured: queries that precision is the mean over, as equal a number of each class as there is.
        every_n_epochs: 0 for the last epoch only.
    """

    measures = ("precision_at_10",)  # with the usual k

    def __init__(self, queries: int = 5, k: int = 10, measured: int = 2000, every_n_epochs: int = 0):
        super().__init__(every_n_epochs)
        self.queries, self.k, self.measured = queries, k, measured
        self.floor: dict[str, Found] = {}  # of a split; training does not change it

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        data, features = trainer.datamodule, Features.of(trainer)
        seen, bank = features.split(trainer).labeled(), features.bank(trainer, module)
        if not (len(seen.index) and len(bank.index)):
            return self.skip(f"the labels of {SPLITS[split]} or of training examples are unknown")
        queries = rows(seen, pick_evenly(seen.labels, self.measured))
        if split not in self.floor:
            self.floor[split] = self.search_raw(trainer, module, split, queries)
        found = {"neighbors": search(queries, bank, self.k), data.raw_name: self.floor[split]}
        facts = {"split": split, "raw": data.raw_name, "measured": len(queries.index)}
        if data.task == "classification":
            scores = {name: precision(queries.labels, of.labels) for name, of in found.items()}
            own, floor = scores.values()
            name = f"{split}/precision_at_{self.k}"
            module.log_dict({name: own, f"{data.raw_name}/{name}": floor})
            facts[f"precision_at_{self.k}"] = scores
        if not trainer.is_global_zero:
            return None
        return self.draw(trainer, queries, found, facts)

    def search_raw(self, trainer: Trainer, module: LightningModule, split: str, queries: FeatureSet) -> Found:
        """Neighbors of the same queries by the raw input."""
        data = trainer.datamodule
        seen, bank = (encode(trainer, module.encoder, name, via=data.raw) for name in (split, "bank"))
        return search(rows(seen, torch.searchsorted(seen.index, queries.index)), bank.labeled(), self.k)

    def draw(self, trainer: Trainer, queries: FeatureSet, found: dict[str, Found], facts: dict) -> None:
        chosen, split, data = pick_evenly(queries.labels, self.queries), facts["split"], trainer.datamodule
        facts["queries"] = [entry(queries, found, place, split) for place in chosen.tolist()]
        shown = {"query": load_examples(trainer, split, queries.index[chosen].cpu()).display}
        for name, of in found.items():
            shown[name] = load_examples(trainer, "bank", of.index[chosen].flatten().cpu()).display
        texts = isinstance(shown["query"], list)
        facts |= {"texts": shown} if texts else {}
        paint = draw_text_neighbors if texts else draw_image_neighbors
        figure = paint(facts["queries"], shown, data.class_names)
        what = f"{SPLITS[split].capitalize()} examples beside the training examples nearest to them"
        write_title(figure, what, self.under(facts))
        save_figure(trainer, "retrieval", figure, facts, **({} if texts else shown))

    def under(self, facts: dict) -> str:
        text = "Numbers are cosine similarities."
        if scores := facts.get(f"precision_at_{self.k}"):
            own, floor = (f"{100 * score:.0f} %" for score in scores.values())
            text += f" Red: of another class. Of the neighbors of {facts['measured']:,} examples, {own} have their "
            text += f"class by features, {floor} by {facts['raw']}."
        return text


def rows(features: FeatureSet, places: Tensor) -> FeatureSet:
    return FeatureSet(*(column[places] for column in features))


def entry(queries: FeatureSet, found: dict[str, Found], place: int, split: str) -> dict[str, Any]:
    """Plain facts of a query, and [position, class, similarity] of its neighbors; class None where there are none."""
    classes = queries.labels.ndim == 1
    label = int(queries.labels[place]) if classes else None
    row: dict[str, Any] = {"query": {"index": int(queries.index[place]), "split": split, "label": label}}
    for name, of in found.items():
        similarity, index, labels = (column[place].tolist() for column in of)
        labels = labels if classes else [None] * len(index)
        row[name] = [list(triple) for triple in zip(index, labels, similarity, strict=True)]
    return row
