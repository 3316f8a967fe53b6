"""Do neighbors in feature space share a class?"""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.evaluation.features import Features, FeatureSet, NotFiniteError
from callbacks.evaluation.schedule import is_last_validation
from callbacks.measures.knn import score_by_neighbors
from common.ranges import NonNegativeInt, PositiveFloat, PositiveInt


def knn_accuracy(queries: FeatureSet, bank: FeatureSet, classes: int, k: int, temperature: float) -> float:
    """Share of the queries, all labeled, whose class wins the vote of their neighbors in the bank."""
    scores = score_by_neighbors(queries.features, bank.features, bank.labels, classes, k, temperature)
    return float((scores.argmax(1) == queries.labels).float().mean())


class KNN(Callback):
    """Accuracy of a weighted vote of the nearest training examples (cosine): `val/knn{k}_top1`.

    Cost: a forward pass over the bank every `every_n_epochs`, in the first epoch and in the last that validates.

    Args:
        k: neighbors that vote; part of the metric's name.
        temperature: a neighbor's vote weighs exp(similarity / temperature).
        every_n_epochs: 0 for the first and the last epoch only.
    """

    def __init__(
        self, k: PositiveInt = 20, temperature: PositiveFloat = 0.1, every_n_epochs: NonNegativeInt = 5
    ):
        self.k, self.temperature, self.every_n_epochs = k, temperature, every_n_epochs

    def is_due(self, trainer: Trainer) -> bool:
        """Whether neighbors vote in this epoch of a fit."""
        done = trainer.current_epoch + 1
        regular = self.every_n_epochs and done % self.every_n_epochs == 0
        return done == 1 or is_last_validation(trainer) or bool(regular)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if fitting and trainer.datamodule.task == "classification" and self.is_due(trainer):
            features = Features.find_in(trainer)
            try:
                queries = features.collect_split(trainer).select_labeled()
                bank = features.encode_bank(trainer, module)
            except NotFiniteError as error:
                rank_zero_warn(f"KNN: no accuracy in this epoch, since {error}")
                return
            if not (len(bank.labels) and len(queries.labels)):
                return
            classes = trainer.datamodule.num_classes
            accuracy = knn_accuracy(queries, bank, classes, self.k, self.temperature)
            module.log(f"val/knn{self.k}_top1", accuracy, prog_bar=True)
