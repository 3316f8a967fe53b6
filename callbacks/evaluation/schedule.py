"""When callbacks run within a fit."""

from lightning.pytorch import Trainer


def is_last_validation(trainer: Trainer) -> bool:
    """Whether this validation of a fit is the last one, as far as that is known."""
    done, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch or 1
    epochs_done = trainer.max_epochs is not None and 0 < trainer.max_epochs < done + every
    steps_done = 0 < trainer.max_steps <= trainer.global_step
    return trainer.should_stop or epochs_done or steps_done
