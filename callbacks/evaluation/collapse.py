"""Are features still spread out, or have they collapsed to a point or a few directions?"""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.evaluation.features import Features, NotFiniteError
from callbacks.measures.alignment import sphere_uniformity, view_alignment
from callbacks.measures.rank import effective_rank, feature_spread
from common.rank import least_rank

MIN_SPREAD, MIN_RANK = 0.02, 1.2  # a warning below; a network without training has a spread of 0.2 to 0.5


class Collapse(Callback):
    """`val/feature_std`, `val/effective_rank`; of projections `train/alignment` and `train/uniformity`.

    Cost: an eigenvalue problem of size D an epoch; alignment and uniformity at the Trainer's log steps.

    Args:
        stop: end the training where features have collapsed.
    """

    def __init__(self, stop: bool = False):
        self.stop = stop

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if "projections" in outputs and trainer.global_step % trainer.log_every_n_steps == 0:
            rows = outputs["projections"].transpose(0, 1)  # (B, V, P)
            z1, z2, *_ = module.all_gather(rows).flatten(0, -3).unbind(1)  # (N, P) each, of all processes
            module.log("train/alignment", view_alignment(z1, z2))
            if len(z1) > 1:  # uniformity is that of pairs of images
                module.log("train/uniformity", sphere_uniformity(z1))

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        try:
            features = Features.find_in(trainer).collect_split(trainer).features
        except NotFiniteError as error:
            rank_zero_warn(f"{error}: the weights have diverged. Try a lower learning rate or float32")
            return
        if len(features) < 2:  # one example has no spread, and fills one direction
            rank_zero_info("Collapse: a single validation example has no spread, so none is measured")
            return
        spread, rank = feature_spread(features), effective_rank(features)
        module.log_dict({"val/feature_std": spread, "val/effective_rank": rank.float()})
        if rank.isnan():
            rank_zero_warn("the features are so large that their rank cannot be computed")
        if spread < MIN_SPREAD or rank < least_rank(MIN_RANK, *features.shape):
            rank_zero_warn(
                f"the features have collapsed: all examples look alike to the encoder (spread {spread:.3f}, "
                f"effective rank {rank:.1f} of {features.shape[1]}). Try a lower learning rate, "
                "batch norm in the projector, or weaker weight decay."
            )
            trainer.should_stop |= self.stop
