"""What does it find alike? Maps of examples, to be explored."""

import base64

import numpy as np

from common.splits import name_split
from reports import data, images
from reports.run import Run
from reports.sections.section import Section, percent

KINDS = {
    "tsne": ("t-SNE", "Near points have similar features; axes have no unit."),
    "umap": ("UMAP", "Near points have similar features; axes have no unit."),
    "pca": ("Principal components", "The two directions in which features vary most."),
    "latent_map": ("Latent space", "The two directions in which posterior means vary most."),
}
COLORS = 10  # classes that get one, as in the pictures
RAMP = ("#2d3f8f", "#2f6db5", "#2e9bb8", "#3fbf9f", "#86d37c", "#d4de63", "#f6c644", "#f08d3c", "#d94f3a")


def section(run: Run) -> Section | None:
    maps = [found for kind in KINDS if (found := one(run, kind))]
    if not maps:
        return None
    return Section(
        "map",
        "Map of features",
        "What does it find alike?",
        "map.html",
        maps[0]["says"],
        {m["name"] for m in maps},
        {"maps": maps},
    )


def one(run: Run, name: str) -> dict | None:
    """What templates and map.js need of `figures/NAME`: all its epochs that show the same examples as the newest."""
    newest = data.arrays(run, name)
    if not {"xy", "index", "labels"} <= newest.keys():
        return None
    frames = {}
    for epoch in data.epochs(run, name):
        found = data.arrays(run, name, epoch)
        if np.array_equal(found.get("index"), newest["index"]):
            frames[epoch] = packed(found["xy"])
    labels, names = newest["labels"], run.provenance.get("class_names") or []
    thumbnails = data.load(run.path / "figures" / name / "thumbnails.npz")
    pictures = thumbnails.get("images")
    has_pictures = pictures is not None and len(pictures) == len(labels)
    title, under = KINDS[name]
    said = {
        "frames": frames,
        "index": newest["index"].tolist(),
        "split": name_split(newest.get("split", "val")),
        "pred": newest["pred"].tolist() if "pred" in newest else None,
        "texts": thumbnails["texts"].tolist() if "texts" in thumbnails else None,
        "tile": pictures.shape[1] if has_pictures else 0,
        "columns": images.COLUMNS if has_pictures else 0,
        "atlas": f"atlas-{name}",
    }
    said |= by_class(labels, names) if labels.ndim == 1 else by_number(labels[:, 0])
    return {
        "name": name,
        "title": f"{title} of {len(labels):,} {said['split']} examples",
        "sub": under
        + (" The color is the class." if labels.ndim == 1 else " The color is the first target."),
        "data": said,
        "atlas": images.atlas(pictures) if has_pictures else "",
        "epochs": list(frames),
        "pills": pills(said) if labels.ndim == 1 else [],
        "wrong": said["pred"] is not None and said["labels"] is not None,
        "says": alike(newest["xy"], labels, names) if labels.ndim == 1 else "",
        "source": f"figures/{name}/epoch={max(frames)}.npz",
    }


def packed(xy: np.ndarray) -> str:
    """(N, 2) -> base64 of uint16, both axes on one scale and in the middle of 0 to 65,535."""
    low, high = xy.min(0), xy.max(0)
    side = max(float((high - low).max()), 1e-12)
    placed = (xy - (low + high) / 2) / side + 0.5
    return base64.b64encode((placed * 65535).round().astype("<u2").tobytes()).decode()


def by_class(labels: np.ndarray, names: list[str]) -> dict:
    """Colors by class, of more than ten the nine most frequent; group COLORS - 1 or the last one is the rest."""
    count = max(len(names), int(labels.max(initial=-1)) + 1)
    kept = list(range(count))
    if count > COLORS:
        frequent = np.bincount(labels[labels >= 0], minlength=count).argsort(kind="stable")[::-1]
        kept = sorted(frequent[: COLORS - 1].tolist())
    place = {k: group for group, k in enumerate(kept)}
    groups = [place.get(k, len(kept)) for k in labels.tolist()]
    colors = [f"--c{k}" for k in range(len(kept))] + ["--other"]
    shown = [names[k] if k < len(names) else f"class {k}" for k in kept]
    rest = "no label" if count <= COLORS else "other classes"
    return {
        "labels": labels.tolist(),
        "names": [str(n) for n in names],
        "groups": groups,
        "colors": colors,
        "group_names": [*shown, *([rest] if len(kept) in groups else [])],
    }


def by_number(values: np.ndarray) -> dict:
    """Colors from low to high; unknown ones are gray."""
    known = np.isfinite(values)
    cuts = np.quantile(values[known], np.linspace(0, 1, len(RAMP) + 1)[1:-1]) if known.any() else []
    groups = np.where(known, np.searchsorted(cuts, np.nan_to_num(values)), len(RAMP))
    return {
        "labels": None,
        "values": [f"{value:.3g}" if np.isfinite(value) else "unknown" for value in values.tolist()],
        "target": "target",
        "groups": groups.tolist(),
        "colors": [*RAMP, "--other"],
    }


def pills(said: dict) -> list[tuple[int, str, str]]:
    """Group, name and color."""
    return [(k, name, said["colors"][k]) for k, name in enumerate(said["group_names"])]


def alike(xy: np.ndarray, labels: np.ndarray, names: list[str]) -> str:
    """How often the ten nearest on the map are of a point's own class, and which two classes mix most."""
    known = labels >= 0
    xy, labels = xy[known].astype(np.float64), labels[known]
    if len(xy) < 20 or len(np.unique(labels)) < 2:
        return ""
    near = np.concatenate(
        [nearest(part, xy) for part in np.array_split(np.arange(len(xy)), -(-len(xy) // 1000))]
    )
    same = (labels[near] == labels[:, None]).mean()
    expected = ((np.bincount(labels) / len(labels)) ** 2).sum()
    said = f"On the map {percent(same)} of the ten nearest points are of a point's own class; "
    said += f"{percent(expected)} would be by chance."
    mixed = np.zeros((labels.max() + 1,) * 2)
    np.add.at(mixed, (np.repeat(labels, near.shape[1]), labels[near].ravel()), 1)
    mixed = mixed / mixed.sum(1, keepdims=True).clip(min=1)
    np.fill_diagonal(mixed, 0)
    mixed = mixed + mixed.T
    a, b = sorted(np.unravel_index(mixed.argmax(), mixed.shape))
    if len(np.unique(labels)) > 2 and mixed[a, b] > 0.1 and max(a, b) < len(names):
        said += f" {str(names[a]).capitalize()} and {names[b]} mix most."
    return said


def nearest(rows: np.ndarray, xy: np.ndarray, k: int = 10) -> np.ndarray:
    """Positions (n,) of points (N, 2) -> the k nearest other ones of each (n, k)."""
    distance = np.square(xy[rows, None] - xy[None]).sum(2)
    distance[np.arange(len(rows)), rows] = np.inf
    return np.argpartition(distance, k, axis=1)[:, :k]
