"""MAE: from a quarter of an image's patches, predict the pixels of the others.

He et al. 2021, https://arxiv.org/abs/2111.06377
"""

from torch import Tensor

from common.batch import Batch, BatchKey
from common.ranges import OpenUnitInterval, PositiveInt
from ssl_modules.base import SSLModule
from ssl_modules.losses.mae import hidden_patch_losses, restore_patches, standardize_patches
from ssl_modules.networks.patch_decoder import PatchDecoder
from ssl_modules.networks.patches import check_patch_encoder, cut_patches, draw_kept_patches, fill_hidden


class MAE(SSLModule):
    """A masked autoencoder: the encoder reads the patches that are left, a light decoder all places. Training steps
    give no features, since the encoder has not seen the whole image.

    Args:
        hidden: share of the patches that the encoder does not see.
        standardize: predict each patch less its mean and by its standard deviation, which makes better features.
        decoder_width, decoder_depth: of the decoder; see PatchDecoder.
    """

    def __init__(
        self,
        hidden: OpenUnitInterval = 0.75,
        standardize: bool = True,
        decoder_width: PositiveInt = 96,
        decoder_depth: PositiveInt = 2,
        **shared,
    ):
        super().__init__(**shared)
        check_patch_encoder(self.encoder, "MAE")
        self.patch_size, self.hidden, self.standardize = self.encoder.patch_size, hidden, standardize
        pixels = self.encoder.in_channels * self.patch_size**2
        self.decoder = PatchDecoder(self.encoder.dim, pixels, decoder_width, decoder_depth)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        losses = self.compute_losses(batch.views[0], batch.key)
        return self.outputs(losses.mean(), count=len(losses), losses=losses)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict:
        losses = self.compute_losses(batch.views[0], batch.key)
        return self.outputs(losses.mean(), self.encode(batch.views[0]), losses=losses)

    def compute_losses(self, view: Tensor, key: BatchKey) -> Tensor:
        """The error of each image (B,), over the patches that the key hides."""
        targets = cut_patches(view, self.patch_size)  # (B, N, P)
        targets = standardize_patches(targets) if self.standardize else targets
        keep = draw_kept_patches(key, targets.shape[1], self.hidden).to(view.device, non_blocking=True)
        return hidden_patch_losses(self.predict_patches(view, keep), targets, keep)

    def predict_patches(self, view: Tensor, keep: Tensor) -> Tensor:
        """Pixels (B, N, P) of all patches, from those at the places `keep` (B, M)."""
        tokens = self.encode_in_parts(self.encoder, view, keep, call=self.encoder.encode_tokens)[1]
        return self.decoder(tokens, keep, self.encoder.grid(view))

    def keep_always(self, view: Tensor) -> Tensor:
        """The places (B, M) of the patches that pictures leave, the same of all images."""
        rows, columns = self.encoder.grid(view)
        keep = draw_kept_patches(BatchKey.single(0, 1), rows * columns, self.hidden)
        return keep.to(view.device).expand(len(view), -1)

    def hide(self, view: Tensor) -> Tensor:
        """Views (B, C, H, W) with 0 in their hidden patches."""
        return fill_hidden(view, self.patch_size, self.keep_always(view))

    def reconstruct(self, view: Tensor, labels: Tensor) -> Tensor:
        """Views (B, C, H, W) with their hidden patches as predicted; of standardized ones, mean and scale are given."""
        keep = self.keep_always(view)
        patches = self.predict_patches(view, keep).float()
        if self.standardize:
            patches = restore_patches(patches, cut_patches(view, self.patch_size))
        return fill_hidden(view, self.patch_size, keep, patches)
