"""What all pictures share: when to look, at which split, and what to say where there is nothing to see."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


def is_last(trainer: Trainer) -> bool:
    """Whether this validation of a fit is the last one, as far as that is known."""
    done, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch or 1
    epochs_done = trainer.max_epochs is not None and 0 < trainer.max_epochs < done + every
    steps_done = 0 < trainer.max_steps <= trainer.global_step
    return trainer.should_stop or epochs_done or steps_done


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
        self.fitted = self.looked = False
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
        return is_last(trainer) or bool(self.every_n_epochs and done % self.every_n_epochs == 0)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        due = self.studied if trainer.state.fn == "validate" else self.due
        if not trainer.sanity_checking and due(trainer):
            self.looked = True
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
        done, planned = trainer.current_epoch, trainer.max_epochs or 0
        if not (self.looked or self.skipped) and done < planned:  # EarlyStopping decides after the eyes
            self.skip(
                f"training stopped after {done} of {planned} epochs, before the one to look at: "
                "`python cli.py validate` with the run's config.yaml and last.ckpt draws it"
            )

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.fitted:
            self.look(trainer, module, "test")
