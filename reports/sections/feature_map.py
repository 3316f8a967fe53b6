"""What does it find alike? Maps of examples, to be explored."""

import base64

import numpy as np

from common.splits import name_split
from reports.figure_data import list_epochs, load_arrays, load_npz
from reports.formatting import format_fraction
from reports.images import COLUMNS, encode_atlas
from reports.run import Run
from reports.sections.section import Section

MAPS = {  # figure: title, and what its axes are
    "tsne": ("t-SNE", "Near points have similar features; axes have no unit."),
    "umap": ("UMAP", "Near points have similar features; axes have no unit."),
    "pca": ("Principal components", "The two directions in which features vary most."),
    "latent_map": ("Latent space", "The two directions in which posterior means vary most."),
}
COLORS = 10  # classes that get one, as in the pictures
RAMP = ("#2d3f8f", "#2f6db5", "#2e9bb8", "#3fbf9f", "#86d37c", "#d4de63", "#f6c644", "#f08d3c", "#d94f3a")


def make_section(run: Run) -> Section | None:
    maps = [feature_map for name in MAPS if (feature_map := load_map(run, name))]
    if not maps:
        return None
    title, answer, names = "What does it find alike?", maps[0]["finding"], {m["name"] for m in maps}
    return Section("map", "Map of features", title, "feature_map.html", answer, names, {"maps": maps})


def load_map(run: Run, name: str) -> dict | None:
    """What templates and map.js need of `figures/NAME`: all its epochs that show the same examples as the newest."""
    newest = load_arrays(run, name)
    if not {"xy", "index", "labels"} <= newest.keys():
        return None
    frames = {}
    for epoch in list_epochs(run, name):
        arrays = load_arrays(run, name, epoch)
        if np.array_equal(arrays.get("index"), newest["index"]):
            frames[epoch] = pack_positions(arrays["xy"])
    labels, names = newest["labels"], run.provenance.get("class_names") or []
    has_classes = labels.ndim == 1
    thumbnails = load_npz(run.path / "figures" / name / "thumbnails.npz")
    pictures = thumbnails.get("images")
    has_pictures = pictures is not None and len(pictures) == len(labels)
    data = {
        "frames": frames,
        "index": newest["index"].tolist(),
        "split": name_split(newest.get("split", "val")),
        "pred": newest["pred"].tolist() if "pred" in newest else None,
        "texts": thumbnails["texts"].tolist() if "texts" in thumbnails else None,
        "tile": pictures.shape[1] if has_pictures else 0,
        "columns": COLUMNS if has_pictures else 0,
        "atlas": f"atlas-{name}",
    }
    data |= color_by_class(labels, names) if has_classes else color_by_value(labels[:, 0])
    title, axes = MAPS[name]
    return {
        "name": name,
        "title": f"{title} of {len(labels):,} {data['split']} examples",
        "caption": f"{axes} The color is the {'class' if has_classes else 'first target'}.",
        "data": data,
        "atlas": encode_atlas(pictures) if has_pictures else "",
        "epochs": list(frames),
        "pills": list_pills(data) if has_classes else [],
        "wrong": data["pred"] is not None and data["labels"] is not None,
        "finding": describe_mixing(newest["xy"], labels, names) if has_classes else "",
        "source": f"figures/{name}/epoch={max(frames)}.npz",
    }


def pack_positions(xy: np.ndarray) -> str:
    """(N, 2) -> base64 of uint16, both axes on one scale and in the middle of 0 to 65,535."""
    low, high = xy.min(0), xy.max(0)
    side = max(float((high - low).max()), 1e-12)
    scaled = (xy - (low + high) / 2) / side + 0.5
    return base64.b64encode((scaled * 65535).round().astype("<u2").tobytes()).decode()


def color_by_class(labels: np.ndarray, names: list[str]) -> dict:
    """Colors by class, of more than ten the nine most frequent; group COLORS - 1 or the last one is all others."""
    count = max(len(names), int(labels.max(initial=-1)) + 1)
    classes = list(range(count))
    if count > COLORS:
        frequent = np.bincount(labels[labels >= 0], minlength=count).argsort(kind="stable")[::-1]
        classes = sorted(frequent[: COLORS - 1].tolist())
    group_of = {k: group for group, k in enumerate(classes)}
    groups = [group_of.get(k, len(classes)) for k in labels.tolist()]
    group_names = [names[k] if k < len(names) else f"class {k}" for k in classes]
    if len(classes) in groups:
        group_names.append("no label" if count <= COLORS else "other classes")
    return {
        "labels": labels.tolist(),
        "names": [str(name) for name in names],
        "groups": groups,
        "colors": [f"--c{k}" for k in range(len(classes))] + ["--other"],
        "group_names": group_names,
    }


def color_by_value(values: np.ndarray) -> dict:
    """Colors from low to high; unknown ones are gray."""
    finite = np.isfinite(values)
    cuts = np.quantile(values[finite], np.linspace(0, 1, len(RAMP) + 1)[1:-1]) if finite.any() else []
    groups = np.where(finite, np.searchsorted(cuts, np.nan_to_num(values)), len(RAMP))
    return {
        "labels": None,
        "values": [f"{value:.3g}" if np.isfinite(value) else "unknown" for value in values.tolist()],
        "target": "target",
        "groups": groups.tolist(),
        "colors": [*RAMP, "--other"],
    }


def list_pills(data: dict) -> list[tuple[int, str, str]]:
    """Group, name and color of each button."""
    return [(k, name, data["colors"][k]) for k, name in enumerate(data["group_names"])]


def describe_mixing(xy: np.ndarray, labels: np.ndarray, names: list[str]) -> str:
    """How often the ten nearest on the map are of a point's own class, and which two classes mix most."""
    labeled = labels >= 0
    xy, labels = xy[labeled].astype(np.float64), labels[labeled]
    if len(xy) < 20 or len(np.unique(labels)) < 2:
        return ""
    blocks = np.array_split(np.arange(len(xy)), -(-len(xy) // 1000))
    near = np.concatenate([find_map_neighbors(block, xy) for block in blocks])
    same = (labels[near] == labels[:, None]).mean()
    expected = ((np.bincount(labels) / len(labels)) ** 2).sum()
    finding = f"On the map {format_fraction(same)} of the ten nearest points are of a point's own class; "
    finding += f"{format_fraction(expected)} would be by chance."
    mixed = np.zeros((labels.max() + 1,) * 2)
    np.add.at(mixed, (np.repeat(labels, near.shape[1]), labels[near].ravel()), 1)
    mixed = mixed / mixed.sum(1, keepdims=True).clip(min=1)
    np.fill_diagonal(mixed, 0)
    mixed = mixed + mixed.T
    a, b = sorted(np.unravel_index(mixed.argmax(), mixed.shape))
    if len(np.unique(labels)) > 2 and mixed[a, b] > 0.1 and max(a, b) < len(names):
        finding += f" {str(names[a]).capitalize()} and {names[b]} mix most."
    return finding


def find_map_neighbors(rows: np.ndarray, xy: np.ndarray, k: int = 10) -> np.ndarray:
    """Positions (n,) of points (N, 2) -> the k nearest other ones of each (n, k)."""
    distance = np.square(xy[rows, None] - xy[None]).sum(2)
    distance[np.arange(len(rows)), rows] = np.inf
    return np.argpartition(distance, k, axis=1)[:, :k]
