"""Lightning's callbacks that average weights, so that what is measured and drawn is what is kept."""

from typing import Any

import torch
from jsonargparse.typing import register_type
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

# of StochasticWeightAveraging, which has one by default: config.yaml says it as text
register_type(torch.device)


class Averaging(Callback):
    """Lets other callbacks see the average of the weights, in validation and when training ends.

    WeightAveraging puts the average in when validation starts and takes it out when it ends: as the last callback,
    after all that measure. When training ends it puts it in for good: this callback, the first, has it do so before
    all that measure. Its average is a copy of the module, which must have all its layers by then. Launch puts it in.

    Args:
        averaging: the callback that averages; None where there is none.
    """

    def __init__(self, averaging: WeightAveraging | None):
        self.averaging = averaging
        self.trained: dict[str, Tensor] | None = (
            None  # the weights beside the average, when training has ended
        )

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.averaging:
            module.setup(stage)  # layers that wait for the data, such as a classifier's head

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit" and "averaging_state" in checkpoint and not self.averaging:
            raise MisconfigurationException(
                f"{trainer.ckpt_path} is of a training that averages its weights, and would go on from the average: "
                "give its callback (EMAWeightAveraging or WeightAveraging) by --trainer.callbacks+, or start anew from "
                "its encoder by --model.init_args.ckpt in place of --ckpt_path"
            )

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # a longer training goes on from these, which the averaging callback stores
        if self.trained is not None:
            checkpoint["state_dict"] = self.trained

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.averaging:
            self.trained = {name: weight.clone() for name, weight in module.state_dict().items()}
            self.averaging.on_train_end(trainer, module)  # again at its own turn, which changes nothing


def order_averaging(callbacks: list[Callback]) -> list[Callback]:
    """Callbacks in an order in which those that measure see averages: Averaging first, WeightAveraging last.

    StochasticWeightAveraging changes the weights at the end of training alone, and goes before those that measure then.
    """
    last = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
    first = [callback for callback in callbacks if isinstance(callback, StochasticWeightAveraging)]
    others = [callback for callback in callbacks if callback not in (*first, *last)]
    return [Averaging(last[0] if last else None), *first, *others, *last]
