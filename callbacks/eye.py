"""What all pictures share: when to look, at which split, and what to say where there is nothing to see."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class Eye(Callback):
    """Looks at validation examples every so many epochs and in the last one, and whenever `validate` or `test` is run.

    The test that ends a fit is for numbers alone. A subclass has `look`, which all processes call.

    Args:
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(self, every_n_epochs: int = 0):
        self.every_n_epochs = every_n_epochs
        self.fitted = False
        self.skipped: str | None = None

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        """Draw what there is to see in `split`, "val" or "test", whose features have just been collected."""
        raise NotImplementedError

    def skip(self, reason: str) -> None:
        """Say once, in one line, why there is no picture; the report says it too."""
        if not self.skipped:
            rank_zero_info(f"{type(self).__name__}: no picture, since {reason}")
        self.skipped = reason

    def due(self, trainer: Trainer) -> bool:
        done = trainer.current_epoch + 1
        last = trainer.should_stop or done == trainer.max_epochs
        steps_done = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
        return last or steps_done or bool(self.every_n_epochs and done % self.every_n_epochs == 0)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking and (trainer.state.fn == "validate" or self.due(trainer)):
            self.look(trainer, module, "val")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.fitted = True

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.fitted:
            self.look(trainer, module, "test")
