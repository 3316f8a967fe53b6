"""The numbers for tables: one fixed protocol for the final encoder, the untrained one and the raw input."""

import copy

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.evaluation.features import Features, FeatureSet, extract_features
from callbacks.evaluation.knn import knn_accuracy
from callbacks.measures.linear_probe import LinearProbe, few_label_accuracy, fit_probe


class Protocol(Callback):
    """Measures kNN and a converged linear probe on frozen features, with all labels and with few, on validation when
    training ends and on test when the trainer tests: `SPLIT/knn{k}_top1`, `SPLIT/probe_top1`, `SPLIT/probe{n}_top1`.

    The same for the encoder before training (`untrained/SPLIT/...`) and for the raw input (`pixels/SPLIT/...`).
    References are all labeled training examples, without augmentation. Cost, once: three passes over the data and as
    many probes, about two minutes on one core for CIFAR-10 and a small ResNet.

    Args:
        k, temperature: of the kNN vote.
        few: labels a class of the few-label probe.
        draws: random choices of those labels, averaged; the same for every encoder.
    """

    def __init__(self, k: int = 20, temperature: float = 0.1, few: int = 5, draws: int = 10):
        self.k, self.temperature, self.few, self.draws = k, temperature, few, draws
        self.untrained: torch.nn.Module | None = None
        self.floors: dict[str, tuple[FeatureSet, LinearProbe]] = {}  # banks that training does not change
        self.numbers: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.untrained is None:  # before a checkpoint is loaded: these weights come from the seed
            self.untrained = copy.deepcopy(module.encoder)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.datamodule.task == "classification" and "val" in trainer.datamodule.datasets:
            self.measure_split(trainer, module, "val", extract_features(trainer, module.encoder, "val"))

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "validate" and trainer.datamodule.task == "classification":
            split = Features.find_in(trainer).collect_split(trainer)
            self.measure_split(trainer, module, "val", split)

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.datamodule.task == "classification":
            split = Features.find_in(trainer).collect_split(trainer)
            self.measure_split(trainer, module, "test", split)
            self.floors.clear()

    def measure_split(self, trainer: Trainer, module: LightningModule, name: str, split: FeatureSet) -> None:
        untrained = self.untrained.to(trainer.strategy.root_device)
        data, features = trainer.datamodule, Features.find_in(trainer)
        bank = features.encode_bank(trainer, module)
        if not (len(bank.labels) and len(split.select_labeled().labels)):
            unlabeled = f"{name} example" if len(bank.labels) else "training example"
            rank_zero_info(f"no {unlabeled} has a label: the protocol's numbers on {name} are skipped")
            return
        splits = {"": split}
        if f"untrained/{name}/probe_top1" not in self.numbers:  # the same for all checkpoints of a folder
            for prefix, via in {"untrained/": None, f"{data.raw_name}/": data.compute_raw_features}.items():
                splits[prefix] = extract_features(trainer, untrained, name, via=via)
                if prefix not in self.floors:
                    floor = extract_features(trainer, untrained, "bank", via=via).select_labeled()
                    self.floors[prefix] = floor, fit_probe(floor.features, floor.labels, data.num_classes)
        numbers, banks = {}, self.floors | {"": (bank, features.fit_bank_probe(trainer, module))}
        for prefix in splits:
            scores = self.compute_accuracies(
                *banks[prefix], splits[prefix].select_labeled(), data.num_classes
            )
            numbers |= {f"{prefix}{name}/{measure}": score for measure, score in scores.items()}
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **numbers}, step=trainer.global_step)
        self.numbers |= numbers
        rank_zero_info("\n" + self.format_table(name, list(splits)))  # a progress bar may be in the line

    def compute_accuracies(
        self, bank: FeatureSet, probe: LinearProbe, split: FeatureSet, classes: int
    ) -> dict[str, float]:
        """Measure -> accuracy, as a fraction, by a bank and a probe fitted on it."""
        data = bank.features, bank.labels, split.features, split.labels, classes
        hits = probe.score_classes(split.features).argmax(1) == split.labels
        return {
            f"knn{self.k}_top1": knn_accuracy(split, bank, classes, self.k, self.temperature),
            "probe_top1": float(hits.float().mean()),
            f"probe{self.few}_top1": few_label_accuracy(*data, per_class=self.few, draws=self.draws),
        }

    def format_table(self, split: str, prefixes: list[str]) -> str:
        """Format the numbers of a split as text, a row for each measure, a column for each encoder."""
        measures = {
            f"knn{self.k}_top1": f"kNN, k {self.k}",
            "probe_top1": "linear probe, all labels",
            f"probe{self.few}_top1": f"linear probe, {self.few} labels a class",
        }
        heads = "".join(f"{prefix.strip('/') or 'this run':>12}" for prefix in prefixes)
        lines = [f"{split + ', top-1 %':<32}{heads}"]
        for measure, words in measures.items():
            numbers = [100 * self.numbers[f"{prefix}{split}/{measure}"] for prefix in prefixes]
            lines.append(f"{words:<32}" + "".join(f"{number:>12.1f}" for number in numbers))
        return "\n".join(lines)
