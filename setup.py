"""Build the extension: csrc/variant.c once for each dtype and level, everything else once.

build_clib cannot do this: it names objects after their source, so later ones would be the first.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BASE = [
    f"csrc/{n}.c" for n in ["status", "plan", "dispatch", "data", "random", "processors", "pool"]
]
C_CORE = ["setup.py", *(str(path) for path in Path("csrc").rglob("*.[chd]*"))]

# Their text goes beside the extension, for bpcore.ckernels to write into exported C.
EXPORTED = [f"csrc/kernels/{name}.h" for name in ("simd", "math", "activations")]

# level -> compiler flags, for each kind of processor
LEVELS = {
    "x86_64": {
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    },
    "aarch64": {"neon": []},
}
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
UNIX_FLAGS = ["-std=c11", "-O3", "-g0", "-ffp-contract=off", "-fno-lto", "-fvisibility=hidden"]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]


class BuildExt(build_ext):
    def build_extension(self, ext):
        unix = self.compiler.compiler_type == "unix"
        flags = UNIX_FLAGS if unix else ["/std:c11", "/O2"]
        if os.environ.get("BPCORE_STRICT"):
            flags = flags + STRICT
        levels = {"generic": []}
        if unix:
            known = LEVELS.get(MACHINES.get(platform.machine().lower()), {})
            levels |= {
                name: extra for name, extra in known.items() if self.understands(name, extra)
            }
        built = [(f"BP_BUILT_{name}", None) for name in levels]
        jobs = [(source, Path(source).stem, built, flags) for source in BASE]
        for level, extra in levels.items():
            for bits in (32, 64):
                name = f"float{bits}_{level}"
                macros = [
                    ("BP_REAL_BITS", str(bits)),
                    (f"BP_LEVEL_IS_{level}", None),
                    ("BP_TABLE", f"bp_kernels_{name}"),
                ]
                jobs.append(("csrc/variant.c", f"variant_{name}", macros, flags + extra))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ext.extra_objects = list(pool.map(self.compile_one, *zip(*jobs, strict=True)))
        super().build_extension(ext)
        folder = Path(self.get_ext_fullpath(ext.name)).parent / "kernels"
        folder.mkdir(exist_ok=True)
        for header in EXPORTED:
            shutil.copy(header, folder)

    def compile_one(self, source, folder, macros, flags):
        objects = self.compiler.compile(
            [source],
            output_dir=str(Path(self.build_temp) / folder),
            macros=macros,
            extra_postargs=flags,
            depends=C_CORE,
        )
        return objects[0]

    def understands(self, level, flags):
        """Whether the compiler knows a level; one that does not still gets the others."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "try.c"
            include = "immintrin.h" if level.startswith("avx") else "arm_neon.h"
            source.write_text(f"#include <{include}>\nint main(void) {{ return 0; }}\n")
            command = [
                *self.compiler.compiler_so,
                *flags,
                "-c",
                str(source),
                "-o",
                f"{folder}/try.o",
            ]
            try:
                return subprocess.run(command, capture_output=True).returncode == 0
            except OSError:
                return False


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=cythonize(
        [
            Extension(
                "bpcore._core",
                ["src/bpcore/_core.pyx"],
                include_dirs=["csrc", numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                extra_compile_args=["-g0"] if sys.platform != "win32" else [],
                libraries=["m", "pthread"] if sys.platform != "win32" else [],
                depends=C_CORE,
            )
        ],
        compiler_directives={"language_level": 3},
    ),
)
