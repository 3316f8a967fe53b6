"""Every command of docs/coursework.md runs, for two steps on small stand-ins."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import PICTURES, command_line

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "coursework.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
FEWER = {"unlabeled": "null", "labels_per_class": "null", "val_size": 0.1}  # the stand-ins have fewer


def shortened(words: list[str], small_data: Path) -> list[str]:
    """Two steps on the CPU; a run on what an earlier command left takes its options from there."""
    options = {}
    if words[0] in ("fit", "inspect") and "--config" in words:
        config = Path(words[words.index("--config") + 1]).read_text(encoding="utf-8")
        options |= {"--data.init_args.data_dir": small_data, "--data.init_args.batch_size": 8}
        options |= {
            f"--data.init_args.{name}": few for name, few in FEWER.items() if f"    {name}:" in config
        }
    if words[0] == "fit":
        options |= {"--trainer.accelerator": "cpu", "--without": f"[WandbLogger, Protocol, {PICTURES}]"}
        options |= {"--trainer.max_epochs": 1, "--trainer.max_steps": 2, "--trainer.limit_val_batches": 1}
        words = [re.sub(r"(keep_every_n_epochs): \d+", r"\1: 1", word) for word in words]
    given = [str(part) for name, value in options.items() if name not in words for part in (name, value)]
    return [*words, *given]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the features have collapsed", "ignore:Study. no picture")
@pytest.mark.usefixtures("untouched_process")
def test_every_command_runs(small_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "data"):
        (tmp_path / name).symlink_to(ROOT / name if name == "configs" else small_data)
    assert len(COMMANDS) >= 20
    for command in COMMANDS:
        python, cli, *words = shlex.split(command)
        assert (python, cli) == ("python", "cli.py")
        assert command_line(*shortened(words, small_data)) == 0, command
    assert {page.name for page in tmp_path.glob("*.html")} == {
        "classifiers.html",
        "two_networks.html",
        "vaes.html",
    }


def test_it_answers_every_course_work():
    assert re.findall(r"^## (\w)\.", TEXT, re.M) == list("ABCDE")
