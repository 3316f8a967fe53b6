"""What classes and options were once called: configs, commands and kept runs of then stay good.

One table for all who read old names: launch, for YAML files and the command line, and reports, for kept configs.
"""

import json
import re
from typing import Any

MODULES = {  # where a class that a config may name was, and where it is
    "callbacks.by_group": "callbacks.evaluation.by_group",
    "callbacks.cam": "callbacks.figures.cam",
    "callbacks.checkpoints": "callbacks.checkpointing.checkpoints",
    "callbacks.cka": "callbacks.figures.cka",
    "callbacks.clustering": "callbacks.figures.clustering",
    "callbacks.collapse": "callbacks.evaluation.collapse",
    "callbacks.confusion": "callbacks.figures.confusion",
    "callbacks.csv_logger": "callbacks.loggers.csv",
    "callbacks.curves": "callbacks.figures.curves",
    "callbacks.embedding": "callbacks.figures.feature_map",
    "callbacks.encoder_artifact": "callbacks.checkpointing.encoder_artifact",
    "callbacks.features": "callbacks.evaluation.features",
    "callbacks.filters": "callbacks.figures.filters",
    "callbacks.hardest": "callbacks.figures.hardest",
    "callbacks.knn": "callbacks.evaluation.knn",
    "callbacks.latents": "callbacks.figures.latents",
    "callbacks.online_probe": "callbacks.evaluation.online_probe",
    "callbacks.protocol": "callbacks.evaluation.protocol",
    "callbacks.reconstructions": "callbacks.figures.reconstructions",
    "callbacks.retrieval": "callbacks.figures.retrieval",
    "callbacks.samples": "callbacks.figures.samples",
    "callbacks.study": "callbacks.figures.study",
    "callbacks.throughput": "callbacks.evaluation.throughput",
    "callbacks.views": "callbacks.figures.views",
    "callbacks.wandb_logger": "callbacks.loggers.wandb",
    "callbacks.watch_test": "callbacks.evaluation.monitor_test_split",
}
CLASSES = {"Map": "FeatureMap", "WatchTest": "MonitorTestSplit"}  # in these modules
# class today -> its options then and today
OPTIONS = {"ssl_modules.barlow_twins.BarlowTwins": {"centre": "center"}}
# options that came since, of all classes of a kind, with the value that runs before them had
ADDED = {
    "model": {"schedule": "cosine", "layer_decay": 1.0, "weight_decay_end": None, "micro_batch": None},
    "data": {"test_size": 0},
}
# options that are gone, by class, with the value that the code still means
REMOVED = {
    "callbacks.evaluation.collapse.Collapse": {"min_spread": 0.02, "min_rank": 1.2},
    "callbacks.figures.clustering.Clustering": {"reduce": "kernel_pca", "cluster": "kmeans"},
}
FIGURE_KEYS = {"neighbours": "neighbors"}  # of the data behind figures

OLD_PATH = re.compile(rf"(?<![\w.])({'|'.join(sorted(map(re.escape, MODULES)))})\.(\w+)(?![\w.])")


def rename_class_paths(text: str) -> str:
    """A text in which every class path is today's; also of a value of the command line, or a whole command."""
    return OLD_PATH.sub(lambda old: f"{MODULES[old[1]]}.{CLASSES.get(old[2], old[2])}", text)


def rename_argument(arg: str) -> str:
    """An argument of the command line as of today: class paths, and the option that it sets."""
    flag, equals, value = rename_class_paths(arg).partition("=")
    way, dot, option = flag.rpartition(".")
    if flag.startswith("--") and dot:
        options = {old: new for names in OPTIONS.values() for old, new in names.items()}
        flag = f"{way}.{options.get(option, option)}"
    return f"{flag}{equals}{value}"


def rename_config(tree: Any) -> Any:
    """A configuration, or a part of it, in today's names and without options that are gone."""
    if isinstance(tree, str):
        return rename_class_paths(tree)
    if isinstance(tree, list):
        return [rename_config(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: rename_config(branch) for key, branch in tree.items()}
    options = OPTIONS.get(tree.get("class_path"), {})
    if options and isinstance(tree.get("init_args"), dict):
        tree["init_args"] = {options.get(key, key): value for key, value in tree["init_args"].items()}
    return drop_removed_options(tree)


def drop_removed_options(block: dict) -> dict:
    """A class and its options without those of REMOVED.

    An option with a value that the code no longer means stays: the parser refuses it, and reports show it.
    """
    removed = REMOVED.get(block.get("class_path"), {}).items()
    if not removed or not isinstance(block.get("init_args"), dict):
        return block
    arguments = {
        option: value for option, value in block["init_args"].items() if (option, value) not in removed
    }
    if not arguments:  # as a class without options is stored
        return {"class_path": block["class_path"]}
    return {**block, "init_args": arguments}


def explain_removed_option(option: str) -> str | None:
    """Say why an option is unknown, if a class once had it."""
    for owner, options in REMOVED.items():
        if option in options:
            return (
                f"it is gone from {owner}, which does what {json.dumps(options[option])} meant: leave it out"
            )
    return None


def rename_figure_keys(tree: Any) -> Any:
    """The data behind a figure in today's names."""
    if isinstance(tree, list):
        return [rename_figure_keys(branch) for branch in tree]
    if isinstance(tree, dict):
        return {FIGURE_KEYS.get(key, key): rename_figure_keys(branch) for key, branch in tree.items()}
    return tree


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """A kept run's whole configuration as one of today would be: today's names, and options that came since."""
    config = rename_config(config)
    for kind, options in ADDED.items():
        block = config.get(kind)
        if isinstance(block, dict) and isinstance(block.get("init_args"), dict):
            block["init_args"] = options | block["init_args"]
    return config
