"""Callbacks that follow a metric by its name see what this epoch has measured, and nothing older."""

from collections.abc import Callable
from functools import wraps

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.hints import nearest_hint
from common.metrics import read_name

WITHOUT_SPLIT = ("learning_rate", "group_learning_rate", "weight_decay")
HOUSE = ("callbacks", "launch", "lightning", "ssl_modules")


class Monitors(Callback):
    """Forgets a metric when the next epoch or validation begins, and lets what follows one wait for its next value.

    Lightning keeps the last value of each metric: kNN of each fifth epoch would count as no improvement in four others.
    A metric that the first epoch with a validation did not log is an error. Launch puts it in.
    """

    def __init__(self):
        self.logged: set[str] = set()
        self.has_validated = False

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.has_validated = "val" not in trainer.datamodule.datasets or not trainer.limit_val_batches
        for callback in list_followers(trainer):
            check_name(callback.monitor, trainer, module)
            for hook in ("on_validation_end", "on_train_epoch_end"):
                setattr(callback, hook, self.skip_unmeasured(callback, getattr(callback, hook)))

    def skip_unmeasured(self, follower: Callback, hook: Callable) -> Callable:
        """The hook of a callback, for the epochs in which its metric was measured."""

        @wraps(hook)
        def call_hook(trainer: Trainer, module: LightningModule) -> None:
            metrics = trainer.callback_metrics
            self.logged.update(metrics)
            if follower.monitor in metrics:
                hook(trainer, module)
            elif hook.__name__ == "on_train_epoch_end" and self.has_validated:
                self.check_logged(follower)

        return call_hook

    def check_logged(self, follower: Callback) -> None:
        """Raise where a whole epoch has not logged what a callback follows, unless it may wait (`strict: false`)."""
        if follower.monitor in self.logged or not getattr(follower, "strict", True):
            return
        hint = nearest_hint(follower.monitor, self.logged, "metric")
        raise MisconfigurationException(
            f"{type(follower).__name__} follows {follower.monitor}, which a whole epoch did not log{hint}; "
            f"logged were {', '.join(sorted(self.logged))}"
        )

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        trainer.callback_metrics.clear()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.has_validated = True
            trainer.callback_metrics.clear()


def list_followers(trainer: Trainer) -> list[Callback]:
    """Those of Lightning's callbacks that read a metric at the end of an epoch; epoch and step are always known."""
    kinds = EarlyStopping, ModelCheckpoint
    return [
        callback
        for callback in trainer.callbacks
        if isinstance(callback, kinds) and callback.monitor not in (None, "epoch", "step")
    ]


def check_name(monitor: str, trainer: Trainer, module: LightningModule) -> None:
    """Raise where nothing can log a metric of this name, since names are SPLIT/NAME; others' callbacks may."""
    if "/" in monitor or read_name(monitor).kind in WITHOUT_SPLIT:
        return
    if any(of_others(part) for part in (module, *trainer.callbacks)):
        return
    split, _, measure = monitor.partition("_")
    meant = f"{split}/{measure}" if split in ("train", "val") and measure else "val/loss"
    raise MisconfigurationException(
        f"monitor {monitor}: no metric is called so; they are called SPLIT/NAME, as {meant}"
    )


def of_others(part: object) -> bool:
    """Whether a class is neither the project's nor Lightning's."""
    return type(part).__module__.split(".")[0] not in HOUSE
