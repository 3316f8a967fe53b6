"""The test split beside each validation, for curves: never to choose by."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.evaluation.epoch_means import WeightedMeans
from callbacks.evaluation.features import eval_mode


class MonitorTestSplit(Callback):
    """Logs `test/loss`, and what else the method measures, at each validation. The report says how often test was read.

    Cost: a forward pass over the test split each time.
    """

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        means = WeightedMeans()
        with eval_mode(trainer, module):
            for batch_idx, batch in enumerate(trainer.datamodule.batches("test", module.device)):
                means.add_step(module.test_step(batch, batch_idx))
        means.log_means(trainer, module, "test")
