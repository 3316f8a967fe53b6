"""What tests/test_distributed.py runs as two processes."""

from torch import nn

from ssl_modules.simclr import SimCLR


class SimCLRLayerNorm(SimCLR):
    """SimCLR without batch norm in the projector: batch norm across processes does not exist on CPUs."""

    def __init__(self, **shared):
        super().__init__(**shared)
        self.projector = nn.Sequential(
            *(nn.LayerNorm(p.num_features) if hasattr(p, "num_features") else p for p in self.projector)
        )
