"""t-SNE: ours against scikit-learn's, same features, one run.

    python benchmarks/tsne.py

Ours is callbacks/plotting/scatter.py: at most 50 principal components, then openTSNE. Trustworthiness (Venna & Kaski
2001; 1 where the 10 nearest points of the map are near in feature space, too) is measured against all features on half
the points. Seconds of all cores say more than the clock on a busy machine.
"""

import sys
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.manifold import TSNE, trustworthiness

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import build_parser, read_load, save_json
from benchmarks.timing import time_call
from callbacks.plotting.scatter import project_to_plane


def draw_correlated_features(points: int, dim: int, classes: int = 10) -> np.ndarray:
    """Overlapping classes of ReLU features, with variances that fall as those of a trained encoder: (points, dim)."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * (1 + np.arange(dim)) ** -0.75
    centers = 1.5 * rng.normal(size=(classes, dim))
    latents = centers[rng.integers(classes, size=points)] + rng.normal(size=(points, dim))
    return np.maximum(latents @ directions.T + 0.1, 0).astype(np.float32)


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--features", type=Path, help="a .npy file (N, D) instead of random ones")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    x = (
        np.load(args.features)[: args.points]
        if args.features
        else draw_correlated_features(args.points, args.dim)
    )
    contestants = {
        "ours": lambda: project_to_plane(x),
        "scikit-learn": lambda: TSNE(n_jobs=torch.get_num_threads(), random_state=0).fit_transform(x),
    }
    print(f"{len(x):,} points x {x.shape[1]}, {torch.get_num_threads()} threads, load {read_load()}")
    project_to_plane(x[:500])  # warm-up
    rows = {}
    for name, work in contestants.items():
        clock, busy, xy = time_call(work)
        rows[name] = {"s": clock, "cores_s": busy, "trust": trustworthiness(x[::2], xy[::2], n_neighbors=10)}
        print(
            f"{name:14}{clock:8.1f} s{busy:8.1f} s of all cores   trustworthiness {rows[name]['trust']:.4f}",
            flush=True,
        )
    ours, theirs = rows.values()
    ratios = {unit: theirs[unit] / ours[unit] for unit in ("s", "cores_s")}
    print(f"ratio         {ratios['s']:8.1f}  {ratios['cores_s']:8.1f}")
    facts = {"scikit-learn": sklearn.__version__, "threads": torch.get_num_threads()}
    save_json(args.json, facts | {"rows": rows, "ratio": ratios})


if __name__ == "__main__":
    main()
