"""What all figure callbacks share: when they draw, from which split, and how they say that there is nothing to draw."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.evaluation.class_scores import NO_HEAD, LabeledScores, find_linear_head
from callbacks.evaluation.features import Features, NotFiniteError
from callbacks.evaluation.schedule import is_last_validation
from common.ranges import NonNegativeInt


class FigureCallback(Callback):
    """Draws validation examples every so many epochs and in the last one, and whenever `validate` or `test` is run.

    The test that ends a fit is for numbers alone. Of the checkpoints of a folder it draws those after so many epochs
    and the last, or all where a study follows what it measures. A subclass has `draw`, which all processes call.

    Args:
        every_n_epochs: 0 for the last epoch only.
    """

    measures: tuple[str, ...] = ()  # names of what it logs, without the split

    def __init__(self, every_n_epochs: NonNegativeInt = 0):
        self.every_n_epochs = every_n_epochs
        self.has_fitted = self.has_drawn = False
        self.skip_reason: str | None = None

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        """Draw the figure of `split`, "val" or "test", whose features have just been collected."""
        raise NotImplementedError

    def skip_figure(self, reason: str) -> None:
        """Say once, in one line, why there is no picture; the report says it again."""
        if not self.skip_reason:
            rank_zero_info(f"{type(self).__name__}: no picture, since {reason}")
        self.skip_reason = reason

    def score_labeled(self, trainer: Trainer, module: LightningModule, split: str) -> LabeledScores | None:
        """Collect the labeled examples of the split that has just ended, and a head for them.

        None, after saying why, where there are no classes, no labels or no head. All processes must ask.
        """
        if trainer.datamodule.task != "classification":
            self.skip_figure("the data have no classes")
            return None
        examples = Features.find_in(trainer).collect_split(trainer).select_labeled()
        if not len(examples.labels):
            self.skip_figure(f"no example of {split} has a label")
            return None
        head_and_name = find_linear_head(trainer, module)
        if head_and_name is None:
            self.skip_figure(NO_HEAD)
            return None
        return LabeledScores(examples, *head_and_name)

    def is_due(self, trainer: Trainer) -> bool:
        """Whether to draw in this epoch of a fit."""
        done = trainer.current_epoch + 1
        return is_last_validation(trainer) or bool(self.every_n_epochs and done % self.every_n_epochs == 0)

    def due_for_checkpoint(self, trainer: Trainer) -> bool:
        """Whether to draw this checkpoint, which may be one of several."""
        several = getattr(trainer, "checkpoints", [])
        if not several or Path(trainer.ckpt_path) == several[-1]:
            return True
        followed = {
            name.split("/")[-1] for callback in trainer.callbacks for name in getattr(callback, "follows", ())
        }
        regular = self.every_n_epochs and trainer.current_epoch % self.every_n_epochs == 0
        return bool(regular or followed & {*self.measures})

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        due = self.due_for_checkpoint if trainer.state.fn == "validate" else self.is_due
        if not trainer.sanity_checking and due(trainer):
            self.has_drawn = True
            self.draw_or_skip(trainer, module, "val")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.has_fitted = True
        done, planned = trainer.current_epoch, trainer.max_epochs or 0
        # EarlyStopping decides after the figures of an epoch are drawn
        if not (self.has_drawn or self.skip_reason) and done < planned:
            self.skip_figure(
                f"training stopped after {done} of {planned} epochs, before the one to look at: "
                "`python cli.py validate` with the run's config.yaml and last.ckpt draws it"
            )

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.has_fitted:
            self.draw_or_skip(trainer, module, "test")

    def draw_or_skip(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        """Draw, or say that the features are not finite where the figure needs them."""
        try:
            self.draw(trainer, module, split)
        except NotFiniteError as error:
            self.skip_figure(str(error))
