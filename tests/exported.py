"""Exported networks compiled together into one program that is driven through files."""

import shutil
import subprocess
from pathlib import Path

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


class Program:
    """Networks ``(name, type of numbers, inputs, outputs, whether it wants a workspace)``."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.networks = []

    def add(self, name, real, n_in, n_out, workspace=False):
        self.networks.append((name, real, n_in, n_out, workspace))
        return self.folder / f"{name}.c"

    def write_driver(self, include_sources=True):
        wrappers, rows = [], []
        for name, real, n_in, n_out, workspace in self.networks:
            extra = f", (static_workspace_{name})" if workspace else ""
            suffix = ".c" if include_sources else ".h"
            wrappers.append(f'#include "{name}{suffix}"')
            if workspace:
                wrappers.append(
                    f"static {real} static_workspace_{name}[{name.upper()}_N_WORKSPACE];"
                )
            wrappers.append(
                f"static void run_{name}(const void *input, void *output)\n"
                f"{{\n    {name}((const {real} *)input, ({real} *)output{extra});\n}}"
            )
            rows.append(f"    {{run_{name}, {n_in} * sizeof({real}), {n_out} * sizeof({real})}},")
        text = DRIVER.format(wrappers="\n".join(wrappers), rows="\n".join(rows))
        (self.folder / "driver.c").write_text(text)

    def build(self, compiler, flags, name="program"):
        """Compile everything; warnings are errors."""
        out = self.folder / name
        command = [compiler, *flags, "driver.c", "-o", str(out)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:4000]}"
        return out

    def symbols(self, compiler, flags):
        """Return what the networks alone would have a linker look for."""
        text = "".join(f'#include "{name}.c"\n' for name, *_ in self.networks)
        (self.folder / "alone.c").write_text(text)
        command = [compiler, *flags, "alone.c", "-o", "alone.o"]
        subprocess.run(command, cwd=self.folder, check=True)
        command = ["nm", "--undefined-only", "--format=posix", "alone.o"]
        done = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return {line.split()[0] for line in done.stdout.splitlines()}

    def run(self, program, inputs, emulator=()):
        """Return each network's outputs for its rows."""
        data = b"".join(np.uint32(len(x)).tobytes() + x.tobytes() for x in inputs)
        done = subprocess.run([*emulator, program], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[:4000]
        outputs, at = [], 0
        for (_, real, _, n_out, _), x in zip(self.networks, inputs, strict=True):
            dtype = np.dtype(DTYPES[real])
            end = at + len(x) * n_out * dtype.itemsize
            outputs.append(np.frombuffer(done.stdout[at:end], dtype).reshape(len(x), n_out))
            at = end
        assert at == len(done.stdout)
        return outputs


DTYPES = {"double": "float64", "float": "float32", "int16_t": "int16", "int8_t": "int8"}


def installed(*programs):
    return all(shutil.which(program) for program in programs)


def same_bits(a, b):
    """Equal, -0 and 0 told apart; a nan is a nan whatever its payload."""
    assert a.dtype == b.dtype and a.shape == b.shape
    words = f"u{a.itemsize}"
    return (a.view(words) == b.view(words)) | (np.isnan(a) & np.isnan(b))
