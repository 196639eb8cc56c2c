"""The walls of the house: who may import whom, what stays light, what documents stay true."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from medssl import config, loading, reference
from medssl.files import read_table
from medssl.methods import METHODS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "medssl"
LAYERS = [
    {"errors", "__init__"},
    {"files"},
    {"config"},
    {"loading"},
    {"formats"},
    {"cohort"},
    {"store", "runs", "synthetic", "reference", "stats"},
    {"decode", "check", "originals", "overview"},
    {"models", "views", "evaluate"},
    {"methods"},
    {"train"},
    {"finetune"},
    {"infer"},
    {"export", "external", "looked", "preview", "suggest"},
    {"demo", "serve", "sbatch", "terminal", "exits"},
    {"cli"},
]
ROOMS = {
    "torch": {
        "models",
        "views",
        "methods",
        "train",
        "finetune",
        "infer",
        "export",
        "looked",
        "preview",
    },
    "pytorch_lightning": {"train/loop", "train/world"},
    "lightly": {"models/heads", "train/optim", "methods/barlow_twins", "methods/vicreg"},
    "timm": {"models/depths", "models/encoder", "models/foreign", "models/tokens"},
    "monai": {"models/encoder", "models/volume_vit"},
    "safetensors": {"models/weights", "models/foreign", "models/unpack", "export"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "tensorboard": {"train/trackers"},
    "mlflow": {"train/trackers"},
    "wandb": {"train/trackers"},
    "psutil": {"files", "runs", "overview", "train"},
    "pydicom": {"formats", "synthetic"},
    "nibabel": {"formats", "synthetic"},
    "PIL": {"formats"},
    "sklearn": {"evaluate", "stats", "finetune"},
    "scipy": {"stats", "synthetic"},
    "statsmodels": {"stats"},
    "matplotlib": {"evaluate/report/figures", "evaluate/report/figures_curves"},
    "weasyprint": {"evaluate/report/pdf"},
    "jinja2": {"evaluate/report/write"},
    "openpyxl": {"cohort/sheets"},
    "distributed": {"formats/cluster"},
    "dask": {"formats/cluster"},
    "yaml": {"loading"},
    "pydantic": {
        "config",
        "loading",
        "evaluate/report/schema",
        "evaluate/report/schema_parts",
        "evaluate/report/schema_more",
    },
    "typer": {"cli", "terminal", "exits"},
    "rich": {"terminal"},
    "multiprocessing": {"formats/worker"},
}
NEVER = {
    "lightning",
    "hydra",
    "omegaconf",
    "gdcm",
    "libjpeg",
    "pickle",
    "pynetdicom",
    "streamlit",
    "pandas",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def layer_of(name):
    head = name.split("/")[0]
    return next(k for k, layer in enumerate(LAYERS) if head in layer)


def imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            if node.module == "medssl":
                yield from (f"medssl.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    own = name_of(path)
    for module in imports(path):
        head, *rest = module.split(".")
        if head == "medssl" and rest and rest[0] != "__version__":
            same_room = rest[0] == own.split("/")[0]
            assert same_room or layer_of(rest[0]) < layer_of(own), f"{own} imports {module}"
        assert head not in NEVER, f"{own} imports {module}"
        if head in ROOMS:
            assert {own, own.split("/")[0]} & ROOMS[head], f"{own} imports {module}"


def test_a_wrong_import_would_be_seen(tmp_path):
    """The test above bites."""
    assert layer_of("formats/dicom") < layer_of("store")
    path = tmp_path / "x.py"
    path.write_text("from medssl import cli\nimport torch.nn\n")
    assert set(imports(path)) == {"medssl", "medssl.cli", "torch.nn"}


@pytest.mark.parametrize(
    "module",
    ["medssl.cli", "medssl.cohort.scan", "medssl.store", "medssl.evaluate.evaluate", "medssl.runs"],
)
def test_light_at_the_door(module):
    """Scanning a share and reading a report need no torch; the command line not even pydicom."""
    heavy = ["torch", "pytorch_lightning", "monai", "lightly", "timm"]
    heavy += ["pydicom", "numpy", "pyarrow", "pydantic"] if module == "medssl.cli" else []
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "[]"


def test_apps_know_their_place():
    allowed = {"runs", "infer", "cohort", "store", "evaluate", "config", "loading", "errors"}
    allowed |= {"files", "stats", "originals", "looked", "preview"}
    for path in (ROOT / "apps").rglob("*.py"):
        for module in imports(path):
            head, *rest = module.split(".")
            assert head not in {"torch", "pytorch_lightning", "monai", "pydicom"}
            assert head != "medssl" or not rest or rest[0] in allowed, f"{path} imports {module}"


GATES = {
    r"(?<![.\w])(eval|exec)\(|pickle\.|yaml\.unsafe|allow_pickle=True|weights_only=False": set(),
    r"shell=True|extractall\(|monai\.bundle|_target_": set(),
    r"torch\.load\(": {"train/checkpoints", "models/unpack"},
    r"torch\.save\(": {"train/checkpoints"},
    r"\.pixel_array\b|force=True": set(),
    r"(?<![.\w])hash\(|read_csv\(": set(),
    r"(?<![.\w])print\(": set(),
    r"unsafe_allow_html|enableXsrfProtection *= *false": set(),
}


@pytest.mark.parametrize("pattern", sorted(GATES))
def test_gates(pattern):
    for path in [*FILES, *(ROOT / "apps").rglob("*.py")]:
        name = name_of(path) if PACKAGE in path.parents else path.name
        if name not in GATES[pattern]:
            assert not re.search(pattern, path.read_text()), name


def test_file_lengths():
    """A file over 450 lines is two rooms."""
    long = {name_of(p): n for p in FILES if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def test_reference_is_current():
    """Regenerate with: make reference."""
    assert (ROOT / "configs" / "REFERENCE.md").read_text() == reference.markdown()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_configs_load_and_open_with_their_command(path):
    head = path.read_text().splitlines()[0]
    assert head.startswith("# ")
    if "base" in path.name:
        return
    model = {"pretrain": config.PretrainConfig, "finetune": config.FinetuneConfig,
             "evaluate": config.EvaluateConfig}[path.parent.name]  # fmt: skip
    loading.load(config.ChainConfig if loading.has_stages(path) else model, path)
    text = path.read_text()
    for part in ("# Command: medssl ", "# Cost: ", "# Expected: "):
        assert part in text, f"{path.name} lacks {part!r}"


def test_configs_expect_what_was_measured():
    """Every figure of a header is a stored result, every stored result of a config is in its header."""
    folder = ROOT / "docs" / "results"
    stored = defaultdict(set)
    for row in read_table(folder / "recipes.csv"):
        numbers = {row[k] for k in ("value", "lower", "upper")} - {""}
        stored[row["config"]] |= numbers
        page = (folder / row["source"]).read_text()
        assert all(n in page for n in numbers), row
    for path in (ROOT / "configs").glob("*/*.yaml"):
        name = path.relative_to(ROOT / "configs").as_posix()
        expected = re.search(r"^# Expected:(.*(?:\n#.*)*)", path.read_text(), re.MULTILINE)
        told = set(re.findall(r"\b0\.\d{3}\b", expected[1])) if expected is not None else set()
        assert told == stored.pop(name, set()), name
    assert not stored, "results of configs that are gone"


def test_readme_tree_is_current():
    readme = (ROOT / "README.md").read_text()
    for path in sorted(PACKAGE.iterdir()):
        if path.name != "__pycache__" and not path.name.startswith("__"):
            assert re.search(rf"\b{re.escape(path.name)}", readme), (
                f"README's tree lacks {path.name}"
            )


def test_lock_holds_the_floors():
    """The lock pins with hashes, names no index, and never a malicious or forbidden release."""
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "index-url" not in lock
    assert "find-links" not in lock
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", lock, re.MULTILINE))
    assert not {"lightning", "pylibjpeg-libjpeg", "lightly-train"} & set(pinned)
    floors = {"pytorch-lightning": (2, 6, 6), "pydicom": (3, 0, 2), "torch": (2, 10), "pillow": (12, 2),
              "monai": (1, 6, 1), "streamlit": (1, 64), "starlette": (1, 1), "safetensors": (0, 8)}  # fmt: skip
    for name, floor in floors.items():
        assert tuple(map(int, pinned[name].split("."))) >= floor, name


def test_every_method_has_its_file():
    for target in METHODS.values():
        assert (ROOT / (target.partition(":")[0].replace(".", "/") + ".py")).is_file()


def test_no_words_about_machines():
    """Nothing tracked names a path of some machine or a registry's address."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    hosts = ["py" + r"pi\.org", "python" + "hosted", "npm" + "js", "deb" + r"\.debian"]
    pattern = re.compile("|".join([*hosts, r"/(work|farm|root)/[\w.-]+"]))
    for name in listed:
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".yaml", ".toml", ".lock", ""}
            and path.is_file()
            and path.name != Path(__file__).name
        ):
            assert not pattern.search(path.read_text(errors="ignore")), name
