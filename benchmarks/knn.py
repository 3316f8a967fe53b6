"""kNN vote: ours against lightly's, same features, same neighbors, one run.

    python benchmarks/knn.py --json knn.json

lightly: `lightly.utils.benchmarking.knn_predict`, called on batches of queries as its KNNClassifier calls it.
Its similarities are float32; ours multiply in bf16 where hardware can. Both start from normalized features;
our time includes normalizing them once more.
"""

import statistics
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import build_parser, print_facts, require_lightly, save_json
from benchmarks.timing import time_in_turns
from callbacks.measures.knn import score_by_neighbors

CLASSES, TEMPERATURE, BATCH = 10, 0.1, 256


def draw_clustered_features(n: int, dim: int, spread: float) -> tuple[Tensor, Tensor]:
    """Overlapping clusters of ReLU features, 20 a class: normalized (n, dim) and their classes (n,)."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(20 * CLASSES, dim, generator=generator)
    cluster = torch.randint(len(centers), (n,), generator=generator)
    features = (centers[cluster] + spread * torch.randn(n, dim, generator=generator)).relu()
    return F.normalize(features, dim=1), cluster % CLASSES


def predict_ours(queries: Tensor, bank: Tensor, labels: Tensor, k: int) -> Tensor:
    return score_by_neighbors(queries, bank, labels, CLASSES, k, TEMPERATURE).argmax(1)


def predict_lightly(queries: Tensor, bank: Tensor, labels: Tensor, k: int) -> Tensor:
    from lightly.utils.benchmarking import knn_predict

    bank = bank.T.contiguous()
    batches = queries.split(BATCH)
    return torch.cat([knn_predict(q, bank, labels, CLASSES, k, TEMPERATURE)[:, 0] for q in batches])


def compare_votes(
    k: int, queries: Tensor, answers: Tensor, bank: Tensor, labels: Tensor, repeats: int
) -> dict:
    votes = {"ours": predict_ours, "lightly": predict_lightly}
    works = {name: partial(predict, queries, bank, labels, k) for name, predict in votes.items()}
    times, predictions = time_in_turns(works, repeats)
    seconds = {name: [clock for clock, _ in rows] for name, rows in times.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["lightly"], strict=True)]
    row = {"k": k, "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    row["same"] = 100 * (predictions["ours"] == predictions["lightly"]).float().mean().item()
    for name in works:
        row[f"{name}_s"] = statistics.median(seconds[name])
        row[f"{name}_top1"] = 100 * (predictions[name] == answers).float().mean().item()
    return row


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--spread", type=float, default=3.5, help="of a cluster; sets how hard the task is")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    require_lightly()
    features, classes = draw_clustered_features(args.queries + args.bank, args.dim, args.spread)
    (queries, bank), (answers, labels) = (x.split([args.queries, args.bank]) for x in (features, classes))
    machine = {
        "cores": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "torch": torch.__version__,
        "lightly": version("lightly"),
    }
    print_facts(machine)
    print(
        f"{len(queries):,} queries x {len(bank):,} bank x {args.dim}, median of {args.repeats}, interleaved"
    )
    widths = {
        "k": 4,
        "ours s": 9,
        "lightly s": 11,
        "ratio (range)": 20,
        "ours %": 9,
        "lightly %": 11,
        "same %": 9,
    }
    print("".join(f"{name:>{width}}" for name, width in widths.items()))
    rows = []
    for k in args.k:
        rows.append(row := compare_votes(k, queries, answers, bank, labels, args.repeats))
        ratio = f"{row['ratio']:.1f} ({row['ratio_min']:.1f}-{row['ratio_max']:.1f})"
        print(f"{k:>4}{row['ours_s']:>9.2f}{row['lightly_s']:>11.2f}{ratio:>20}", end="")
        print(f"{row['ours_top1']:>9.2f}{row['lightly_top1']:>11.2f}{row['same']:>9.2f}", flush=True)
    arguments = vars(args) | {"json": str(args.json)}
    save_json(args.json, {"machine": machine, "arguments": arguments, "rows": rows})


if __name__ == "__main__":
    main()
