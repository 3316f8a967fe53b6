"""The test split after each epoch, for curves: never to choose by."""

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.features import looking


class WatchTest(Callback):
    """`test/loss`, and what else the method measures, after each epoch. The report says how often test was read.

    Cost: a forward pass over the test split an epoch.
    """

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        data = trainer.datamodule
        trainer.testing = True  # so that the steps' measures are those of test
        with looking(trainer, module):
            for batch_idx, batch in enumerate(data.test_dataloader()):
                module.test_step(data.prepare(batch, module.device, augment=False), batch_idx)
        trainer.training = True
        module.log_means("test")
