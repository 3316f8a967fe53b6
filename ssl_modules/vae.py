"""VAE: encode an image as a distribution over latents, from any draw of which the image can be told.

Kingma & Welling 2013, https://arxiv.org/abs/1312.6114; the weight of the divergence, beta: Higgins et al. 2017,
https://openreview.net/forum?id=Sy2fzU9gl
"""

from typing import Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.batch import Batch
from common.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.gaussians import Gaussian, class_gaussians, reparameterize
from ssl_modules.losses.elbo import bernoulli_nll, free_bits, gaussian_nll, kl_to_standard_normal


class VAE(SSLModule):
    """loss = reconstruction + beta * KL(q(z|x) || N(0, 1)), in nats: sums over pixels and latents, means over images.

    Features are the mean of q(z|x); the loss is that of a draw from it, in training and in validation. Reconstructions
    are handed over from the draw in training, where they cost nothing, and from the mean in validation. The loss of
    validation has the full beta and no free bits, so that runs and epochs compare.

    Args:
        likelihood: of a pixel in [0, 1], given the sigmoid of the decoder's output: a coin with it as probability, or a
            normal distribution with it as mean.
        sigma: standard deviation of that normal distribution.
        beta: weight of the divergence; at 1 the loss bounds -log p(x) from above.
        beta_warmup_epochs: beta rises linearly from 0 over so many epochs (Sonderby et al. 2016, arXiv:1602.02282).
        free_bits: nats that each latent may tell for free, on the mean of the batch on all processes.
        conditional: give the decoder the class, one-hot, 0 where unlabeled. The encoder never sees it.
        num_classes: of the data; the command line fills it in.
    """

    monitor = ("val/loss", "min")
    value_range = (0, 1)
    class_gaussians = staticmethod(class_gaussians)  # for callbacks, which import nothing from here

    def __init__(
        self,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        sigma: PositiveFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
        beta_warmup_epochs: NonNegativeFloat = 0.0,
        free_bits: NonNegativeFloat = 0.0,
        conditional: bool = False,
        num_classes: PositiveInt | None = None,
        **shared,
    ):
        super().__init__(**shared)
        if not hasattr(self.encoder, "posterior"):
            raise MisconfigurationException(
                f"VAE: {type(self.encoder).__name__} has no posterior(): take VAEMLP or VAEConv of "
                "ssl_modules.networks.vae"
            )
        if conditional and not num_classes:
            raise MisconfigurationException(
                "VAE: conditional needs data whose module says how many classes there are: set conditional to false, "
                "or take other data"
            )
        self.likelihood, self.sigma = likelihood, sigma
        self.beta, self.beta_warmup_epochs, self.free_bits = beta, beta_warmup_epochs, free_bits
        self.conditions = num_classes if conditional else 0
        self.decoder = self.encoder.decoder(self.conditions)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, D), and labels (B,) if conditional -> (B, C, H, W) float32, of which the sigmoid makes pixels."""
        if self.conditions:
            labels = z.new_full((len(z),), -1) if labels is None else labels.to(z.device)
            classes = torch.arange(self.conditions, device=z.device)
            z = torch.cat([z, (labels[:, None] == classes).to(z.dtype)], dim=1)  # (B, D + K)
        return self.decoder(z).float()

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) as told from the mean of their posteriors, in [0, 1]; labels (B,) if conditional."""
        return self.decode(self.encode(images), labels).sigmoid()

    def negative_log_likelihood(self, outputs: Tensor, images: Tensor) -> Tensor:
        """What `decode` gave, and the images, (B, C, H, W) both -> (B,)"""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(outputs, images)
        return gaussian_nll(outputs.sigmoid(), images, self.sigma)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        return self.elbo_step(batch, self.warmed_up_beta(batch_idx), self.free_bits)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict:
        return self.elbo_step(batch, self.beta, 0.0)

    def elbo_step(self, batch: Batch, beta: float, floor: float) -> dict:
        images, labels = batch.views[0], batch.labels
        mean, log_variance = self.encode_in_parts(self.encoder, images, call=self.encoder.posterior)
        noise = batch.key.randn(self.encoder.dim).to(mean.device, non_blocking=True)  # (B, D)
        logits = self.decode(reparameterize(mean, log_variance, noise), labels)
        errors = self.negative_log_likelihood(logits, images)  # (B,)
        kl = kl_to_standard_normal(mean, log_variance)  # (B, D)
        loss = errors.mean() + beta * free_bits(self.gather(kl) if floor else kl, floor)
        pixels = logits.detach().sigmoid()
        metrics = {"reconstruction": errors.mean(), "kl": kl.sum(1).mean(), "mse": F.mse_loss(pixels, images)}
        reconstructions = pixels if self.training else self.decode(mean, labels).sigmoid()
        more = {"losses": errors + beta * kl.sum(1), "reconstructions": reconstructions, "targets": images}
        return self.outputs(loss, mean, metrics, **more)

    def warmed_up_beta(self, batch_idx: int) -> float:
        """The weight of the divergence in this training step."""
        if not self.beta_warmup_epochs:
            return self.beta
        epochs = self.current_epoch + batch_idx / self.trainer.num_training_batches
        return self.beta * min(1.0, epochs / self.beta_warmup_epochs)

    @torch.no_grad()
    def generate(
        self,
        count: int,
        generator: torch.Generator,
        gaussian: Gaussian | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Images of random latents, each pixel its mean: (count, C, H, W) in [0, 1]. To be called in eval mode.

        Args:
            generator: on the CPU.
            gaussian: where latents are drawn from, such as one of `class_gaussians`; N(0, 1) if None.
            labels: (count,), for a conditional one.
        """
        if gaussian is None:
            z = torch.randn(count, self.encoder.dim, generator=generator)
        else:
            z = gaussian.sample(count, generator)
        return self.decode(z.to(self.device), labels).sigmoid()
