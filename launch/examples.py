"""What to type: the examples that each verb's help ends with. Imports nothing."""

RUN = "--config RUN/config.yaml"
LAST = "--ckpt_path RUN/checkpoints/last.ckpt"
EXAMPLES = {
    "fit": [
        "--config configs/simclr_digits.yaml",
        "--config configs/simclr_digits.yaml --trainer.max_epochs 100 --model.init_args.temperature 0.5",
        "--config configs/simclr_digits.yaml --ckpt_path last",
    ],
    "validate": [f"{RUN} {LAST}"],
    "test": [f"{RUN} {LAST}"],
    "predict": [
        f"{RUN} {LAST} --split test",
        f"{RUN} {LAST} --images photos --output photos.npz",
    ],
    "export": [f"{LAST} --output encoder", f"{LAST} --output encoder --onnx true"],
    "inspect": ["--config configs/simclr_digits.yaml", "--layers configs/layers/coursework.yaml"],
    "report": [
        "runs/simclr_digits/version_0",
        "runs/simclr_cifar10/version_0 --ceiling runs/supervised_cifar10/version_0",
        "runs/simclr_cifar10/version_0 runs/rotnet_cifar10/version_0 --output comparison.html",
    ],
    "results": [
        "runs/*/version_*",
        "runs/simclr_digits/version_* --output results.md",
        "--keep runs/simclr_digits/version_* --pictures curves tsne",
        "",
    ],
}


def format_examples(*verbs: str) -> str:
    """Those of some verbs, of all if none are given."""
    lines = [
        f"  python cli.py {verb} {words}".rstrip() for verb in verbs or EXAMPLES for words in EXAMPLES[verb]
    ]
    return "\n".join([f"example{'s' * (len(lines) > 1)}:", *lines])
