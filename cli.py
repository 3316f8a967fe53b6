"""The only entry: `python cli.py VERB --config configs/X.yaml`, see `--help`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
VERBS = {
    "fit": "train a method, test it once at the end, and write the report",
    "validate": "the protocol's numbers of a checkpoint on the validation split",
    "test": "the protocol's numbers of a checkpoint on the test split",
    "report": "write report.html of run folders again",
}
HELP = f"""usage: python cli.py VERB [options]

{chr(10).join(f"  {verb:<10}{words}" for verb, words in VERBS.items())}

examples:
  python cli.py fit --config configs/simclr_digits.yaml
  python cli.py fit --config configs/simclr_digits.yaml --trainer.max_epochs 100 --model.init_args.temperature 0.5
  python cli.py fit --config configs/simclr_digits.yaml --ckpt_path last
  python cli.py test --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt
  python cli.py report runs/simclr_digits/version_0

`python cli.py VERB --help` lists a verb's options, `--print_config` prints the whole configuration.
"""


def report(folders: list[str]) -> int:
    """Write report.html of each run folder."""
    from reports.report import write

    if not folders or folders[0].startswith("-"):
        print(
            "usage: python cli.py report RUN_FOLDER ...\n\nexample: python cli.py report runs/simclr_digits/version_0"
        )
        return 0 if folders else 2
    for folder in folders:
        try:
            print(write(Path(folder)))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def main(args: list[str] | None = None) -> int:
    """Exit status. Verbs that need neither model nor data are answered before torch is imported."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if args[0] == "report":
        return report(args[1:])
    if args[0] not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(args[0], VERBS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f": one of {', '.join(VERBS)}"
        print(f"error: no verb {args[0]!r}{hint}", file=sys.stderr)
        return 2
    from launch.lightning_cli import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
