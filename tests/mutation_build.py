"""Builds the tree with an error in it, as little of it as the error touches, and runs its tests.

One level is compiled; generic, which must be there, is another name of it. -Og compiles several
times as fast as -O3, which would not pay, as most tests run for seconds.
"""

import ast
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy

ROOT = Path(__file__).parents[1]
FLAGS = ["-std=c11", "-Og", "-g0", "-fPIC", "-ffp-contract=off", "-Icsrc"]
SECONDS = 1800  # after which tests hang, on a busy machine too
# Golden fingerprints tell of any change. The table does not fit a mutated tree, and the others do
# not look at results.
NOT_RUN = ["golden", "mutations", "benchmarks", "readme", "registry", "environment"]
# Those that look at single results come first.
FIRST = ["optimizers_numeric", "functions", "activations", "losses", "network_numeric"]
FIRST += ["training_numeric", "regressions", "layers_api", "network_api", "gradcheck"]
# Tests that are sooner run than those in C.
NEAREST = {
    "kernels/curvature.h": ["tests/test_least_squares.py"],
    "kernels/jacobian.h": ["tests/test_jacobian.py"],
    "kernels/optimizers.h": ["tests/test_optimizers_numeric.py"],
}
KERNELS = {"variant_32": "float32", "variant_64": "float64"}


class Result(NamedTuple):
    verdict: str  # caught or SURVIVED
    by: str
    seconds: float


def level_flags(level):
    """The flags of a level of this kind of processor, as setup.py has them."""
    values = {
        node.targets[0].id: node.value
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Assign)
    }
    levels, machines = (ast.literal_eval(values[name]) for name in ("LEVELS", "MACHINES"))
    return levels[machines[platform.machine().lower()]][level]


def test_files(tree):
    """The Python tests that count, in the order in which they run."""
    rank = {f"test_{name}.py": i for i, name in enumerate(FIRST)}
    files = [f for f in (tree / "tests").glob("test_*.py") if f.stem[5:] not in NOT_RUN]
    files.sort(key=lambda file: (rank.get(file.name, len(rank)), file.name))
    return [str(file.relative_to(tree)) for file in files]


class Build:
    """The tree without errors and its objects."""

    def __init__(self, folder, level, jobs):
        self.folder = Path(folder)
        self.level = level
        self.tree = self.folder / "tree"
        self.checking = threading.Lock()  # of a test in the tree without errors
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.tree / name)
        core = [sys.executable, "-m", "cython", "-3", "src/bpcore/_core.pyx", "-o", "_core.c"]
        self.run(core, self.tree)
        self.commands = self.compile_commands()
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda name: self.run(self.commands[name], self.tree), self.commands))
        failure = self.run_c_tests(self.tree, {})
        if failure:
            raise subprocess.CalledProcessError(1, ["tests/c"], failure)

    def compile_commands(self):
        """Object -> its command, to be run in a tree; a .d beside it says what it depends on."""
        flags = [*FLAGS, "-DBP_BUILT_generic", f"-DBP_BUILT_{self.level}"]
        commands = {}
        sources = [f for f in self.tree.glob("csrc/*.c") if f.name != "variant.c"]
        sources += self.tree.glob("tests/c/*.c")
        for source in sources:
            name = source.relative_to(self.tree)
            commands["_".join(name.parts)] = [str(name), *flags]
        variant = ["csrc/variant.c", *flags, *level_flags(self.level)]
        variant += [f"-DBP_LEVEL_IS_{self.level}"]
        for bits in (32, 64):
            table = f"-DBP_TABLE=bp_kernels_float{bits}_{self.level}"
            commands[f"variant_{bits}"] = [*variant, f"-DBP_REAL_BITS={bits}", table]
        include = [sysconfig.get_path("include"), numpy.get_include()]
        macro = "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION"
        commands["extension"] = ["_core.c", *flags, macro, *(f"-I{path}" for path in include)]
        return {
            name: ["gcc", *command, "-MMD", "-c", "-o", f"{name}.o"]
            for name, command in commands.items()
        }

    def run(self, command, tree):
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        subprocess.run(command, cwd=tree, check=True, **said)

    def depends(self, name, path):
        return re.search(rf"[\s/]{re.escape(path)}\s", (self.tree / f"{name}.d").read_text())

    def link(self, tree, changed, left_out, options):
        """All objects but those left out; those changed are from the other tree."""
        names = [name for name in self.commands if not name.startswith(left_out)]
        objects = [str((tree if name in changed else self.tree) / f"{name}.o") for name in names]
        kernels = [f"bp_kernels_float{bits}_" for bits in (32, 64)]
        alias = [f"-Wl,--defsym={name}generic={name}{self.level}" for name in kernels]
        self.run(["gcc", *objects, *alias, *options, "-lm", "-lpthread"], tree)

    # ---------------------------------------------------------------- tests

    def run_c_tests(self, tree, changed, dtype=""):
        """The first C test to fail, or "" if none does."""
        program = tree / f"c_tests{dtype}"
        self.link(tree, changed, "extension", ["-o", program])
        command = [program, self.level, *([dtype] if dtype else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        last = ""
        for line in process.stdout:
            last = line.strip()
            if last.startswith("FAILED"):
                process.kill()
                break
        code = process.wait()
        timer.cancel()
        process.stdout.close()
        if last.startswith("FAILED"):
            return "tests/c " + last[7:]
        return f"tests/c ended with status {code}" if code else ""

    def run_python_tests(self, tree, changed, tests):
        """The first Python test to fail, or "" if none does."""
        package = tree / "src/bpcore"
        module = package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not module.exists():
            self.link(tree, changed, "tests", ["-shared", "-o", module])
        path = f"import sys; sys.path.insert(0, {str(package.parent)!r}); import pytest; "
        command = [sys.executable, "-c", path + "sys.exit(pytest.main(sys.argv[1:]))"]
        command += ["-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-k", "not generic", *tests]
        output = self.folder / f"{tree.name}.log"
        with output.open("w") as file:
            process = subprocess.Popen(command, cwd=tree, stdout=file, stderr=subprocess.STDOUT)
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        text = output.read_text()
        found = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", text, re.M)
        if code == 0 or found:
            return found.group(1) if code else ""
        return f"pytest ended with status {code}: {text[-300:]}"

    def failing_python_test(self, tree, changed, tests):
        """The same; without the error it must pass, or all of them if none is named."""
        failure = self.run_python_tests(tree, changed, tests)
        if failure:
            with self.checking:
                if self.run_python_tests(self.tree, {}, [failure] if "::" in failure else tests):
                    raise subprocess.CalledProcessError(1, ["pytest"], failure)
        return failure

    def try_mutation(self, mutation):
        start = time.monotonic()
        tree = self.folder / re.sub(r"\W+", "_", str(mutation))
        shutil.copytree(self.tree, tree, ignore=shutil.ignore_patterns("*.o", "*.d", "*.so"))
        try:
            failure = self.first_failure(mutation, tree)
        finally:
            shutil.rmtree(tree)
        verdict = "SURVIVED" if failure.startswith(("no ", "not ")) else "caught"
        return Result(verdict, failure, time.monotonic() - start)

    def first_failure(self, mutation, tree):
        path = f"csrc/{mutation.path}"
        (tree / path).write_text(mutation.mutated())
        affected = sorted(name for name in self.commands if self.depends(name, path))
        nearest = NEAREST.get(mutation.path, [])
        by_dtype = set(affected) <= set(KERNELS) and not nearest
        changed = set()
        for name in affected:
            try:
                self.run(self.commands[name], tree)
            except subprocess.CalledProcessError as error:
                return f"not compiled: {error.output}"
            if (tree / f"{name}.o").read_bytes() == (self.tree / f"{name}.o").read_bytes():
                continue
            changed.add(name)
            failure = by_dtype and self.run_c_tests(tree, changed, KERNELS[name])
            if failure:
                return failure
        if not changed:
            return "no change in what is compiled"
        failure = nearest and self.failing_python_test(tree, changed, nearest)
        if not failure and not by_dtype:
            failure = self.run_c_tests(tree, changed)
        every = test_files(tree)
        return failure or self.failing_python_test(tree, changed, every) or "no test fails"
