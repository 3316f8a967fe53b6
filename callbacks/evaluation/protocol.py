"""The numbers for tables: one fixed protocol for the final encoder, for where it started and for the raw input."""

from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from callbacks.evaluation.features import Features, FeatureSet, NotFiniteError, extract_features
from callbacks.evaluation.starting_encoders import StartingEncoders
from callbacks.measures.knn import score_by_neighbors
from callbacks.measures.linear_probe import LinearProbe, fit_probe, score_with_few_labels
from callbacks.measures.scores import average_scores
from common.class_counts import count_classes, is_uneven, majority_share
from common.metrics import SCORES
from common.ranges import PositiveFloat, PositiveInt


class Bank(NamedTuple):
    """Labeled training examples as one encoder sees them, and the probe fitted on them."""

    examples: FeatureSet
    probe: LinearProbe


class Protocol(Callback):
    """Measures kNN and a converged linear probe on frozen features, with all labels and with few, on validation when
    training ends and on test when the trainer tests: `SPLIT/knn{k}_top1`, `SPLIT/probe_top1`, `SPLIT/probe{n}_top1`.

    The same for a fresh initialization of the encoder (`untrained/SPLIT/...`), for the weights that training started
    from, if it did from weights (`before/SPLIT/...`), and for the raw input (`pixels/SPLIT/...`). Where the largest
    class of a split is more than 5 points above 1 / classes: also its share, `SPLIT/majority_top1`, and of each
    protocol, and of a classifier's head, balanced accuracy, macro F1 and, of two classes, AUC (`SPLIT/probe_balanced`,
    `SPLIT/probe_f1`, `SPLIT/probe_auc`; `SPLIT/balanced` ... of the head).

    References are all labeled training examples, without augmentation. Cost, once: three passes over the data (four
    where training started from weights) and as many probes, about two minutes on one core for CIFAR-10 and a small
    ResNet.

    Args:
        k, temperature: of the kNN vote.
        few: labels a class of the few-label probe.
        draws: random choices of those labels, averaged; the same for every encoder.
    """

    def __init__(
        self,
        k: PositiveInt = 20,
        temperature: PositiveFloat = 0.1,
        few: PositiveInt = 5,
        draws: PositiveInt = 10,
    ):
        self.k, self.temperature, self.few, self.draws = k, temperature, few, draws
        self.fresh: nn.Module | None = None  # of launch, where the encoder is built with weights: one without
        self.starting: StartingEncoders | None = None
        self.floor_banks: dict[str, Bank] = {}  # of what training does not change
        # whose floors are measured: the same for all checkpoints of a folder
        self.floor_splits: set[str] = set()
        self.numbers: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.starting is None:  # before a checkpoint is loaded
            self.starting = StartingEncoders(module, self.fresh)

    @property
    def untrained(self) -> nn.Module | None:
        """A fresh initialization of the encoder; None where nobody gave one of an encoder that has weights."""
        return self.starting.untrained

    @property
    def before(self) -> nn.Module | None:
        """The weights that training started from; None where it started from `untrained`."""
        return self.starting.before

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.starting.read_ckpt()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.datamodule.task == "classification" and "val" in trainer.datamodule.datasets:
            self.measure_split(trainer, module, "val", extract_features(trainer, module.encoder, "val"))

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "validate" and trainer.datamodule.task == "classification":
            self.measure_collected(trainer, module, "val")

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.datamodule.task == "classification":
            self.measure_collected(trainer, module, "test")
            self.floor_banks.clear()

    def measure_collected(self, trainer: Trainer, module: LightningModule, name: str) -> None:
        try:
            split = Features.find_in(trainer).collect_split(trainer)
        except NotFiniteError as error:
            rank_zero_warn(f"the protocol's numbers on {name} are skipped: {error}")
            return
        self.measure_split(trainer, module, name, split)

    def measure_split(self, trainer: Trainer, module: LightningModule, name: str, split: FeatureSet) -> None:
        """Measure a split, whose features by the module's encoder are `split`, and its floors once; log and print."""
        data, features = trainer.datamodule, Features.find_in(trainer)
        try:
            bank = features.encode_bank(trainer, module)
            labeled = split.check_finite(name).select_labeled()
        except NotFiniteError as error:
            rank_zero_warn(f"the protocol's numbers on {name} are skipped: {error}")
            return
        if not (len(bank.labels) and len(labeled.labels)):
            unlabeled = f"{name} example" if len(bank.labels) else "training example"
            rank_zero_info(f"no {unlabeled} has a label: the protocol's numbers on {name} are skipped")
            return
        counts = count_classes(labeled.labels.tolist(), data.num_classes)
        scored = {"": (labeled, Bank(bank, features.fit_bank_probe(trainer, module)))}
        scored |= self.encode_floors(trainer, module, name)
        numbers = {f"{name}/majority_top1": majority_share(counts)} if is_uneven(counts) else {}
        for prefix, (examples, floor_bank) in scored.items():
            measures = self.compute_accuracies(*floor_bank, examples, data.num_classes, is_uneven(counts))
            numbers |= {f"{prefix}{name}/{measure}": number for measure, number in measures.items()}
        if is_uneven(counts):
            numbers |= score_head(module, labeled, data.num_classes, name)
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **numbers}, step=trainer.global_step)
        self.numbers |= numbers
        rank_zero_info("\n" + self.format_table(name, list(scored)))  # a progress bar may be in the line

    def encode_floors(
        self, trainer: Trainer, module: LightningModule, name: str
    ) -> dict[str, tuple[FeatureSet, Bank]]:
        """Encode a split by all that training does not change; nothing where it was encoded before."""
        if name in self.floor_splits:
            return {}
        self.floor_splits.add(name)
        self.starting.read_ckpt()
        data, floors = trainer.datamodule, {}
        encoders = {
            "before/": (self.before, None),
            "untrained/": (self.untrained, None),
            f"{data.raw_name}/": (module.encoder, data.compute_raw_features),
        }
        for prefix, (encoder, via) in encoders.items():
            if encoder is None:
                continue
            encoder.to(trainer.strategy.root_device)
            try:
                split = extract_features(trainer, encoder, name, via=via).check_finite(name)
                if prefix not in self.floor_banks:
                    bank = extract_features(trainer, encoder, "bank", via=via).select_labeled()
                    bank.check_finite("bank")
                    probe = fit_probe(bank.features, bank.labels, data.num_classes)
                    self.floor_banks[prefix] = Bank(bank, probe)
            except NotFiniteError as error:
                rank_zero_warn(f"the protocol's numbers {prefix}{name} are skipped: {error}")
                continue
            floors[prefix] = split.select_labeled(), self.floor_banks[prefix]
        return floors

    def compute_accuracies(
        self, bank: FeatureSet, probe: LinearProbe, split: FeatureSet, classes: int, uneven: bool = False
    ) -> dict[str, float]:
        """Measure -> accuracy, or other score, as a fraction, by a bank and a probe fitted on it."""
        reference = bank.features, bank.labels
        votes = score_by_neighbors(split.features, *reference, classes, self.k, self.temperature)
        few = score_with_few_labels(*reference, split.features, classes, self.few, self.draws)
        draws = {
            f"knn{self.k}": ([votes], 1),
            "probe": ([probe.score_classes(split.features)], 1),
            f"probe{self.few}": (few, self.draws),
        }
        return {
            f"{protocol}_{score}": number
            for protocol, (scores, count) in draws.items()
            for score, number in average_scores(scores, count, split.labels, uneven).items()
        }

    def format_table(self, split: str, prefixes: list[str]) -> str:
        """Format the numbers of a split as text, a row for each measure, a column for each encoder."""
        protocols = {
            f"knn{self.k}_": f"kNN, k {self.k}",
            "probe_": "linear probe, all labels",
            f"probe{self.few}_": f"linear probe, {self.few} labels a class",
            "": "classifier",
        }
        heads = "".join(f"{prefix.strip('/') or 'this run':>12}" for prefix in prefixes)
        lines = [f"{split + ', top-1 %':<32}{heads}"]
        for protocol, words in protocols.items():
            for score, what in {"top1": words, **{s: f"    {name}" for s, name in SCORES.items()}}.items():
                row = [self.numbers.get(f"{prefix}{split}/{protocol}{score}") for prefix in prefixes]
                if any(number is not None for number in row):
                    what = f"classifier: {what.strip()}" if not protocol else what
                    cells = "".join(f"{'-' if n is None else format(100 * n, '.1f'):>12}" for n in row)
                    lines.append(f"{what:<32}{cells}")
        if (majority := self.numbers.get(f"{split}/majority_top1")) is not None:
            lines.append(f"{'always naming the largest class':<32}{100 * majority:>12.1f}")
        return "\n".join(lines)


@torch.no_grad()
def score_head(module: LightningModule, split: FeatureSet, classes: int, name: str) -> dict[str, float]:
    """What the steps do not measure of a module's own classifier: the other scores than top-1 of labeled examples."""
    head = getattr(module, "head", None)
    if not isinstance(head, nn.Linear) or head.out_features != classes:
        return {}
    scores: Tensor = head(split.features.to(head.weight))
    numbers = average_scores([scores], 1, split.labels, uneven=True)
    return {f"{name}/{score}": number for score, number in numbers.items() if score != "top1"}
