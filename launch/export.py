"""`cli.py export`: a checkpoint's encoder as a folder that stands alone: weights, a card, and ONNX by option."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from safetensors.torch import save_file
from torch import Tensor, nn

from common.checkpoint import encoder_weights, read_checkpoint
from common.metrics import read_name
from launch.allowed_classes import restrict_classes
from launch.examples import format_examples
from launch.folders import atomic_output
from launch.onnx_file import write_onnx
from launch.parser import Help, Parser, explain_parse_error, join_lines
from reports.run import NoRunError, Run, get_nested, load_run
from ssl_modules.weights import check_finite_weights, state_dict_mismatch

ROOT = Path(__file__).parent.parent


def export_encoder(
    ckpt_path: Path,
    output: Path,
    config: Path | None = None,
    onnx: bool = False,
    allow_any_class: bool = False,
) -> None:
    """Write a checkpoint's encoder to a folder: encoder.safetensors, card.json and, by option, encoder.onnx.

    The card says how to build the encoder, what it reads, and where it comes from. The README shows how to load it.

    Args:
        ckpt_path: the checkpoint, of any method.
        output: the folder; it is made if it is not there.
        config: the config.yaml of the run; the one in the checkpoint's run folder if not given.
        onnx: also write encoder.onnx, for any number of examples; needs the packages onnx and onnxscript.
        allow_any_class: let the config name classes that are neither the project's nor of its libraries.
    """
    checkpoint, config = read_checkpoint(ckpt_path, "cpu"), config or ckpt_path.parent.parent / "config.yaml"
    plan, run = read_config(config), read_run(config.parent)
    spec = encoder_spec(plan, config)
    encoder = build_class(spec, nn.Module).eval()
    load_weights(encoder, checkpoint, ckpt_path)
    shape = {"input": describe_inputs(plan, checkpoint, run)}
    check_finite_features(encoder, shape["input"], ckpt_path)
    with atomic_output(output / "encoder.safetensors") as path:
        save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, path)
    with atomic_output(output / "card.json") as path:
        card = {"encoder": spec | {"dim": encoder.dim}, **shape, **trace_origin(plan, checkpoint, run)}
        path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(
        f"{output / 'encoder.safetensors'}: {spec['class_path']}, {encoder.dim} features\n{output / 'card.json'}"
    )
    if onnx:
        write_onnx(encoder, make_example_views(shape["input"]), output / "encoder.onnx")
        print(output / "encoder.onnx")


def run_export(args: list[str]) -> int:
    """Exit status of `cli.py export ARGS`; what a user can put right is said in one line."""
    sys.argv[1:] = args
    restrict_classes(ROOT, args)
    parser = Parser(
        prog="cli.py export", epilog=format_examples("export"), formatter_class=Help, allow_abbrev=False
    )
    parser.add_function_arguments(export_encoder)
    try:
        export_encoder(**vars(parser.parse_args(args[1:])))
    except MisconfigurationException as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_config(path: Path) -> dict:
    if not path.is_file():
        raise MisconfigurationException(
            f"there is no {path}: give the config.yaml of the run that the checkpoint comes from by --config"
        )
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise MisconfigurationException(f"{path} is not valid YAML: {join_lines(str(error))}") from error
    return plan if isinstance(plan, dict) else {}


def read_run(folder: Path) -> Run | None:
    """The run folder around a config, if it is one."""
    try:
        return load_run(folder)
    except NoRunError:
        return None


def encoder_spec(plan: dict, config: Path) -> dict:
    """class_path and init_args of the encoder; weights of somebody else are not downloaded to be replaced."""
    spec = get_nested(plan, "model", "init_args", "encoder")
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise MisconfigurationException(
            f"{config}: no model.init_args.encoder with a class_path: give the config.yaml of the checkpoint's run"
        )
    arguments = drop_pretrained_weights(spec.get("init_args") or {})
    return {"class_path": spec["class_path"], "init_args": arguments}


def drop_pretrained_weights(block: Any) -> Any:
    """A block of a config without weights of somebody else, also of networks inside it: `pretrained` is false."""
    if isinstance(block, list):
        return [drop_pretrained_weights(part) for part in block]
    if not isinstance(block, dict):
        return block
    return {
        key: False if key == "pretrained" and part is True else drop_pretrained_weights(part)
        for key, part in block.items()
    }


def build_class(spec: dict, base: type) -> Any:
    """class_path and init_args -> the object, of a subclass of `base`, as the command line would."""
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(base, "it")
    try:
        return parser.instantiate_classes(parser.parse_object({"it": spec})).it
    except (ArgumentError, TypeError, ValueError) as error:
        raise MisconfigurationException(
            f"cannot build {spec['class_path']} as the config says: {explain_parse_error(str(error), [], parser)}"
        ) from error


def load_weights(encoder: nn.Module, checkpoint: dict, path: Path) -> None:
    weights = encoder_weights(checkpoint)
    if mismatch := state_dict_mismatch(encoder.state_dict(), weights):
        raise MisconfigurationException(
            f"{path}: its encoder is not the config's: {mismatch}. Give the config.yaml of its run by --config"
        )
    check_finite_weights(encoder, weights, str(path))
    encoder.load_state_dict(weights)


@torch.no_grad()
def check_finite_features(encoder: nn.Module, reads: dict, path: Path) -> None:
    """Raise where features of noise are NaN or infinite; nothing is asked where the size of images is not known."""
    if None not in reads["shape"] and not encoder(make_example_views(reads)).isfinite().all():
        raise MisconfigurationException(
            f"{path}: its encoder's weights are finite and its features of noise are not: its training diverged, give "
            "an earlier checkpoint"
        )


def describe_inputs(plan: dict, checkpoint: dict, run: Run | None) -> dict:
    """What the encoder reads: shape and type of a view, and the data module's state, such as mean and std."""
    data = build_class(plan["data"], LightningDataModule) if get_nested(plan, "data", "class_path") else None
    state = checkpoint.get(type(data).__qualname__) or {}
    if "mean" not in state:
        return {"shape": ["B", "T"], "dtype": "int64", **state}
    stored = get_nested(run.provenance, "image_size") if run else None
    side = data.size or data.center_crop or (stored[0] if stored else None)
    return {"shape": ["B", len(state["mean"]), side, side], "dtype": "float32", **state}


def trace_origin(plan: dict, checkpoint: dict, run: Run | None) -> dict:
    """Method, data, and where the numbers come from; of these only what was measured at the checkpoint's step."""
    step, provenance = checkpoint.get("global_step"), run.provenance if run else {}
    columns = run.metrics if run else {}
    numbers = {
        name: run.last(name)
        for name, series in sorted(columns.items())
        if read_name(name).in_protocol and abs(series.step[-1] - step) <= 1
    }
    return {
        "method": get_nested(plan, "model", "class_path"),
        "data": get_nested(plan, "data", "class_path"),
        "experiment": run.experiment if run else None,
        "epoch": checkpoint.get("epoch"),
        "step": step,
        "numbers": numbers,
        "commit": provenance.get("commit"),
        "uncommitted_changes": provenance.get("dirty"),
    }


def make_example_views(reads: dict) -> Tensor:
    """Two views of the shape on the card: noise in [0, 1], normalized, or texts of nine letters."""
    if reads["dtype"] == "int64":
        return torch.full((2, 9), ord("a"))
    if None in reads["shape"]:
        raise MisconfigurationException(
            "--onnx true: nothing says how large the images are: give by --config a config with data.init_args.size"
        )
    pixels = torch.rand(2, *reads["shape"][1:], generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(reads[name])[:, None, None] for name in ("mean", "std"))
    return (pixels - mean) / std
