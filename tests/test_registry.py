"""What must be said in several places is said in all of them, and modules import downwards only."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import bounds
import cases
import pytest
import reference
import reference_training as training
import test_gradcheck
import test_losses as losses_alone
import test_optimizers_numeric
import test_reference
import test_same_bits
from agreement import activation

import bpcore
from bpcore import _core
from bpcore.initializers import INITIALIZERS
from bpcore.layers import ACTIVATIONS
from bpcore.losses import LOSSES
from bpcore.optimizers import OPTIMIZERS

SOURCE = Path(bpcore.__file__).parent

# A module may import those of its own group and of the groups above it in this list.
GROUPS = [
    {"errors", "frames"},
    {"_core", "arguments", "checks", "configured", "foreign", "threads"},
    {"initializers", "layer_base", "dense", "layers", "losses", "customloss"}
    | {"schedules", "optimizers", "functions"},
    {"least_squares"},
    {"architecture", "generators", "passes", "copies", "network", "training", "fitrun", "progress"}
    | {"history", "raterange", "callbacks", "csvlogger", "metrics", "classweights"}
    | {"curves", "pictures"}
    | {"unfinished", "health", "healthfigures", "healthreport", "watch"},
    {"truepass", "suspects", "factors", "wrongslopes", "wrongerrors", "wrongways", "matching"}
    | {"wrongforwards", "scaling"}
    | {"blame", "givengradients", "explanation", "diagnose"}
    | {"gradcheck", "gradlines", "gradhints", "gradreport", "differences", "noise"}
    | {"checkpoint", "tensorfile", "files", "weights"}
    | {"plot", "plotgradients", "plotnetwork", "outputs", "measures"}
    | {"axis", "htmltext", "svg", "htmlreprs", "htmlresults", "pagestyle", "htmlreport"}
    | {"onnx", "onnxexport", "onnxforms", "onnxgraph", "onnximport", "onnxmatch"}
    | {"cexport", "cheader", "csource", "cparts", "ckernels", "cfixed", "cnames"}
    | {"fixedpoint", "fixedtable"}
    | {"estimatorparts", "estimatorfit", "estimatorfitted", "estimator"}
    | {"classifier", "regressor", "sklearn"},
    {"tables", "csvfiles", "arrayfiles", "tablefiles", "encoding", "cli", "__main__"}
    | {f"commands.{name}" for name in ("report", "options", "inputs", "scores", "proof")}
    | {f"commands.{name}" for name in ("batches", "train_options", "train_report", "train")}
    | {f"commands.{name}" for name in ("predict", "check", "explain", "export", "info", "bench")},
]
RANKS = {module: rank for rank, group in enumerate(GROUPS) for module in group}
# Methods that are there for convenience, and import when they are called.
UPWARDS = {
    ("copies", "weights"),
    ("customloss", "gradcheck"),
    ("healthreport", "htmlreprs"),
    ("healthreport", "plotgradients"),
    ("history", "htmlreprs"),
    ("history", "plot"),
    ("network", "checkpoint"),
    ("network", "gradcheck"),
    ("pictures", "htmlreprs"),
    ("pictures", "plotnetwork"),
    ("raterange", "plot"),
}
# Where each dependency that is slow, or not always installed, is imported: inside functions only.
LAZY = {
    "safetensors": {"tensorfile"},
    "pandas": {"frames", "tables"},
    "matplotlib": {"plot"},
    "tqdm": {"progress"},
    "onnx": {"onnxgraph"},
}
# Where they are imported at the top: by modules that are of no use without them.
NEEDED = {
    "sklearn": {"sklearn", "classifier", "regressor"}
    | {"estimator", "estimatorfit", "estimatorfitted"},
    "scipy": {"estimatorfit"},
}
PACKAGES = ("bpcore", "bpcore.commands")
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if path.stem != "__init__"
)


def test_activations():
    named = {name for name in ACTIVATIONS if name != "softmax"}
    named |= {"gelu_tanh"}  # an argument of GELU
    assert named == set(_core.activation_names()) == set(reference.ACTIVATIONS)
    for name in named:
        layer = activation(name)
        assert layer.kernel == name
        assert layer.parameter == reference.ACTIVATIONS[name].parameter, name
        assert layer.rectifier == reference.ACTIVATIONS[name].rectifier, name
    for name, cls in ACTIVATIONS.items():
        assert cls.name == name and getattr(bpcore, cls.__name__) is cls
        assert cls.__name__ in bpcore.__all__ and cls.__name__ in bpcore.layers.__all__
        assert "Examples" in (cls.__doc__ or ""), f"{cls.__name__} needs a docstring"


def test_losses():
    assert set(LOSSES) == set(_core.loss_names()) == set(reference.LOSSES) == set(bounds.LOSSES)
    for name, make in LOSSES.items():
        assert make().kernel == name
        assert getattr(bpcore, type(make()).__name__) is type(make())


def test_optimizers():
    assert set(OPTIMIZERS) == set(_core.optimizer_names()) == set(training.OPTIMIZERS)
    for name, cls in OPTIMIZERS.items():
        assert cls().kernel == name and getattr(bpcore, cls.__name__) is cls


def test_tests_leave_no_loss_out():
    tables = {
        "PYTORCH_LOSSES of test_reference": test_reference.PYTORCH_LOSSES,
        "HEADS of cases": {head.loss for head in cases.HEADS},
        "LOSSES of test_losses": {losses_alone.formula(n).name for n in losses_alone.LOSSES},
        "LOSSES of test_gradcheck": test_gradcheck.LOSSES,
    }
    for table, names in tables.items():
        assert set(names) == set(LOSSES), table


def test_tests_leave_no_optimizer_out():
    tables = {
        "SLOTS of reference_training": training.SLOTS,
        "PYTORCH_OPTIMIZERS of test_reference": [r[0] for r in test_reference.PYTORCH_OPTIMIZERS],
        "SETTINGS of test_optimizers_numeric": [
            r[0] for r in test_optimizers_numeric.SETTINGS.values()
        ],
        "OPTIMIZERS of test_same_bits": [f().name for f in test_same_bits.OPTIMIZERS.values()],
    }
    for table, names in tables.items():
        assert set(names) == set(OPTIMIZERS), table


def test_functions():
    assert set(bpcore.functions.__all__) == set(reference.FUNCTIONS)


def test_initializers():
    others = {"auto", "normal", "uniform"}  # that do not look at the fans
    assert set(INITIALIZERS) == set(training.VARIANCES) | others
    for cls in INITIALIZERS.values():
        assert getattr(bpcore, cls.__name__, cls) is cls


@pytest.mark.parametrize(
    "get, known",
    [
        (bpcore.layers.activation, ACTIVATIONS),
        (bpcore.losses.get, LOSSES),
        (bpcore.optimizers.get, OPTIMIZERS),
        (bpcore.initializers.get, INITIALIZERS),
    ],
    ids=["activation", "loss", "optimizer", "initializer"],
)
def test_unknown_names_are_told_the_choices(get, known):
    for name in known:
        get(name)
        with pytest.raises(ValueError) as caught:
            get(name + "x")
        assert all(choice in str(caught.value) for choice in known)


# ---------------------------------------------------------------- imports


def path_of(module):
    return SOURCE.joinpath(*module.split(".")).with_suffix(".py")


def imports(module):
    """(imported module, whether at module level) of one file; type checking's are left out."""
    tree = ast.parse(path_of(module).read_text("utf-8"))
    found = []

    def walk(node, top):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                package = "bpcore" + (f".{child.module}" if child.module else "")
                base = package if child.level else child.module
                found.extend((name, top) for name in submodules(base, child.names))
            functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            walk(child, top and not isinstance(child, functions))

    walk(tree, True)
    return found


def submodules(base, names):
    """`from bpcore import a, b` imports bpcore.a where there is such a module."""
    if base not in PACKAGES:
        return [base]
    found = [f"{base}.{alias.name}" for alias in names]
    return [name if name.partition(".")[2] in RANKS else base for name in found]


def inside(module):
    """Only what has its place: of the others test_every_module_has_its_place complains."""
    found = [(n.partition(".")[2], top) for n, top in imports(module) if n.startswith("bpcore.")]
    return [(name, top) for name, top in found if name in RANKS]


def test_every_module_has_its_place():
    assert set(MODULES) == set(RANKS) - {"_core"}, "give the new module a group in GROUPS"


@pytest.mark.parametrize("module", [m for m in MODULES if m in RANKS])
def test_imports_go_downwards(module):
    for other, top in inside(module):
        if RANKS[other] > RANKS[module]:
            assert (module, other) in UPWARDS, f"{module} must not import {other}"
            assert not top, f"{module} may import {other} inside a function only"
    uses_package = [top for name, top in imports(module) if name == "bpcore"]
    if RANKS[module] < RANKS["cli"]:
        assert True not in uses_package, f"{module} must not import the whole package"


def test_core_imports_errors_only():
    checkout = Path(__file__).parents[1]  # what is installed has no sources of the extension
    text = (checkout / "src/bpcore/_core.pyx").read_text("utf-8")
    found = set(re.findall(r"^\s*(?:from|import)\s+bpcore\.(\w+)", text, re.MULTILINE))
    found |= set(re.findall(r"^\s*from\s+\.(\w+)", text, re.MULTILINE))
    assert found <= {"errors"}


def test_no_cycles():
    modules = [m for m in MODULES if m in RANKS]
    graph = {m: {o for o, top in inside(m) if top and o in modules} for m in modules}
    done = set()
    while graph.keys() - done:
        free = {m for m in graph.keys() - done if graph[m] <= done}
        assert free, f"a cycle among {sorted(graph.keys() - done)}"
        done |= free


def test_other_packages_are_imported_where_they_belong():
    seen = {package: set() for package in LAZY | NEEDED}
    for module in MODULES:
        for name, top in imports(module):
            package = name.split(".")[0]
            if package in sys.stdlib_module_names or package in ("bpcore", "numpy"):
                continue
            assert package in seen, f"{module} imports {package}"
            lazy = package in LAZY
            assert not (top and lazy), f"{module} may import {package} inside a function only"
            seen[package].add(module)
    assert seen == LAZY | NEEDED


def test_no_constant_is_said_twice():
    """Numbers of the same name may differ in meaning from module to module; these do not."""
    said = [
        (module, node.targets[0].id.strip("_"))
        for module in MODULES
        for node in ast.parse(path_of(module).read_text("utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    for name in ("NAN", "NAMED", "FUSED"):
        assert len([module for module, found in said if found == name]) == 1, name


def test_import_is_light():
    """Importing bpcore may add 20 ms to NumPy's import; numpy.random alone takes ten."""
    code = (
        "import numpy, sys; before = set(sys.modules)\n"
        "import bpcore; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"scipy", "sklearn", "torch", "rich", "numpy.random", "numpy.ma", "argparse", "json"}
    heavy |= {"html", "bpcore.htmlreprs", "bpcore.plot"}
    assert not loaded & (heavy | set(LAZY) | set(NEEDED))
