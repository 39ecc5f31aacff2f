"""Exported networks compiled together into one program that is driven through files."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

STRICT = ["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror"]
C99 = ["-std=c99", *STRICT]

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct network {{
    void (*run)(const void *input, void *output);
    size_t size_in, size_out; /* bytes a row */
}} network;

{wrappers}

static const network networks[] = {{
{rows}
}};

/* For each network on standard input: a number of rows, then the rows; their outputs go to standard
 * output. Each row lies in memory of its own, so that a sanitizer sees what is read or written
 * beside it. */
int main(void)
{{
    size_t i;
    for (i = 0; i < sizeof networks / sizeof networks[0]; i++) {{
        const network *net = &networks[i];
        unsigned n_rows, r;
        if (fread(&n_rows, sizeof n_rows, 1, stdin) != 1) return 1;
        for (r = 0; r < n_rows; r++) {{
            void *input = malloc(net->size_in), *output = malloc(net->size_out);
            memset(output, 0xA5, net->size_out);
            if (fread(input, net->size_in, 1, stdin) != 1) return 2;
            net->run(input, output);
            if (fwrite(output, net->size_out, 1, stdout) != 1) return 3;
            free(input);
            free(output);
        }}
    }}
    return 0;
}}
"""


class Exported(NamedTuple):
    """One network of a program."""

    name: str
    real: str
    n_in: int
    n_out: int
    workspace: bool

    def row(self):
        """Return its line in the driver's table, and the code that this needs."""
        name, real, n_in, n_out, workspace = self
        argument = f", workspace_{name}" if workspace else ""
        code = f'#include "{name}.c"\n'
        if workspace:
            code += f"static {real} workspace_{name}[{name.upper()}_N_WORKSPACE];\n"
        call = f"{name}((const {real} *)input, ({real} *)output{argument});"
        code += f"static void run_{name}(const void *input, void *output)\n{{\n    {call}\n}}\n"
        return f"    {{run_{name}, {n_in} * sizeof({real}), {n_out} * sizeof({real})}},", code


class Program:
    """A folder of exported networks, and programs made of them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.networks = {}

    def add(self, name, real, n_in, n_out, workspace=False):
        """Return the path to export a network to."""
        self.networks[name] = Exported(name, real, n_in, n_out, workspace)
        return self.folder / f"{name}.c"

    def build(self, compiler, flags, names=None):
        """Compile a program of these networks; warnings are errors."""
        names = list(names or self.networks)
        rows, codes = zip(*(self.networks[name].row() for name in names), strict=True)
        text = DRIVER.format(wrappers="\n".join(codes), rows="\n".join(rows))
        (self.folder / "driver.c").write_text(text)
        command = [compiler, *flags, "driver.c", "-o", "program"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:4000]}"
        return names

    def run(self, names, inputs, emulator=()):
        """Return what the program last built makes of rows for each of its networks."""
        inputs = dict(zip(names, inputs, strict=True))
        data = b"".join(np.uint32(len(x)).tobytes() + x.tobytes() for x in inputs.values())
        command = [*emulator, str(self.folder / "program")]
        done = subprocess.run(command, input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[:4000]
        outputs, at = [], 0
        for name, x in inputs.items():
            net = self.networks[name]
            dtype = np.dtype(DTYPES[net.real])
            end = at + len(x) * net.n_out * dtype.itemsize
            output = np.frombuffer(done.stdout[at:end], dtype)
            outputs.append(output.reshape(len(x), net.n_out))
            at = end
        assert at == len(done.stdout)
        return outputs

    def symbols(self, compiler, flags, names):
        """Return what these networks alone would have a linker look for."""
        text = "".join(f'#include "{name}.c"\n' for name in names)
        (self.folder / "alone.c").write_text(text)
        command = [compiler, *flags, "alone.c", "-o", "alone.o"]
        subprocess.run(command, cwd=self.folder, check=True)
        command = ["nm", "--undefined-only", "--format=posix", "alone.o"]
        done = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return {line.split()[0] for line in done.stdout.splitlines()}


DTYPES = {"double": "float64", "float": "float32", "int16_t": "int16", "int8_t": "int8"}


def installed(*programs):
    return all(shutil.which(program) for program in programs)


def same_bits(a, b):
    """Equal, -0 and 0 told apart; a nan is a nan whatever its payload."""
    assert a.dtype == b.dtype and a.shape == b.shape
    words = f"u{a.itemsize}"
    return (a.view(words) == b.view(words)) | (np.isnan(a) & np.isnan(b))
