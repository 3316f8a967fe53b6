"""Figures shown as they were drawn, all their epochs; each kind under the question that it answers."""

from reports import data, images
from reports.run import Run
from reports.sections.section import Section, percent

MOST = 1_500_000  # bytes of a figure, all epochs together
# id, entry of the contents, question, and its figures with their titles
QUESTIONS = [
    ("filters", "Weights", "What are its weights tuned to?", {"filters": "Weights"}),
    ("views", "Views", "What did it see in training?", {"views": "Augmented views"}),
    (
        "reconstructions",
        "Reconstructions",
        "What does the code keep?",
        {"reconstructions": "Images and what comes back"},
    ),
    (
        "samples",
        "Samples",
        "What can it draw?",
        {
            "samples": "Images drawn from the prior",
            "class_samples": "Images drawn for each class",
            "traversals": "What the latent's components do",
            "interpolations": "Between two images",
        },
    ),
    ("clusters", "Clusters", "Does it find the classes by itself?", {"clustering": "Clusters and classes"}),
    (
        "layers",
        "Layers",
        "How do its layers differ?",
        {"cka": "Similarity of layers", "study": "Two measures, checkpoint by checkpoint"},
    ),
]
# of sections that are drawn from data; the picture stands in where those are missing
OTHERS = {
    "tsne": "Map of features",
    "umap": "Map of features by UMAP",
    "pca": "Map of features by PCA",
    "latent_map": "Map of the latent space",
    "retrieval": "Nearest neighbors",
    "cam": "Where it looks",
    "confusion": "Confusions",
    "hardest": "Hardest and easiest examples",
    "hardest_training": "Hardest and easiest training examples",
    "curves": "Training curves, for paper",
}


def sections(run: Run, drawn: set[str]) -> tuple[list[Section], list[str]]:
    """A section a question that has a figure, the rest under one of their own; and files that are no whole PNG.

    Args:
        drawn: figures that the page has already shown from their data.
    """
    known = {kind for *_, kinds in QUESTIONS for kind in kinds}
    rest = {name.partition(".")[0]: "" for name in run.figures} | OTHERS
    questions = [
        *QUESTIONS,
        (
            "others",
            "More pictures",
            "What else was drawn?",
            {k: OTHERS.get(k, "") for k in rest if k not in known},
        ),
    ]
    found, broken = [], []
    for key, nav, title, kinds in questions:
        figures = []
        for kind, name in kinds.items():
            for folder in sorted(run.figures):
                if folder.partition(".")[0] == kind and folder not in drawn:
                    figure, lost = frames(run, folder, name or kind.replace("_", " "))
                    figures += [figure] if figure else []
                    broken += lost
        if figures:
            says = SENTENCES[key](run) if key in SENTENCES else ""
            found.append(Section(key, nav, title, "pictures.html", says, data={"figures": figures}))
    return found, broken


def title_of(kind: str) -> str:
    return next((kinds[kind] for *_, kinds in QUESTIONS if kind in kinds), OTHERS.get(kind, kind))


def frames(run: Run, folder: str, title: str) -> tuple[dict | None, list[str]]:
    """Every epoch of a figure, oldest first."""
    shown, broken = [], []
    _, _, part = folder.partition(".")  # "filters.encoder.stem.0": one of several
    for epoch, file in run.figures[folder]:
        source = f"figures/{folder}/{file.name}"
        if (found := images.png_file(file)) is None:
            broken.append(source)
            continue
        uri, width, height = found
        shown.append({"epoch": epoch, "uri": uri, "source": source, "width": width, "height": height})
    if not shown:
        return None, broken
    found = len(shown)
    while len(shown) > 1 and sum(len(frame["uri"]) for frame in shown) > MOST:
        shown = shown[::-2][::-1]  # every second one, and always the newest
    return {
        "name": folder,
        "title": title + (f" of {part}" if part else ""),
        "frames": shown,
        "found": found,
    }, broken


def rebuilt(run: Run) -> str:
    said = data.facts(run, "reconstructions")
    if "train_mse" not in said:
        return ""
    means = {"training": said["train_mse"], "validation": said.get("val_mse"), "test": said.get("test_mse")}
    known = [f"{value:.3g} on the {name} split" for name, value in means.items() if value is not None]
    return f"Mean squared error of pixels in [0, 1]: {', '.join(known)}."


def drawn_images(run: Run) -> str:
    said = data.facts(run, "samples")
    if "distance" not in said:
        return ""
    text = f"{said['measure']} to {said['compared']:,} real images: {said['distance']:.3g}"
    return text + f"; real images among themselves: {said['real_distance']:.3g}."


def clusters(run: Run) -> str:
    said = data.facts(run, "clustering")
    if "cluster_accuracy" not in said:
        return ""
    return (
        f"{said['clusters']} clusters match the classes for {percent(said['cluster_accuracy'])} of the examples "
        f"under the best matching (NMI {said['nmi']:.2f}, ARI {said['ari']:.2f})."
    )


def layers(run: Run) -> str:
    names, matrix = data.facts(run, "cka").get("layers"), data.arrays(run, "cka").get("cka")
    if not names or matrix is None or matrix.shape != (len(names),) * 2 or len(names) < 2:
        return ""
    return (
        f"Between the first layer shown, {names[0]}, and the last, {names[-1]}, linear CKA is {matrix[0, -1]:.2f} "
        "(1: the same representation)."
    )


SENTENCES = {"reconstructions": rebuilt, "samples": drawn_images, "clusters": clusters, "layers": layers}
