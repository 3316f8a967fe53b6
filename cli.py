"""The only entry: `python cli.py VERB --config configs/X.yaml`, see `--help`."""

import os
import sys
from pathlib import Path

from common.hints import nearest_names
from launch.examples import format_examples
from launch.threads import set_spin_count

VERBS = {
    "fit": "train a method, test it once at the end, and write the report",
    "validate": "the protocol's numbers of a checkpoint, or of all kept ones in a folder, on the validation split",
    "test": "the protocol's numbers of a checkpoint on the test split",
    "predict": "features of a split, or of a folder of images, as an .npz file",
    "export": "a checkpoint's encoder as safetensors with a card, and as ONNX",
    "inspect": "a network layer by layer: sizes, receptive fields, parameters, multiply-adds",
    "report": "the page of a run folder, or one that compares several",
    "results": "numbers of several runs as tables in Markdown; without runs RESULTS.md",
}
HELP = f"""usage: python cli.py VERB [options]

{chr(10).join(f"  {verb:<10}{words}" for verb, words in VERBS.items())}

{format_examples()}

`python cli.py VERB --help` lists a verb's options, `--print_config` prints the whole configuration.
"""


def print_layers(file: str) -> int:
    """Print a plain list of layers, from a YAML file, as a network."""
    import torch
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from model_summary.layer_list import build_network, read_layer_list
    from model_summary.summary import format_summary, trace_layers

    try:
        layers, shape = build_network(read_layer_list(Path(file)))
    except MisconfigurationException as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    view = torch.zeros(1, *shape)
    print(format_summary(trace_layers(layers, view), view))
    return 0


def main(args: list[str] | None = None) -> int:
    """Exit status. Verbs that need neither model nor data are answered before torch is imported."""
    set_spin_count(os.environ)
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if args[0] in ("report", "results"):
        from launch import report_commands

        run_command = getattr(report_commands, f"run_{args[0]}")
        return run_command(args[1:])
    if args[0] == "inspect" and args[1:2] == ["--layers"] and len(args) == 3:
        return print_layers(args[2])
    if args[0] not in VERBS:
        near = nearest_names(args[0], VERBS)
        hint = f", did you mean {near[0]!r}?" if near else f": one of {', '.join(VERBS)}"
        print(f"error: no verb {args[0]!r}{hint}", file=sys.stderr)
        return 2
    if args[0] == "export":
        from launch.export import run_export

        return run_export(args)
    from launch.lightning_cli import run_verb

    return run_verb(args)


def run_as_program() -> int:
    """Run the command line's arguments; Ctrl-C outside training, which has more to say, is one line."""
    try:
        return main()
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run_as_program())
