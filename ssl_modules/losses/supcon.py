"""SupCon's loss: the views of all images of a class attract."""

import torch
from torch import Tensor

from ssl_modules.losses.directions import normalize_vectors


def supervised_contrast(
    z: Tensor,
    labels: Tensor,
    temperature: float,
    candidates: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """-log softmax among all other views of the batch, on average over the positives of each view.

    Positives are the other views of the same image and all views of images with the same label.

    Args:
        z: projections (V, B, P).
        labels: (B,); an image of label -1 has no positives but its own views.
        temperature: divides the cosine similarities.
        candidates: projections (V, N, P) and labels (N,) of the whole batch, where `z` is only the images
            `first ... first + B` of it (several processes); by default the batch is `z` itself.
        first: image of the whole batch that image 0 of `z` is.

    Returns:
        Scalar float32, the mean over the V B local views. log(V N - 1) when all views are equal.

    Khosla et al. 2020, eq. 2, https://arxiv.org/abs/2004.11362
    """
    all_z, all_labels = (z, labels) if candidates is None else candidates
    views, images = len(z), all_z.shape[1]
    anchors = normalize_vectors(z, dim=2).flatten(0, 1)  # (V B, P)
    others = normalize_vectors(all_z, dim=2).flatten(0, 1)  # (V N, P)
    with torch.autocast(z.device.type, enabled=False):
        similarity = anchors @ others.T / temperature
    image = torch.arange(images, device=z.device)
    group = torch.where(all_labels < 0, -1 - image, all_labels)  # of unknown label: each its own
    mine = slice(first, first + z.shape[1])
    positive = (group[mine, None] == group).repeat(views, views)
    view = torch.arange(views, device=z.device)[:, None] * images
    itself = (view + image[mine]).flatten()[:, None]  # column of each anchor
    similarity = similarity.scatter(1, itself, float("-inf"))
    positive = positive.scatter(1, itself, False)
    log_p = similarity.log_softmax(1).masked_fill(~positive, 0)
    return -(log_p.sum(1) / positive.sum(1)).mean()
