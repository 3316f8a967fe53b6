"""Contrastive multiview coding: lightness and color of an image attract, those of different images repel.

Tian et al. 2019, https://arxiv.org/abs/1906.05849
"""

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import Batch
from common.ranges import PositiveFloat, PositiveInt, ShareBelowOne
from ssl_modules.base import SSLModule
from ssl_modules.losses.multiview import bank_contrast, cross_modal, update_bank
from ssl_modules.networks.mlp import mlp


class CMC(SSLModule):
    """Contrasts the L of Lab color with its ab, both ways. Features are both networks', concatenated.

    Projections are linear, as in the paper; those that go to a memory bank are also batch-normalized, which is ours.

    Args:
        out_dim: width of the projections, where the loss lives.
        temperature: of the softmax over candidates; lower attends to harder negatives.
        negatives: how many, drawn from a memory bank of all training images (4096 in the paper), the same on all
            processes; a bank takes 8 * out_dim bytes an image. By default the rest of the batch, on all processes.
        momentum: share of its past that a bank entry keeps when its image is seen.
    """

    value_range = (0.0, 1.0)

    def __init__(
        self,
        out_dim: PositiveInt = 128,
        temperature: PositiveFloat = 0.07,
        negatives: PositiveInt | None = None,
        momentum: ShareBelowOne = 0.5,
        **shared,
    ):
        super().__init__(**shared)
        if not hasattr(self.encoder, "encode_pair"):
            raise MisconfigurationException(
                f"CMC needs an encoder of two networks and has a {type(self.encoder).__name__}: set "
                "model.init_args.encoder to ssl_modules.networks.lab_pair.LabPair"
            )
        networks = self.encoder.luminance, self.encoder.chromaticity
        self.projectors = nn.ModuleList(mlp(network.dim, out_dim) for network in networks)
        self.temperature, self.negatives, self.momentum = temperature, negatives, momentum
        if negatives:
            for projector in self.projectors:
                # the bank is an epoch late: pushed away from its mean, all projections would end up on one side
                projector.append(nn.BatchNorm1d(out_dim, affine=False))
            self.register_buffer("bank", torch.empty(2, 0, out_dim))
            # alike on all processes as it is: DDP need not send it around at every step
            self._ddp_params_and_buffers_to_ignore = ["bank"]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.negatives and self._trainer:
            self.resize_bank(len(self.trainer.datamodule.train_dataloader().dataset))

    def resize_bank(self, images: int) -> None:
        """A bank with random directions for so many images, always the same, unless it is there."""
        if self.bank.shape[1] != images:
            generator = torch.Generator().manual_seed(0)
            rows = torch.randn(2, images, self.bank.shape[2], generator=generator)
            self.bank = F.normalize(rows, dim=2).to(self.bank.device)

    def load_state_dict(self, state_dict: dict, *args, **kwargs):
        """As ever; the bank takes the size it has there."""
        if self.negatives and "bank" in state_dict:
            self.bank = self.bank.new_empty(state_dict["bank"].shape)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = self.encode_in_parts(
            self.encoder, batch.views[0], call=self.encoder.encode_pair
        )  # (B, D / 2) each
        z1, z2 = (projector(f) for projector, f in zip(self.projectors, features, strict=True))
        loss = self.contrast_with_bank(z1, z2, batch) if self.negatives else self.contrast(z1, z2)
        return self.outputs(loss, torch.cat(features, dim=1), projections=torch.stack([z1, z2]))

    def contrast(self, z1: Tensor, z2: Tensor) -> Tensor:
        candidates = self.gather(z1), self.gather(z2)
        return cross_modal(z1, z2, self.temperature, candidates, first=self.global_rank * len(z1))

    def contrast_with_bank(self, z1: Tensor, z2: Tensor, batch: Batch) -> Tensor:
        if not self.bank.numel():  # a step by hand
            self.resize_bank(int(batch.index.max()) + 1)
        negatives = torch.randint(self.bank.shape[1], (self.negatives,), generator=batch.key.generator())
        negatives = negatives.to(z1.device, non_blocking=True)
        self.latest = z1.detach(), z2.detach(), batch.index
        return bank_contrast(z1, z2, self.bank, batch.index, negatives, self.temperature)

    @torch.no_grad()
    def on_after_backward(self) -> None:
        """The bank remembers the batch, on all processes, once it has been learned from."""
        if self.negatives:
            update_bank(self.bank, *(self.gather(x) for x in self.latest), self.momentum)

    def describe(self, images: int, note: str) -> str:
        if self.negatives:
            return f"{self.negatives} negatives an anchor, from the memory bank"
        return f"{images - 1} negatives an anchor, from the batch{note}"
