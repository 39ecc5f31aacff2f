"""Exported C in floating point: the sums and functions of `Network.predict`, to the same bits."""

from typing import NamedTuple

import numpy as np

from bpcore import ckernels, cparts
from bpcore.layers import Activation, Dense, Dropout, Identity, Layer, Softmax

STRIPE_BYTES = 64  # STRIPE of kernels/simd.h
STRIPED_FROM = 256  # bp_is_striped() of plan.h: terms, where outputs are at most half a stripe


class Source(NamedTuple):
    """The text of one file below its first comment, and what it takes."""

    body: str
    constant_bytes: int
    stack_bytes: int
    n_workspace: int
    """Numbers of the caller's workspace; 0 if there is none."""


def computing(layers: tuple[Layer, ...]) -> list[Layer]:
    """The layers that change numbers outside of training."""
    return [layer for layer in layers if not isinstance(layer, Dropout | Identity)]


def c_type(dtype: np.dtype) -> str:
    """Return double or float."""
    return "double" if dtype.itemsize == 8 else "float"


def literal(value: np.floating) -> str:
    """Return a finite number as C99 that is read back to the same bits.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.csource import literal
    >>> literal(np.float64(0.1)), literal(np.float32(-3))
    ('0x1.999999999999ap-4', '-0x1.8p+1f')
    """
    if not np.isfinite(value):
        raise ValueError(f"C has no literal for {value}")
    mantissa, _, exponent = float(value).hex().partition("p")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    mantissa = "-0x0" if mantissa == "-0x" else "0x0" if mantissa == "0x" else mantissa
    return f"{mantissa}p{exponent}" + ("f" if value.dtype.itemsize == 4 else "")


def table(declaration: str, values: np.ndarray, per_line: int = 4) -> str:
    """Return a ``static const`` array of one or two dimensions with its numbers."""
    texts = [literal(v) if v.dtype.kind == "f" else str(v) for v in values.ravel()]
    if values.ndim == 1:
        lines = "    " + _wrapped(texts, per_line, "    ")
        return f"static const {declaration}[{len(texts)}] = {{\n{lines}}};\n"
    rows, columns = values.shape
    starts = range(0, rows * columns, columns)
    inner = (f"    {{{_wrapped(texts[i : i + columns], per_line, '     ')}}}" for i in starts)
    joined = ",\n".join(inner)
    return f"static const {declaration}[{rows}][{columns}] = {{\n{joined}}};\n"


def _wrapped(texts: list[str], per_line: int, indent: str) -> str:
    starts = range(0, len(texts), per_line)
    return f",\n{indent}".join(", ".join(texts[i : i + per_line]) for i in starts)


def source(
    layers: list[Layer],
    dtype: np.dtype,
    prefix: str,
    standardization: tuple[np.ndarray, np.ndarray] | None,
    on_stack: bool,
) -> Source:
    """Return the C of a network.

    Parameters
    ----------
    layers : list of Layer
        Those of `computing`.
    dtype : numpy.dtype
    prefix : str
        The function's name, and what all other names begin with.
    standardization : (mean, scale) or None
        Arrays of that dtype; inputs become ``(input - mean) / scale``.
    on_stack : bool
        Where the numbers between the layers are: else the caller provides a workspace.
    """
    return _Writer(layers, dtype, prefix, standardization, on_stack).source()


class _Writer:
    def __init__(
        self,
        layers: list[Layer],
        dtype: np.dtype,
        prefix: str,
        standardization: tuple[np.ndarray, np.ndarray] | None,
        on_stack: bool,
    ) -> None:
        self.layers, self.dtype, self.prefix = layers, dtype, prefix
        self.standardization, self.on_stack = standardization, on_stack
        self.real, self.bits = c_type(dtype), 8 * dtype.itemsize
        self.stripe = STRIPE_BYTES // dtype.itemsize
        self.kernels: set[str] = set()
        self.uses_stripes = self.uses_rounded = self.uses_softmax = False
        self.tables: list[str] = []
        self.lines: list[str] = []
        self.constants = 0
        self.buffers = [0, 0]
        self.n_dense = sum(isinstance(layer, Dense) for layer in layers)

    def source(self) -> Source:
        self._write_layers()
        head = self._head()
        size = sum(self.buffers)
        real, p = self.real, self.prefix
        parameters = f"const {real} input[{p.upper()}_N_IN], {real} output[{p.upper()}_N_OUT]"
        declarations = []
        if self.on_stack:
            declarations = [
                f"    {real} {n}[{k}];" for n, k in zip("ab", self.buffers, strict=True) if k
            ]
        else:
            parameters += f", {real} workspace[{p.upper()}_N_WORKSPACE]"
            starts = [
                (self.buffers[0], "a", "workspace"),
                (self.buffers[1], "b", f"workspace + {self.buffers[0]}"),
            ]
            declarations = [f"    {real} *const {n} = {at};" for k, n, at in starts if k]
            if not declarations:
                declarations = ["    (void)workspace;"]
        function = "\n".join([f"void {p}({parameters})", "{", *declarations, *self.lines, "}", ""])
        body = "\n".join([head, *self.tables, function])
        stripes = self.stripe if self.uses_stripes or self.uses_softmax else 0
        stack = (size if self.on_stack else 0) + stripes
        return Source(
            body,
            self.constants,
            stack * self.dtype.itemsize,
            0 if self.on_stack else max(size, 1),
        )

    # ---- layers ----------------------------------------------------------------------------

    def _write_layers(self) -> None:
        at, width, done = "input", self._n_in(), 0
        if self.standardization is not None:
            at = self._standardize(width)
        elif not isinstance(self.layers[0], Dense):
            at = self._own(width)
            self._loop(width, f"{at}[i] = input[i];")
        for index, layer in enumerate(self.layers):
            after = self.layers[index + 1] if index + 1 < len(self.layers) else None
            self.lines.append(f"\n    /* {layer!r} */")
            if isinstance(layer, Dense):
                to = "output" if done == self.n_dense - 1 else "ab"[done % 2]
                if to != "output":
                    self.buffers[done % 2] = max(self.buffers[done % 2], layer.n_out)
                self._dense(layer, done, at, to)
                at, width, done = to, layer.n_out, done + 1
            elif isinstance(layer, Softmax):
                self.uses_softmax = self.uses_rounded = True
                self.kernels.add("exp_v")
                self.lines.append(f"    {self.prefix}_softmax({at}, {width});")
            else:
                self._activation(
                    layer, at, width, exposed=after is not None and not isinstance(after, Dense)
                )

    def _n_in(self) -> int:
        return next(layer.n_in for layer in self.layers if isinstance(layer, Dense))

    def _own(self, width: int) -> str:
        """The buffer that the first dense layer does not write to."""
        self.buffers[1] = max(self.buffers[1], width)
        return "b"

    def _loop(self, n: int, *statements: str) -> None:
        self.lines.append(f"    for (size_t i = 0; i < {n}; i++) {' '.join(statements)}")

    def _constant(self, name: str, values: np.ndarray) -> str:
        name = f"{self.prefix}_{name}"
        self.constants += values.nbytes
        self.tables.append(table(f"{self.real} {name}", values))
        return name

    def _standardize(self, width: int) -> str:
        assert self.standardization is not None
        mean, scale = (
            self._constant(name, values)
            for name, values in zip(("mean", "scale"), self.standardization, strict=True)
        )
        to = self._own(width)
        self._loop(width, f"{to}[i] = (input[i] - {mean}[i]) / {scale}[i];")
        return to

    def _dense(self, layer: Dense, number: int, x: str, y: str) -> None:
        p, n_in, n_out = self.prefix, layer.n_in, layer.n_out
        bias = self._constant(f"bias_{number}", layer.bias) if layer.has_bias else None
        weight = f"weight_{number}"
        if 2 * n_out <= self.stripe and n_in >= STRIPED_FROM:
            self.uses_stripes = True
            rows = self._constant(weight, np.ascontiguousarray(layer.weight.T))
            added = f" + {bias}[i]" if bias else ""
            self._loop(n_out, f"{y}[i] = {p}_dot({x}, {rows}[i], {n_in}){added};")
            return
        weight = self._constant(weight, layer.weight)
        self._loop(n_out, f"{y}[i] = {f'{bias}[i]' if bias else 0};")
        self.lines.append(f"    for (size_t k = 0; k < {n_in}; k++)")
        self.lines.append(f"        for (size_t i = 0; i < {n_out}; i++)")
        self.lines.append(f"            {y}[i] = {p}_fma({x}[k], {weight}[k][i], {y}[i]);")

    def _activation(self, layer: Activation, x: str, width: int, exposed: bool) -> None:
        name = f"{layer.kernel}_f"
        self.kernels.add(name)
        argument = ""
        if ckernels.takes_parameter(layer.kernel, self.bits):
            argument = f", {literal(self.dtype.type(layer.parameter))}"
        call = f"{ckernels.c_name(name, self.prefix)}({x}[i]{argument})"
        if exposed:  # a product, which must not be contracted with the next layer's sums
            self.uses_rounded = True
            call = f"{self.prefix}_rounded({call})"
        self._loop(width, f"{x}[i] = {call};")

    # ---- what the layers need --------------------------------------------------------------

    def _head(self) -> str:
        blocks = ckernels.definitions(self.kernels, self.bits)
        mentions = frozenset().union(*(block.mentions for block in blocks.values()))
        kernels = ckernels.write(blocks, self.prefix)
        self.constants += self.dtype.itemsize * sum(
            block.text.count(",") + 1 for block in blocks.values() if "static const" in block.text
        )
        needed = cparts.NEEDED["fma_once" in mentions]
        fma = (cparts.FMA + cparts.FMA_ONCE[self.bits]).replace("@NEEDED@", needed)
        parts = [cparts.INCLUDES, self._fill(fma)]
        if self.uses_rounded:
            parts.append(self._fill(cparts.ROUNDED))
        parts.append(kernels)
        if self.uses_stripes or self.uses_softmax:
            parts.append(self._fill(cparts.FOLD))
        if self.uses_stripes:
            parts.append(self._fill(cparts.DOT))
        if self.uses_softmax:
            parts.append(self._fill(cparts.SOFTMAX))
        return "\n".join(part for part in parts if part)

    def _fill(self, text: str) -> str:
        words = {
            "REAL": self.real,
            "SUFFIX": "f" if self.bits == 32 else "",
            "STRIPE": self.stripe,
            "FAST": cparts.FAST[self.bits],
        }
        return cparts.fill(text, self.prefix, **words)
