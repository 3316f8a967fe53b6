"""How many directions features use, and how far they are spread out: both fall where features collapse."""

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_spread(features: Tensor) -> Tensor:
    """Mean standard deviation of the normalized features (N, D), times sqrt(D): 1 on a whole sphere, 0 at a point.

    Chen & He 2020, fig. 2, https://arxiv.org/abs/2011.10566
    """
    correction = min(1, len(features) - 1)  # a single example is a point
    deviation = F.normalize(features.float(), dim=1).std(dim=0, correction=correction)
    return deviation.mean() * features.shape[1] ** 0.5


def effective_rank(features: Tensor) -> Tensor:
    """exp(entropy of the normalized singular values) of features (N, D): how many directions carry them, 1 to D.

    NaN if a feature is not finite. RankMe, Garrido et al. 2022, eq. 1-2, https://arxiv.org/abs/2210.02885
    """
    gram = features.double().T @ features.double()
    if not gram.isfinite().all():
        return gram.new_tensor(float("nan"))
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular / singular.sum().clamp(min=torch.finfo(singular.dtype).tiny) + 1e-7
    return (-(p * p.log()).sum()).exp()
