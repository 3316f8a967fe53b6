"""What all pictures share: when to look, at which split, and what to say where there is nothing to see."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class Eye(Callback):
    """Looks at validation examples every so many epochs and in the last one, and whenever `validate` or `test` is run.

    The test that ends a fit is for numbers alone. Of the checkpoints of a folder it looks at those after so many epochs
    and at the last, or at all where a study follows what it measures. A subclass has `look`, which all processes call.

    Args:
        every_n_epochs: 0 for the last epoch only.
    """

    measures: tuple[str, ...] = ()  # names of what it logs, without the split

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
        due = self.studied if trainer.state.fn == "validate" else self.due
        if not trainer.sanity_checking and due(trainer):
            self.look(trainer, module, "val")

    def studied(self, trainer: Trainer) -> bool:
        """Whether to look at this checkpoint, which may be one of several."""
        several = getattr(trainer, "checkpoints", [])
        if not several or Path(trainer.ckpt_path) == several[-1]:
            return True
        followed = {
            name.split("/")[-1] for other in trainer.callbacks for name in getattr(other, "follows", ())
        }
        due = self.every_n_epochs and trainer.current_epoch % self.every_n_epochs == 0
        return bool(due or followed & {*self.measures})

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.fitted = True

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.fitted:
            self.look(trainer, module, "test")
