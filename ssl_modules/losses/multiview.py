"""Losses between two modalities of the same images: each must tell which of many others belongs to it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_modules.losses.directions import normalize_vectors


def cross_modal(
    z1: Tensor,
    z2: Tensor,
    temperature: float,
    candidates: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Each projection must pick the same image's among the batch's of the other modality: -log softmax of that one.

    Args:
        z1, z2: projections (B, P) of two modalities of the same B images; row i of both is image i.
        temperature: divides the cosine similarities.
        candidates: the same pair for the whole batch, (N, P) each, where `z1, z2` are only the rows
            `first ... first + B` of it (several processes); by default the batch is `z1, z2` itself.
        first: row of `candidates` that row 0 of `z1` is.

    Returns:
        Scalar float32, the mean over images and both ways: half of the paper's sum. log N when all are equal.

    Tian et al. 2019, section 3.2, with the rest of the batch as negatives, https://arxiv.org/abs/1906.05849
    """
    z1, z2 = (normalize_vectors(z, dim=1) for z in (z1, z2))
    all1, all2 = (z1, z2) if candidates is None else (normalize_vectors(z, dim=1) for z in candidates)
    with torch.autocast(z1.device.type, enabled=False):
        ways = torch.cat([z1 @ all2.T, z2 @ all1.T]) / temperature  # (2B, N)
    row = torch.arange(first, first + len(z1), device=z1.device)
    return F.cross_entropy(ways, row.repeat(2))


def bank_contrast(
    z1: Tensor, z2: Tensor, bank: Tensor, index: Tensor, negatives: Tensor, temperature: float
) -> Tensor:
    """Each projection must pick its image's entry in the other modality's bank, among entries of other images.

    As the paper's code has it, the positive and the negatives are what the bank remembers, without gradients, and the
    negatives are drawn with replacement from all images. Other than there, it is the softmax itself and not its
    approximation by noise-contrastive estimation, all images of the batch share one set of negatives, and an image
    is never its own negative.

    Args:
        z1, z2: projections (B, P) of two modalities of the same B images.
        bank: (2, N, P), an entry of length 1 for each image in z1's modality and in z2's.
        index: (B,), which rows of the bank the images are.
        negatives: (M,), rows of the bank.
        temperature: divides the cosine similarities.

    Returns:
        Scalar float32, the mean over images and both ways. log(M + 1) when all are equal and no negative is of the
        batch.

    Tian et al. 2019, sections 3.2 and 3.4, https://arxiv.org/abs/1906.05849; the bank: Wu et al. 2018,
    https://arxiv.org/abs/1805.01978
    """
    z = normalize_vectors(torch.stack([z1, z2]), dim=2)  # (2, B, P)
    others, positives = bank[:, negatives].flip(0), bank[:, index].flip(0)  # of the other modality
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ others.mT  # (2, B, M)
    similarity = similarity.masked_fill(negatives == index[:, None], float("-inf"))
    logits = torch.cat([(z * positives).sum(2, keepdim=True), similarity], dim=2) / temperature
    return -logits.log_softmax(2)[..., 0].mean()


@torch.no_grad()
def update_bank(bank: Tensor, z1: Tensor, z2: Tensor, index: Tensor, momentum: float) -> None:
    """Move the bank's rows `index` towards the projections, in place; they keep length 1.

    row <- normalized(momentum * row + (1 - momentum) * normalized(z)). Shapes as in `bank_contrast`.
    """
    z = normalize_vectors(torch.stack([z1, z2]), dim=2)
    bank[:, index] = F.normalize(momentum * bank[:, index] + (1 - momentum) * z, dim=2)
