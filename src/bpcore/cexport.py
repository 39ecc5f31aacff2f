"""Write a network as C99, to run where there is no Python.

The text of the formulas is that of the compiled core (`bpcore.ckernels`), the sums are in its order
(`bpcore.csource`), so the C computes the bits of `Network.predict`; or integers only, with a bound
of the error (`bpcore.fixedpoint`).
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array, check_finite, choose
from bpcore.errors import ShapeError
from bpcore.files import open_regular, replace_file
from bpcore.network import Network

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["CExport", "export_c"]

RESERVED = frozenset(
    # keywords of C, up to C23, and of C++
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t "
    "char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr "
    "constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not "
    "not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires "
    "restrict return short signed sizeof static static_assert static_cast struct switch template "
    "this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned "
    "using virtual void volatile wchar_t while xor xor_eq "
    # what the standard library or the linker calls something else
    "main abort abs atof atoi bsearch calloc div exit free getenv labs malloc qsort rand realloc "
    "srand system memchr memcmp memcpy memmove memset strcat strchr strcmp strcpy strlen strncmp "
    "strncpy strstr printf puts putchar scanf remove rename time clock signal raise "
    "acos asin atan atan2 ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim floor fma fmax "
    "fmin fmod frexp hypot ldexp log log10 log1p log2 logb lrint lround modf nan pow remainder rint "
    "round sin sinh sqrt tan tanh tgamma trunc".split()
)
"""Names that the exported function cannot have."""


@dataclass(frozen=True)
class CExport:
    """What `export_c` wrote.

    Attributes
    ----------
    source, header : str
        The paths of the two files.
    constant_bytes : int
        Of weights and tables; the compiled code comes on top.
    stack_bytes : int
        Of the arrays that the function has on its stack.
    """

    source: str
    header: str
    constant_bytes: int
    stack_bytes: int


def export_c(
    net: Network,
    path: "str | os.PathLike[str]",
    *,
    name: str = "controller",
    standardization: "tuple[ArrayLike, ArrayLike] | None" = None,
    workspace: str = "stack",
) -> CExport:
    """Write a network as one C99 file and its header.

    The header declares ``void controller(const double input[CONTROLLER_N_IN], double
    output[CONTROLLER_N_OUT])``, with float for a network of float32. The function computes the bits
    of ``net.predict`` for one row. It allocates nothing, keeps nothing between calls, may be called
    from several threads at a time, and needs no library.

    Parameters
    ----------
    net : Network
    path : str or os.PathLike
        The C file, ``*.c``; the header is put beside it, as ``*.h``.
    name : str
        Of the function, and before all else that the files define: a C identifier.
    standardization : (mean, scale), optional
        Two arrays of shape (n_in,) or numbers: the function takes inputs as they were before
        ``(X - mean) / scale``, which it computes in the dtype of the network.
    workspace : {"stack", "caller"}
        Where the numbers between the layers are: on the stack, or in an array of
        ``CONTROLLER_N_WORKSPACE`` numbers that is the function's third argument.

    Returns
    -------
    CExport
        Paths and sizes.

    Raises
    ------
    TypeError
        `net` is no network.
    ValueError
        `name` is no C identifier or is taken, `path` does not end in ``.c``, a weight is nan or
        infinite, a scale is not above 0.
    ShapeError
        `mean` or `scale` has another length than the inputs.
    OSError
        A file cannot be written; both are as they were.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore
    >>> net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = bpcore.export_c(net, os.path.join(folder, "controller.c"))
    ...     with open(done.header) as file:
    ...         print(file.read().splitlines()[-9])
    void controller(const double input[CONTROLLER_N_IN], double output[CONTROLLER_N_OUT]);
    """
    from bpcore import csource  # what exporting alone needs

    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    source, header = _paths(path)
    _check_name(name)
    on_stack = choose(workspace, ("stack", "caller"), "workspace") == "stack"
    for key, array in net.parameter_arrays().items():
        check_finite(np.atleast_2d(array), key, net.dtype)
    scaling = None if standardization is None else _standardization(standardization, net)
    layers = csource.computing(net.layers)
    written = csource.source(layers, net.dtype, name, scaling, on_stack)
    title = _title(net, layers, scaling is not None, written)
    head = _header(net, name, title, os.path.basename(header), written.n_workspace)
    body = f'{title}#include "{os.path.basename(header)}"\n\n{written.body}'
    _replace_both((header, head.encode()), (source, body.encode()))
    return CExport(source, header, written.constant_bytes, written.stack_bytes)


# ---------------------------------------------------------------- arguments


def _paths(path: "str | os.PathLike[str]") -> tuple[str, str]:
    source = os.fsdecode(path)
    base, extension = os.path.splitext(source)
    if extension != ".c":
        raise ValueError(f"path must end in .c, got {source!r}")
    header = f"{base}.h"
    if not re.fullmatch(r"[^\"\\<>\n\r]+", os.path.basename(header)):
        raise ValueError(f"path must be a name that #include can take, got {source!r}")
    return source, header


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be text, got {name!r}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"name must be a C identifier that starts with a letter, got {name!r}"
        )
    if name in RESERVED:
        raise ValueError(f"name must be free in C and C++, but {name!r} is taken")


def _standardization(value: Any, net: Network) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, scale = value
    except (TypeError, ValueError):
        raise ValueError("standardization must be a pair (mean, scale)") from None
    arrays = []
    for argument, part in (("mean", mean), ("scale", scale)):
        array = as_array(part, argument, net.dtype)
        if array.ndim == 0:
            array = np.full(net.n_in, array, net.dtype)
        if array.shape != (net.n_in,):
            raise ShapeError(f"{argument} has shape {array.shape}, expected ({net.n_in},)")
        check_finite(array.reshape(1, -1), argument, net.dtype)
        arrays.append(array)
    if not (arrays[1] > 0).all():
        place = int(np.argmin(arrays[1] > 0))
        raise ValueError(f"scale must be > 0, but scale[{place}] is {arrays[1][place]}")
    return arrays[0], arrays[1]


# ---------------------------------------------------------------- files


def _title(net: Network, layers: list[Any], is_scaled: bool, written: Any) -> str:
    from bpcore import __version__

    names = [repr(layer) for layer in layers]
    if is_scaled:
        names.insert(0, "(input - mean) / scale")
    lines = [f"A neural network, written by bpcore {__version__}."]
    lines += [f"{net.n_in} inputs, {net.n_out} outputs, {net.dtype}:", *(f"    {n}" for n in names)]
    lines.append(
        f"{written.constant_bytes} bytes of constants, {written.stack_bytes} bytes of arrays on the stack."
    )
    lines += [
        "The same bits as Network.predict, on any processor with IEEE arithmetic; fast where it has fma",
        "(compile with -mfma on x86). Subnormal numbers must not be flushed to zero.",
    ]
    return "/* " + "\n * ".join(lines) + " */\n"


def _header(net: Network, name: str, title: str, file: str, n_workspace: int) -> str:
    from bpcore import csource

    upper, real = name.upper(), csource.c_type(net.dtype)
    guard = re.sub(r"\W", "_", f"{upper}_{file}").upper() if not file.startswith(name) else f"{upper}_H"
    sizes = [f"#define {upper}_N_IN {net.n_in}", f"#define {upper}_N_OUT {net.n_out}"]
    parameters = f"const {real} input[{upper}_N_IN], {real} output[{upper}_N_OUT]"
    if n_workspace:
        sizes.append(f"#define {upper}_N_WORKSPACE {n_workspace}")
        parameters += f", {real} workspace[{upper}_N_WORKSPACE]"
    return "\n".join(
        [
            f"{title}#ifndef {guard}",
            f"#define {guard}",
            "",
            *sizes,
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* The arrays must not overlap. */" ,
            f"void {name}({parameters});",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )


def _replace_both(first: tuple[str, bytes], second: tuple[str, bytes]) -> None:
    """Write two files; if the second cannot be written, the first becomes what it was."""
    before = None
    with suppress(FileNotFoundError), open_regular(first[0]) as file:
        before = file.read()
    replace_file(*first)
    try:
        replace_file(*second)
    except BaseException:
        if before is None:
            os.unlink(first[0])
        else:
            replace_file(first[0], before)
        raise
