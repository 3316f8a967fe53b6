"""`cli.py export`: what is loaded back computes what the checkpoint computes, and the card says how."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import command_line
from tests.errors import read_only_error
from tests.runs import build, write_run
from tests.test_readme import FILES

ENCODERS = {
    "resnet": ("resnet.ResNet", {"widths": [8, 16], "blocks": [1, 1]}),
    "timm": ("timm_model.Timm", {"name": "test_resnet", "pretrained": False}),
    "lab pair": ("lab_pair.LabPair", {"widths": [8], "blocks": [1]}),
    "vae": ("vae.VAEConv", {"size": 16, "width": 8, "stages": 2, "latent": 8}),
    "lstm": ("char_lstm.CharLSTM", {"hidden_dim": 8}),
}
pytestmark = pytest.mark.usefixtures("untouched_process")


def spec_of(name: str) -> dict:
    path, arguments = ENCODERS[name]
    return {"class_path": f"ssl_modules.networks.{path}", "init_args": arguments}


@pytest.fixture(scope="module", params=ENCODERS)
def run(request, tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("runs") / "experiment" / "version_0"
    return request.param, write_run(folder, spec_of(request.param), data_dir, text=request.param == "lstm")


def trained(ckpt: Path, name: str) -> torch.nn.Module:
    """The encoder with the checkpoint's weights, loaded by hand."""
    encoder, weights = build(spec_of(name)), torch.load(ckpt, weights_only=True)["state_dict"].items()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights if k.startswith("encoder.")})
    return encoder.eval()


def example(name: str, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if name == "lstm":
        return torch.randint(32, 127, (count, 12), generator=generator)
    return torch.rand(count, 3, 16, 16, generator=generator)


def test_loaded_back_it_computes_the_same(run, tmp_path):
    name, ckpt = run
    assert command_line("export", "--ckpt_path", ckpt, "--output", tmp_path) == 0
    card = json.loads((tmp_path / "card.json").read_text())
    loaded = build(card["encoder"])
    loaded.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    view = example(name)
    with torch.no_grad():
        expected = trained(ckpt, name)(view)
        torch.testing.assert_close(loaded.eval()(view), expected, atol=1e-5, rtol=0)
    assert card["encoder"]["dim"] == expected.shape[1]
    shape = ["B", "T"] if name == "lstm" else ["B", 3, 16, 16]
    assert card["input"]["shape"] == shape and card["commit"] == "3f9c2ab" and card["step"] == 2
    assert card["numbers"] == {"test/knn20_top1": 0.1, "test/probe_top1": 0.5}


def test_the_readmes_lines_load_it(tmp_path, data_dir, monkeypatch, capsys):
    ckpt = write_run(tmp_path / "run", spec_of("resnet"), data_dir)
    assert command_line("export", "--ckpt_path", ckpt, "--output", tmp_path / "encoder") == 0
    (tmp_path / "load_encoder.py").write_text(FILES["load_encoder.py"])
    monkeypatch.chdir(tmp_path)
    variables = runpy.run_path("load_encoder.py")
    assert variables["features"].shape == (2, 16)
    assert "lightning" not in FILES["load_encoder.py"]
    with torch.no_grad():
        torch.testing.assert_close(
            variables["encoder"](example("resnet")), trained(ckpt, "resnet")(example("resnet"))
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.onnx
@pytest.mark.parametrize("name", ["resnet", "timm", "lab pair", "vae"])
def test_onnx_computes_the_same_for_any_number_of_images(name, tmp_path, data_dir):
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    ckpt = write_run(tmp_path / "run", spec_of(name), data_dir)
    assert command_line("export", "--ckpt_path", ckpt, "--output", tmp_path, "--onnx", "true") == 0
    session = runtime.InferenceSession(tmp_path / "encoder.onnx")
    for count in (1, 5):
        view = example(name, count)
        (features,) = session.run(["features"], {"input": view.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(features), trained(ckpt, name)(view), atol=1e-5, rtol=0
            )


def test_what_is_missing_is_told_in_one_line(tmp_path, data_dir, capsys, monkeypatch):
    ckpt = write_run(tmp_path / "run", spec_of("resnet"), data_dir)
    capsys.readouterr()
    out = ["--output", tmp_path / "encoder"]
    assert "nowhere.ckpt: no such file" in read_only_error(
        capsys, "export", "--ckpt_path", "nowhere.ckpt", *out
    )
    (tmp_path / "broken.ckpt").write_bytes(ckpt.read_bytes()[:-100])
    assert "cannot be read" in read_only_error(
        capsys, "export", "--ckpt_path", tmp_path / "broken.ckpt", *out
    )
    config = ckpt.parent.parent / "config.yaml"
    plan = yaml.safe_load(config.read_text())
    plan["model"]["init_args"]["encoder"]["init_args"]["widths"] = [8, 24]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(plan))
    error = read_only_error(capsys, "export", "--ckpt_path", ckpt, *out, "--config", tmp_path / "other.yaml")
    assert "its encoder is not the config's" in error and "stages.1" in error
    config.rename(tmp_path / "moved.yaml")
    assert "by --config" in read_only_error(capsys, "export", "--ckpt_path", ckpt, *out)
    assert not (tmp_path / "encoder").exists()
    assert command_line("export", "--ckpt_path", ckpt, *out, "--config", tmp_path / "moved.yaml") == 0
    monkeypatch.setattr("launch.onnx_file.import_module", lambda name: exec("raise ImportError"))
    capsys.readouterr()
    args = ["--ckpt_path", ckpt, *out, "--config", tmp_path / "moved.yaml", "--onnx", "true"]
    plan["data"]["init_args"]["size"] = 16
    assert command_line("export", *args) == 2
    assert re.search("size|pip install onnx", capsys.readouterr().err)


def test_numbers_of_another_step_are_not_the_checkpoints(tmp_path, data_dir):
    ckpt = write_run(tmp_path / "run", spec_of("resnet"), data_dir)
    (tmp_path / "run" / "metrics.csv").write_text("epoch,step,test/probe_top1\n1,2,0.5\n9,40,0.9\n")
    assert command_line("export", "--ckpt_path", ckpt, "--output", tmp_path) == 0
    assert json.loads((tmp_path / "card.json").read_text())["numbers"] == {}
