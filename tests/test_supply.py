"""One list of packages: pyproject.toml. What is imported is in it, and nobody installs anything else."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ROOMS = [
    "model_summary",
    "callbacks",
    "common",
    "datamodules",
    "launch",
    "lightbox",
    "reports",
    "ssl_modules",
]
INSTALLED = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}
MALICIOUS = {
    "lightning": ["2.6.2", "2.6.3"]
}  # GHSA-w37p-236h-pfx3: stole credentials where they were imported
OURS = {path.stem for path in ROOT.iterdir()}


def named(requirements: list[str]) -> set[str]:
    return {Requirement(text).name.lower() for text in requirements}


def imported(file: Path) -> set[str]:
    """Packages, as they are installed, of what a file imports, also inside functions."""
    roots = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    return {INSTALLED.get(root, root).lower() for root in roots - OURS - sys.stdlib_module_names}


def test_what_the_project_imports_is_declared():
    declared = named(PROJECT["dependencies"]).union(*map(named, EXTRAS.values()))
    files = [ROOT / "cli.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    assert {package for file in files for package in imported(file)} <= declared


def test_what_the_tests_import_is_installed_by_the_makefile():
    declared = named(PROJECT["dependencies"]) | named(EXTRAS["dev"]) | {"packaging"}  # pytest brings that
    optional = named([*EXTRAS["onnx"], *EXTRAS["umap"], *EXTRAS["bench"]])  # tests of these are skipped
    files = (ROOT / "tests").rglob("*.py")
    assert {package for file in files for package in imported(file)} - optional <= declared


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_has_a_lowest_version(requirement):
    assert any(part.operator == ">=" for part in Requirement(requirement).specifier), requirement


def test_known_malicious_releases_are_never_installed():
    requirements = [
        Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts
    ]
    by_name = {requirement.name.lower(): requirement.specifier for requirement in requirements}
    for name, versions in MALICIOUS.items():
        assert name in by_name and not any(by_name[name].contains(version) for version in versions), name


@pytest.mark.parametrize("file", ["Makefile", "environment.yml", ".ci/run", "README.md"])
def test_nobody_installs_what_pyproject_does_not_name(file):
    declared = named(PROJECT["dependencies"]).union(*map(named, EXTRAS.values()))
    text = (ROOT / file).read_text(encoding="utf-8")
    for words in re.findall(r"pip install ([^`\n]+)|- (-e .*)", text):
        for word in re.findall(r"[\w.\[\]-]+", "".join(words)):
            project = re.fullmatch(r"\.(?:\[(\w+)\])?", word)
            is_declared = project[1] in {*EXTRAS, None} if project else word.lower() in declared
            assert word.startswith("-") or is_declared, f"{file}: pip install {''.join(words)}"
