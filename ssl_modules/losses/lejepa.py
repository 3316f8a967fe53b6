"""LeJEPA's two terms: views of an image meet in one point, and the points of all images are Gaussian."""

import torch
from torch import Tensor

from ssl_modules.losses.characteristic import CharacteristicFunction
from ssl_modules.losses.directions import normalize_vectors


def draw_directions(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Vectors (count, dim) of length 1, evenly spread over all directions, on the CPU."""
    return normalize_vectors(torch.randn(count, dim, generator=generator), dim=1)


def sigreg(
    z: Tensor, directions: Tensor, points: int = 17, t_max: float = 5.0, gather=lambda rows: rows
) -> Tensor:
    """How far the samples are from a standard normal distribution, seen from some directions.

    The statistic of Epps and Pulley of N numbers x, which are the samples projected on a direction, is
    N * integral of |mean of exp(itx) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt.

    Args:
        z: projections (V, B, P) of V views; each view is a set of samples of its own.
        directions: (M, P), of length 1.
        points: of the integral by trapezoids, an odd number, from -t_max to t_max; the equal halves are computed once.
        t_max: where the integral ends.
        gather: (1, ...) on each process -> (processes, ...) of all, which have as many samples each.

    Returns:
        Scalar float32, the mean over views and directions. For normal samples sqrt(2 pi) (1 - 1 / sqrt 3) = 1.06 on
        average, however many there are; sqrt(2 pi) (1 - sqrt 2 + 1 / sqrt 3) = 0.41 times N where all are 0.

    Balestriero & LeCun 2025, section 4 and algorithm 1, https://arxiv.org/abs/2511.08544; the statistic: Epps & Pulley
    1983, https://doi.org/10.1093/biomet/70.3.723
    """
    half = points // 2 + 1  # at t = 0, step, 2 step, ... t_max
    step = t_max / (half - 1)
    with torch.autocast(z.device.type, enabled=False):
        local_means = CharacteristicFunction.apply(z.float(), directions.float(), step, half)  # (2, T, V, M)
        of_processes = gather(local_means[None])
        cos, sin = of_processes.mean(0)
    normal = (-(torch.arange(half, device=z.device) * step).square() / 2).exp()  # (T,), what cos should be
    widths = torch.full_like(normal, 2 * step)
    widths[0] = widths[-1] = step
    errors = (cos - normal[:, None, None]).square() + sin.square()
    integrals = (errors * (widths * normal)[:, None, None]).sum(0)  # (V, M)
    return integrals.mean() * (len(of_processes) * z.shape[1])


def center_losses(z: Tensor, large: int) -> Tensor:
    """Squared distance of each view's projection to the mean of the large views', a mean over dimensions and views.

    Args:
        z: projections (V, B, P), those of the large views first; gradients reach all of them.
        large: how many views are large.

    Returns:
        (B,); 0 where all views agree.

    Balestriero & LeCun 2025, algorithm 2, https://arxiv.org/abs/2511.08544; the squared norm of its equation is the sum
    over dimensions, P times as much.
    """
    z = z.float()
    return (z - z[:large].mean(0)).square().mean((0, 2))
