"""t-SNE: ours against scikit-learn's, same features, one run.

    python benchmarks/tsne.py

Ours is callbacks/plotting/scatter.py: at most 50 principal components, then openTSNE. Trustworthiness (Venna & Kaski
2001; 1 where the 10 nearest points of the map are near in feature space, too) is measured against all features on half
the points. Seconds of all cores say more than the clock on a busy machine.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.manifold import TSNE, trustworthiness

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from callbacks.plotting.scatter import project_to_plane


def correlated(points: int, dim: int, classes: int = 10) -> np.ndarray:
    """Overlapping classes of ReLU features, with variances that fall as those of a trained encoder: (points, dim)."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * (1 + np.arange(dim)) ** -0.75
    centers = 1.5 * rng.normal(size=(classes, dim))
    latents = centers[rng.integers(classes, size=points)] + rng.normal(size=(points, dim))
    return np.maximum(latents @ directions.T + 0.1, 0).astype(np.float32)


def cost(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """What it returns, seconds on the clock and seconds of all cores."""
    start, busy = time.perf_counter(), time.process_time()
    xy = work()
    return xy, time.perf_counter() - start, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--features", type=Path, help="a .npy file (N, D) instead of random ones")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    x = np.load(args.features)[: args.points] if args.features else correlated(args.points, args.dim)
    contestants = {
        "ours": lambda: project_to_plane(x),
        "scikit-learn": lambda: TSNE(n_jobs=torch.get_num_threads(), random_state=0).fit_transform(x),
    }
    print(
        f"{len(x):,} points x {x.shape[1]}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    project_to_plane(x[:500])  # warm-up
    rows = {}
    for name, work in contestants.items():
        xy, clock, busy = cost(work)
        rows[name] = {"s": clock, "cores_s": busy, "trust": trustworthiness(x[::2], xy[::2], n_neighbors=10)}
        print(
            f"{name:14}{clock:8.1f} s{busy:8.1f} s of all cores   trustworthiness {rows[name]['trust']:.4f}",
            flush=True,
        )
    ours, theirs = rows.values()
    ratios = {unit: theirs[unit] / ours[unit] for unit in ("s", "cores_s")}
    print(f"ratio         {ratios['s']:8.1f}  {ratios['cores_s']:8.1f}")
    if args.json:
        facts = {"scikit-learn": sklearn.__version__, "threads": torch.get_num_threads()}
        args.json.write_text(json.dumps(facts | {"rows": rows, "ratio": ratios}, indent=1))


if __name__ == "__main__":
    main()
