"""Exported C in whole numbers: what `bpcore.fixedpoint` has found, as text."""

import numpy as np

from bpcore.cparts import fill
from bpcore.csource import Source, table
from bpcore.fixedpoint import FixedLayer, FixedNetwork


def source(net: FixedNetwork, prefix: str, on_stack: bool, float_wrapper: bool) -> Source:
    """Return the C of a network; see `bpcore.csource.source`."""
    return _Writer(net, prefix, on_stack, float_wrapper).source()


class _Writer:
    def __init__(self, net: FixedNetwork, prefix: str, on_stack: bool, float_wrapper: bool) -> None:
        self.net, self.prefix = net, prefix
        self.on_stack, self.float_wrapper = on_stack, float_wrapper
        self.real = f"int{net.bits}_t"
        self.tables: list[str] = []
        self.constants = 0

    def source(self) -> Source:
        n = len(self.net.layers)
        widths = [len(self.net.limit), *(len(layer.bias) for layer in self.net.layers)]
        buffers = [max(widths[at:-1:2], default=0) for at in (0, 1)]
        p, upper = self.prefix, self.prefix.upper()
        parameters = f"const {self.real} input[{upper}_N_IN], {self.real} output[{upper}_N_OUT]"
        if self.on_stack:
            lines = [f"    {self.real} a[{buffers[0]}];"]
            lines += [f"    {self.real} b[{buffers[1]}];"] * (n > 1)
        else:
            parameters += f", {self.real} workspace[{upper}_N_WORKSPACE]"
            lines = [f"    {self.real} *const a = workspace;"]
            lines += [f"    {self.real} *const b = workspace + {buffers[0]};"] * (n > 1)
        limit = self._constant("limit", self.net.limit, self.real)
        lines.append(
            f"    for (size_t i = 0; i < {widths[0]}; i++)\n"
            f"        a[i] = ({self.real})(input[i] > {limit}[i] ? {limit}[i] : "
            f"input[i] < -{limit}[i] ? -{limit}[i] : input[i]);"
        )
        for number, layer in enumerate(self.net.layers):
            to = "output" if number == n - 1 else "ba"[number % 2]
            lines += self._layer(number, layer, "ab"[number % 2], to)
        texts = [INCLUDES, *(fill(RESCALE, p, BITS=bits) for bits in self._sums())]
        if any(layer.table is not None for layer in self.net.layers):
            texts.append(fill(INTERPOLATE, p))
        function = "\n".join([f"void {p}({parameters})", "{", *lines, "}", ""])
        if self.float_wrapper:
            more = ("", "")
            if not self.on_stack:
                more = (f", {self.real} {p}_numbers[{upper}_N_WORKSPACE]", f", {p}_numbers")
            function += "\n" + fill(WRAPPER, p, TYPE=self.real, PARAMETER=more[0], ARGUMENT=more[1])
        size = sum(buffers)
        n_stack = size if self.on_stack else 0
        if self.float_wrapper:
            n_stack += widths[0] + widths[-1]
            self.constants += 8 * (2 * widths[0] + widths[-1])
        return Source(
            "\n".join([*texts, *self.tables, function]),
            self.constants,
            n_stack * self.net.bits // 8,
            0 if self.on_stack else size,
        )

    def _sums(self) -> list[int]:
        """The widths of numbers that are rescaled."""
        used = {64 if layer.is_wide else 32 for layer in self.net.layers}
        if any(layer.slope is not None or layer.table is not None for layer in self.net.layers):
            used.add(32)
        return sorted(used)

    def _constant(self, name: str, values: np.ndarray, kind: str) -> str:
        name = f"{self.prefix}_{name}"
        self.constants += values.size * int(kind.strip("uint_")) // 8
        self.tables.append(table(f"{kind} {name}", values, 8))
        return name

    def _layer(self, number: int, layer: FixedLayer, x: str, y: str) -> list[str]:
        n_out, n_in = layer.weight.shape
        bits = 64 if layer.is_wide else 32
        weight = self._constant(f"weight_{number}", layer.weight, self.real)
        bias = self._constant(f"bias_{number}", layer.bias, f"int{bits}_t")
        shift = self._constant(f"shift_{number}", layer.shift, "int8_t")
        lines = [
            f"\n    /* {layer.layer!r}{f', {layer.activation!r}' if layer.activation else ''} */",
            f"    for (size_t i = 0; i < {n_out}; i++) {{",
            f"        int{bits}_t sum = {bias}[i];",
            f"        for (size_t k = 0; k < {n_in}; k++) sum += (int32_t){weight}[i][k] * {x}[k];",
            f"        int32_t z = (int32_t){self.prefix}_rescale_{bits}(sum, {shift}[i]);",
            *self._activation(number, layer),
            f"        {y}[i] = ({self.real})z;",
            "    }",
        ]
        return lines

    def _activation(self, number: int, layer: FixedLayer) -> list[str]:
        p = self.prefix
        if layer.slope is not None:
            factor, shift = layer.slope
            return [f"        if (z < 0) z = {p}_rescale_32(z * {factor}, {shift});"]
        if layer.table is None:
            return [] if layer.activation is None else ["        if (z < 0) z = 0;"]
        t = layer.table
        entries = self._constant(f"table_{number}", t.entries, "int16_t")
        call = f"{p}_interpolate({entries}, z, {t.low}, {len(t.entries) - 2}, {t.fraction_bits})"
        if not t.rectified:
            return [f"        z = {p}_rescale_32({call}, {t.shift});"]
        return [
            f"        z = (z > 0 ? z : 0) + "
            f"{p}_rescale_32({call}, {t.fraction_bits}) * {1 << t.entry_shift};",
            f"        z = {p}_rescale_32(z, {t.shift});",
        ]


INCLUDES = """\
#include <stddef.h>
#include <stdint.h>
"""
RESCALE = """\
/* x / 2^shift, rounded to the nearest whole number, halves away from zero. */
static int@BITS@_t @name@_rescale_@BITS@(int@BITS@_t x, int shift)
{
    if (shift <= 0) return x * ((int@BITS@_t)1 << -shift);
    const int@BITS@_t half = (int@BITS@_t)1 << (shift - 1);
    return x < 0 ? -((half - x) >> shift) : (x + half) >> shift;
}
"""
INTERPOLATE = """\
/* 2^bits times what lies between two of the entries, which are 2^bits apart; n such distances from
 * `low` on. */
static int32_t @name@_interpolate(const int16_t *entry, int32_t z, int32_t low, int32_t n, int bits)
{
    const int32_t size = (int32_t)1 << bits, end = low + n * size;
    const int32_t at = (z < low ? low : z > end ? end : z) - low;
    const int32_t fraction = at & (size - 1);
    entry += at >> bits;
    return entry[0] * (size - fraction) + entry[1] * fraction;
}
"""
WRAPPER = """\
static void @name@_encode(const double *x, @TYPE@ *q)
{
    static const double offset[] = @NAME@_INPUT_OFFSET, scale[] = @NAME@_INPUT_SCALE;
    for (size_t i = 0; i < @NAME@_N_IN; i++) {
        const double z = (x[i] - offset[i]) / scale[i], limit = @name@_limit[i];
        const double nearest = z < 0 ? z - 0.5 : z + 0.5;
        const double rounded = z >= limit ? limit : z <= -limit ? -limit : nearest;
        q[i] = (@TYPE@)(rounded == rounded ? rounded : 0); /* nan is 0 */
    }
}

static void @name@_decode(const @TYPE@ *q, double *y)
{
    static const double scale[] = @NAME@_OUTPUT_SCALE;
    for (size_t i = 0; i < @NAME@_N_OUT; i++) y[i] = q[i] * scale[i];
}

/* Its variables have names that cannot hide the function. */
void @name@_float(const double @name@_x[@NAME@_N_IN], double @name@_y[@NAME@_N_OUT]@PARAMETER@)
{
    @TYPE@ @name@_in[@NAME@_N_IN], @name@_out[@NAME@_N_OUT];
    @name@_encode(@name@_x, @name@_in);
    @name@(@name@_in, @name@_out@ARGUMENT@);
    @name@_decode(@name@_out, @name@_y);
}
"""
