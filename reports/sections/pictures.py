"""Figures as the callbacks drew them, in all their epochs; each kind under the question that it answers."""

from common.splits import SPLITS
from reports.figure_data import load_arrays, load_facts
from reports.formatting import format_fraction
from reports.images import encode_png
from reports.run import Run
from reports.sections.section import Section

MOST = 1_500_000  # bytes of a figure, all epochs together
# id, entry of the contents, question, and its figures with their titles
QUESTIONS = [
    ("attention", "Attention", "What does it attend to?", {"attention": "Attention to patches"}),
    (
        "patches",
        "Parts of images",
        "What does it tell apart within an image?",
        {"patch_map": "Principal components as colors"},
    ),
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
# of sections that are drawn from data, where those are missing
SUBSTITUTES = {
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


def make_picture_sections(run: Run, drawn: set[str]) -> tuple[list[Section], list[str]]:
    """A section a question that has a figure, all others under one of their own; and files that are no whole PNG.

    Args:
        drawn: figures that the page has already shown from their data.
    """
    asked = {kind for *_, kinds in QUESTIONS for kind in kinds}
    kinds = [*(name.partition(".")[0] for name in run.figures), *SUBSTITUTES]
    others = {kind: SUBSTITUTES.get(kind, "") for kind in kinds if kind not in asked}
    sections, broken = [], []
    for key, nav, question, titles in [
        *QUESTIONS,
        ("others", "More pictures", "What else was drawn?", others),
    ]:
        figures = []
        for kind, title in titles.items():
            for folder in sorted(run.figures):
                if folder.partition(".")[0] == kind and folder not in drawn:
                    figure, broken_files = load_frames(run, folder, title or kind.replace("_", " "))
                    figures += [figure] if figure else []
                    broken += broken_files
        if figures:
            answer = ANSWERS[key](run) if key in ANSWERS else ""
            section = Section(key, nav, question, "pictures.html", answer, data={"figures": figures})
            sections.append(section)
    return sections, broken


def name_figure(kind: str) -> str:
    return next((titles[kind] for *_, titles in QUESTIONS if kind in titles), SUBSTITUTES.get(kind, kind))


def load_frames(run: Run, folder: str, title: str) -> tuple[dict | None, list[str]]:
    """The epochs of a figure, oldest first; and its files that are no whole PNG."""
    frames, broken = [], []
    for epoch, file in run.figures[folder]:
        source = f"figures/{folder}/{file.name}"
        if (png := encode_png(file)) is None:
            broken.append(source)
            continue
        uri, width, height = png
        frames.append({"epoch": epoch, "uri": uri, "source": source, "width": width, "height": height})
    if not frames:
        return None, broken
    count = len(frames)
    while len(frames) > 1 and sum(len(frame["uri"]) for frame in frames) > MOST:
        frames = frames[::-2][::-1]  # every second one, and always the newest
    _, _, part = folder.partition(".")  # "filters.encoder.stem.0": one of several
    title += f" of {part}" if part else ""
    return {"name": folder, "title": title, "frames": frames, "count": count}, broken


def describe_attention(run: Run) -> str:
    facts = load_facts(run, "attention")
    if "query" not in facts:
        return ""
    asking = "the class token takes" if facts["query"] == "class token" else "all patches, on average, take"
    return (
        f"How much {asking} from each patch in the last of {facts['layers']} layers, in each of "
        f"{facts['heads']} heads, and rolled out over all layers; 1 is an even share among {facts['tokens']} tokens."
    )


def describe_patches(run: Run) -> str:
    facts = load_facts(run, "patch_map")
    if "shares" not in facts:
        return ""
    text = f"Three components have {format_fraction(sum(facts['shares']))} of the variance of {facts['kind']}"
    share = facts.get("position_share")
    return text + (
        f"; their position accounts for {format_fraction(share)} of it." if share is not None else "."
    )


def describe_reconstructions(run: Run) -> str:
    facts = load_facts(run, "reconstructions")
    if "train_mse" not in facts:
        return ""
    errors = {split: facts.get(f"{split}_mse") for split in ("train", "val", "test")}
    parts = [f"{mse:.3g} on the {SPLITS[split]} split" for split, mse in errors.items() if mse is not None]
    return f"Mean squared error of pixels in [0, 1]: {', '.join(parts)}."


def describe_samples(run: Run) -> str:
    facts = load_facts(run, "samples")
    if "distance" not in facts:
        return ""
    return (
        f"{facts['measure']} to {facts['compared']:,} real images: {facts['distance']:.3g}; "
        f"real images among themselves: {facts['real_distance']:.3g}."
    )


def describe_clusters(run: Run) -> str:
    facts = load_facts(run, "clustering")
    if "cluster_accuracy" not in facts:
        return ""
    return (
        f"{facts['clusters']} clusters match the classes for {format_fraction(facts['cluster_accuracy'])} "
        f"of the examples under the best matching (NMI {facts['nmi']:.2f}, ARI {facts['ari']:.2f})."
    )


def describe_layers(run: Run) -> str:
    names, matrix = load_facts(run, "cka").get("layers"), load_arrays(run, "cka").get("cka")
    if not names or matrix is None or matrix.shape != (len(names),) * 2 or len(names) < 2:
        return ""
    return (
        f"Between the first layer shown, {names[0]}, and the last, {names[-1]}, linear CKA is {matrix[0, -1]:.2f} "
        "(1: the same representation)."
    )


ANSWERS = {
    "attention": describe_attention,
    "patches": describe_patches,
    "reconstructions": describe_reconstructions,
    "samples": describe_samples,
    "clusters": describe_clusters,
    "layers": describe_layers,
}
