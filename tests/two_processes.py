"""What tests/test_distributed.py runs as two processes."""

from torch import nn

from ssl_modules.barlow_twins import BarlowTwins
from ssl_modules.simclr import SimCLR


def with_layer_norms(projector: nn.Sequential) -> nn.Sequential:
    """In place of batch norms: those across processes do not exist on CPUs."""
    return nn.Sequential(
        *(nn.LayerNorm(p.num_features) if hasattr(p, "num_features") else p for p in projector)
    )


class SimCLRLayerNorm(SimCLR):
    def __init__(self, **shared):
        super().__init__(**shared)
        self.projector = with_layer_norms(self.projector)


class BarlowTwinsLayerNorm(BarlowTwins):
    def __init__(self, **shared):
        super().__init__(hidden_dim=64, out_dim=32, **shared)
        self.projector = with_layer_norms(self.projector)
