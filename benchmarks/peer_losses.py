"""Losses beside lightly's on the same projections: value and gradient, and how long the gradient is against lightly's.

    python benchmarks/peer_losses.py

Where a line is not `the same`, docs/losses.md says why. Projections are drawn from a normal distribution, the second
view's with half of the first's.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import build_parser, print_facts, require_lightly, save_json
from ssl_modules.losses.barlow import barlow_twins
from ssl_modules.losses.byol import prediction_losses
from ssl_modules.losses.contrastive import info_nce, nt_xent
from ssl_modules.losses.dino import self_distillation
from ssl_modules.losses.sinkhorn import sinkhorn
from ssl_modules.losses.vicreg import covariance_penalty, invariance, variance_shortage

Loss = Callable[[Tensor, Tensor], Tensor]


def vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    variance = variance_shortage(z1) + variance_shortage(z2)
    return 25 * invariance(z1, z2) + 25 * variance + covariance_penalty(z1) + covariance_penalty(z2)


def swav(z1: Tensor, z2: Tensor) -> Tensor:
    logits = torch.stack([z1, z2])
    targets = torch.stack([sinkhorn(rows, 0.05) for rows in logits])
    return self_distillation(logits, targets, 0.1).mean()


def make_losses(images: int) -> dict[str, tuple[Loss, Loss]]:
    """Name -> our loss and lightly's, of two views (B, P)."""
    from lightly import loss

    negative_cosine, itself = loss.NegativeCosineSimilarity(), torch.arange(images)
    return {
        "SimCLR": (lambda a, b: nt_xent(a, b, 0.2), loss.NTXentLoss(0.2)),
        "DCL": (lambda a, b: nt_xent(a, b, 0.2, decoupled=True), loss.DCLLoss(0.2)),
        "DCLW": (lambda a, b: nt_xent(a, b, 0.2, decoupled=True, sigma=0.5), loss.DCLWLoss(0.2)),
        "Barlow Twins": (lambda a, b: barlow_twins(a, b, 0.005), loss.BarlowTwinsLoss(0.005)),
        "VICReg": (vicreg, loss.VICRegLoss()),
        "BYOL, one way": (lambda a, b: prediction_losses(a, b).mean(), negative_cosine),
        "SimSiam, one way": (lambda a, b: prediction_losses(a, b).mean() / 2 - 1, negative_cosine),
        "NNCLR, one way": (lambda a, b: info_nce(a.detach(), b, itself, 0.2), loss.NTXentLoss(0.2)),
        "SwAV": (
            lambda a, b: swav(F.normalize(a, dim=1), F.normalize(b, dim=1)),
            lambda a, b: loss.SwaVLoss()([F.normalize(a, dim=1), F.normalize(b, dim=1)], []).squeeze(),
        ),
    }


def differentiate(loss: Loss, z1: Tensor, z2: Tensor) -> tuple[float, list[Tensor | None]]:
    """The value, and its gradients by both views."""
    pair = [z.clone().requires_grad_() for z in (z1, z2)]
    value = loss(*pair)
    return value.item(), list(torch.autograd.grad(value, pair, allow_unused=True))


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    require_lightly()
    print_facts({"torch": torch.__version__, "images": args.images, "dim": args.dim})
    generator = torch.Generator().manual_seed(0)
    z1, noise = (torch.randn(args.images, args.dim, generator=generator) for _ in range(2))
    z2, rows = (z1 + noise) / 2**0.5, []
    print(f"{'loss':<18}{'ours':>10}{'lightly':>10}{'gradient':>10}{'cosine':>8}")
    for name, (ours, theirs) in make_losses(args.images).items():
        (value, gradients), (other, peers) = (differentiate(loss, z1, z2) for loss in (ours, theirs))
        # of lightly's, those that ours has: users of lightly detach targets themselves
        both = [(g, p) for g, p in zip(gradients, peers, strict=True) if g is not None]
        gradient, peer = (torch.cat([x.flatten() for x in xs]) for xs in zip(*both, strict=True))
        row = {"loss": name, "ours": value, "lightly": other}
        row |= {"gradient": (gradient.norm() / peer.norm()).item()}
        row |= {"cosine": F.cosine_similarity(gradient, peer, dim=0).item()}
        rows.append(row)
        print(f"{name:<18}{value:>10.4f}{other:>10.4f}{row['gradient']:>10.4f}{row['cosine']:>8.4f}")
    save_json(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
