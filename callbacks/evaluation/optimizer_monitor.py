"""What the optimizer is given: how large is the gradient, and does weight decay move?"""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class OptimizerMonitor(Callback):
    """Logs `train/gradient_norm` at the Trainer's log steps, and `weight_decay` where it moves.

    The norm is that of all gradients together, before they are clipped, of the batch of all processes. Cost: one pass
    over the gradients at a log step.
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        # asked before the step, whose end counts one more
        if (trainer.global_step + 1) % trainer.log_every_n_steps:
            return
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        module.log("train/gradient_norm", get_total_norm(gradients))
        if getattr(module, "weight_decay_end", None) is not None:
            module.log("weight_decay", optimizer.param_groups[0]["weight_decay"])
