"""The test split beside each validation, for curves: never to choose by."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.evaluation.features import looking


class MonitorTestSplit(Callback):
    """`test/loss`, and what else the method measures, at each validation. The report says how often test was read.

    Cost: a forward pass over the test split each time.
    """

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        data, stage = trainer.datamodule, trainer.state.stage
        trainer.testing = True  # so that the steps' measures are those of test
        with looking(trainer, module):
            for batch_idx, batch in enumerate(data.test_dataloader()):
                module.test_step(data.prepare(batch, module.device, augment=False), batch_idx)
        trainer.state.stage = stage
        module.log_means("test")
