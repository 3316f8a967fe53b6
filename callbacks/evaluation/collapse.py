"""Are features still spread out, or have they collapsed to a point or a few directions?"""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.evaluation.features import Features


def feature_spread(features: Tensor) -> Tensor:
    """Mean standard deviation of the normalized features (N, D), times sqrt(D): 1 on a whole sphere, 0 at a point.

    Chen & He 2020, fig. 2, https://arxiv.org/abs/2011.10566
    """
    return F.normalize(features, dim=1).std(dim=0).mean() * features.shape[1] ** 0.5


def effective_rank(features: Tensor) -> Tensor:
    """exp(entropy of the normalized singular values) of features (N, D): how many directions carry them, 1 to D.

    NaN if a feature is not finite. RankMe, Garrido et al. 2022, eq. 1-2, https://arxiv.org/abs/2210.02885
    """
    gram = features.double().T @ features.double()
    if not gram.isfinite().all():
        return gram.new_tensor(float("nan"))
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return (-(p * p.log()).sum()).exp()


def alignment_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of the normalized projections (B, P) of two views of an image: 0 is perfect.

    Wang & Isola 2020, https://arxiv.org/abs/2005.10242
    """
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(1).mean()


def uniformity_loss(z: Tensor) -> Tensor:
    """log of the mean of exp(-2 squared distance) over pairs of normalized projections (B, P): 0 at a point.

    Wang & Isola 2020, https://arxiv.org/abs/2005.10242
    """
    return F.pdist(F.normalize(z, dim=1)).square().mul(-2).exp().mean().log()


class Collapse(Callback):
    """Logs `val/feature_std` and `val/effective_rank`; of projections `train/alignment` and `train/uniformity`.

    Cost: an eigenvalue problem of size D an epoch; alignment and uniformity at the Trainer's log steps.

    Args:
        min_spread: warn below it; a network without training has 0.2 to 0.5.
        min_rank: warn below it.
        stop: end the training then.
    """

    def __init__(self, min_spread: float = 0.02, min_rank: float = 1.2, stop: bool = False):
        self.min_spread, self.min_rank, self.stop = min_spread, min_rank, stop

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if "projections" in outputs and trainer.global_step % trainer.log_every_n_steps == 0:
            rows = outputs["projections"].transpose(0, 1)  # (B, V, P)
            z1, z2, *_ = module.all_gather(rows).flatten(0, -3).unbind(1)  # (N, P) each, of all processes
            module.log_dict(
                {"train/alignment": alignment_loss(z1, z2), "train/uniformity": uniformity_loss(z1)}
            )

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        features = Features.of(trainer).split(trainer).features
        std, rank = feature_spread(features), effective_rank(features)
        module.log_dict({"val/feature_std": std, "val/effective_rank": rank.float()})
        if rank.isnan():
            rank_zero_warn(
                "the features are not finite: the weights have diverged. Try a lower learning rate or float32"
            )
        if spread < self.min_spread or rank < self.min_rank:
            rank_zero_warn(
                f"the features have collapsed: all examples look alike to the encoder (spread {spread:.3f}, "
                f"effective rank {rank:.1f} of {features.shape[1]}). Try a lower learning rate, "
                "batch norm in the projector, or weaker weight decay."
            )
            trainer.should_stop |= self.stop
