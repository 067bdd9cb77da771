"""The house: imports run one way, packages are listed, the wheel is whole, presets load."""

import ast
import functools
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.diffusion import HashedWords, store_texts
from sfumato.diffusion.plan import check_recipe
from sfumato.diffusion.whole_file import file_hash
from sfumato.tools.arguments import preset_names, read_config
from sfumato.tools.train import recipe_from, resolve_recipe

ROOT = Path(__file__).parents[1]
FOLDERS = ("schedules", "samplers", "guidance", "diffusion", "tools")
MAY_IMPORT = {
    "schedules": set(),
    "samplers": {"schedules"},
    "guidance": {"schedules"},
    "diffusion": {"schedules", "samplers", "guidance"},
    "tools": {"schedules", "samplers", "guidance", "diffusion"},
}
FILES = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


@functools.cache
def imports(path):
    """(module, level) of every import statement, at the top or within a function."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
        elif isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    parts = path.relative_to(ROOT).parts
    folder, depth = parts[0], len(parts) - 1
    for module, level in imports(path):
        if level == 0:
            assert module.split(".")[0] not in ("sfumato", *FOLDERS, "tests"), (
                f"{path}: import ourselves relatively, not as {module}"
            )
        elif level > depth:  # out of the folder
            assert level == depth + 1, f"{path}: {module} is outside the package"
            assert module.split(".")[0] in MAY_IMPORT[folder], f"{path}: {folder} may not import {module}"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("accelerate", {"diffusion/launch.py"}),
        ("xformers", {"diffusion/backbones/attention.py"}),
        (
            "diffusers",
            {
                "samplers/diffusers_scheduler.py",
                "guidance/guiders/diffusers_guider.py",
                "tools/bench/peers.py",
                "tools/bench/peer_networks.py",
                "diffusion/vae.py",
                "diffusion/export/native.py",
                "diffusion/pipelines/library.py",
            },
        ),
        ("torchao", {"diffusion/int8_linear.py"}),
        (
            "torchmetrics",
            {
                "diffusion/measuring/accumulate.py",
                "diffusion/measuring/collect.py",
                "tools/bench/evaluate.py",
                "tools/bench/peers.py",
            },
        ),
        (
            "transformers",
            {
                "diffusion/hugging_face_text.py",
                "diffusion/pipelines/library.py",
                "diffusion/measuring/transformers_extractor.py",
            },
        ),
        ("k_diffusion", set()),
        ("gradio", {str(p.relative_to(ROOT)) for p in (ROOT / "tools/demo").glob("*.py")}),
        ("torchvision", set()),
        ("pickle", set()),
        ("jsonargparse", {"tools/resolve.py"}),
        ("sklearn", {"diffusion/data.py"}),
        ("datasets", {"diffusion/hub_data.py"}),
        ("pyarrow", {"diffusion/hub_data.py"}),
        (
            "matplotlib",
            {
                "tools/curves/figure.py",
                "tools/demo/path_figures.py",
                "tools/demo/svg.py",
                "tools/plots.py",
                "tools/run_plot.py",
                "tools/schedule_figure.py",
                "tools/schedule_lines.py",
            },
        ),
    ],
)
def test_a_library_lives_in_its_own_file(library, homes):
    found = {
        str(p.relative_to(ROOT))
        for p in FILES
        for module, level in imports(p)
        if level == 0 and module.split(".")[0] == library
    }
    assert found <= homes


def test_nothing_unpickles_and_only_tools_print():
    for path in FILES:
        text = path.read_text()
        for word in ("torch.load(", "pickle.load", "weights_only=False"):
            assert word not in text, path
        if path.parts[len(ROOT.parts)] != "tools":
            assert not [
                n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"
            ], path


def test_the_packages_are_those_of_the_tree():
    listed = set(CONFIG["tool"]["setuptools"]["packages"])
    found = [p for folder in (*FOLDERS, "configs") for p in (ROOT / folder).rglob("__init__.py")]
    tree = {"sfumato." + ".".join(p.parent.relative_to(ROOT).parts) for p in found}
    assert listed == tree


def test_the_top_level_folders_are_the_agreed_ones():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    folders = {line.split("/")[0] for line in tracked if "/" in line and not line.startswith(".")}
    assert folders <= {"diffusion", "samplers", "schedules", "guidance", "configs", "tests", "tools"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_are_documented_and_take_no_kwargs(path):
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            overloads = [d for d in getattr(node, "decorator_list", []) if getattr(d, "id", "") == "overload"]
            assert overloads or ast.get_docstring(node), f"{path}: {node.name} has no docstring"
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                assert inner.args.kwarg is None, f"{path}: {inner.name} swallows keyword arguments"


def root_of(name, folder):
    """What a user says beside a preset's name: where the data are, if they are in a folder."""
    data = read_config(name)["data"]
    given = data.get("init_args", {}) if isinstance(data, dict) else {}
    told = [(f"data.{key}", str(folder)) for key in ("root", "folder") if key in given]
    return told + ([("text.folder", str(folder / "text"))] if told and "text" in read_config(name) else [])


def make_data(name, folder):
    """A folder as a preset's data set wants it, with next to nothing in it."""
    config = read_config(name)
    network = config["backbone"]["init_args"]
    if config["data"]["class_path"] == "LatentArray":
        shape = [network["channels"], network["size"], network["size"]]
        np.save(folder / "mean.npy", np.zeros((1, *shape), np.float16))
        np.save(folder / "labels.npy", np.zeros(1, np.int64))
        (folder / "captions.json").write_text('[["a red boat"]]')
        store_texts(["a red boat"], HashedWords(width=network.get("text_width", 8)), folder / "text")
        names = ("mean.npy", "labels.npy", "captions.json")
        files = {file: {"sha256": file_hash(folder / file), "bytes": 0} for file in names}
        about = {"format": 1, "number": 1, "shape": shape, "num_classes": network.get("num_classes", 1), "files": files}
        (folder / "latents.json").write_text(
            json.dumps({**about, "shift": [0.0], "scaling": [1.0], "vae": {"folder": "nowhere"}})
        )
        return
    for label in range(network.get("num_classes", 0)):
        (folder / f"{label:04}").mkdir()
        (folder / f"{label:04}" / "image.png").touch()  # it is there; what it shows is not looked at


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_fit(name, tmp_path):
    given = root_of(name, tmp_path)
    if given:
        make_data(name, tmp_path)
    with torch.device("meta" if given else "cpu"):  # of these the largest has 300 million weights
        recipe = recipe_from(resolve_recipe(name, given, []), [])
    check_recipe(recipe)


def test_the_wheel_is_whole(tmp_path):
    """Built, installed alone into a fresh environment beside the dependencies present here, every sub-package and preset imported."""
    source = tmp_path / "source"  # a copy, since a build leaves its own folder behind
    for folder in (*FOLDERS, "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        str(tmp_path),
    ]
    subprocess.run([*build, str(source)], check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if n.startswith(("tests", "guidance/", "schedules/"))]
    assert "sfumato/__init__.py" not in names
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    # a .pth line adds a folder without obeying the .pth files in it, so the editable install there stays out of sight
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    zipfile.ZipFile(wheel).extractall(site)
    packages = CONFIG["tool"]["setuptools"]["packages"]
    roots = {name: root_of(name, tmp_path / name) for name in preset_names()}
    for name in [n for n, given in roots.items() if given]:
        (tmp_path / name).mkdir()
        make_data(name, tmp_path / name)
    code = (
        f"import importlib, sys\nfor name in {packages!r}:\n    m = importlib.import_module(name)\n"
        f"    assert m.__file__.startswith({str(site)!r}), m.__file__\n"
        "from sfumato.tools.arguments import preset_names\nfrom sfumato.tools.train import resolve_recipe\n"
        f"assert preset_names() == {preset_names()!r}\nimport torch\n"
        f"for n, pairs in {roots!r}.items():\n    with torch.device('meta' if pairs else 'cpu'):\n        resolve_recipe(n, pairs, [])\n"
        "assert 'sfumato.schedules' in sys.modules and 'guidance' not in sys.modules\nprint('whole')\n"
    )
    python = tmp_path / "env" / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "whole", done.stderr
