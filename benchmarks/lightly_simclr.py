"""The SimCLR example of lightly's documentation, for any encoder, on Lightning's Trainer.

https://docs.lightly.ai/self-supervised-learning/examples/simclr.html
"""

import numpy as np
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import Compose

from benchmarks.drawn_images import TransformedImages
from benchmarks.program import count_cores


class LightlySimCLR(LightningModule):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.projection_head = SimCLRProjectionHead(encoder.dim, 512, 128)
        self.criterion = NTXentLoss()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        z0, z1 = (self.projection_head(self.encoder(x)) for x in batch)
        return self.criterion(z0, z1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.06)


def train_lightly(
    encoder: nn.Module, images: np.ndarray, batch: int, precision: str, callback: Callback, epochs: int
) -> None:
    """Train on two views of each image, uint8 (N, 32, 32, 3)."""
    views = Compose([Image.fromarray, SimCLRTransform(input_size=32, gaussian_blur=0.0)])
    loader = DataLoader(
        TransformedImages(images, views),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=count_cores(),
        persistent_workers=True,
    )
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=precision,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LightlySimCLR(encoder), loader)
