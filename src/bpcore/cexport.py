"""Write a network as C99, to run where there is no Python.

The text of the formulas is that of the compiled core (`bpcore.ckernels`), the sums are in its order
(`bpcore.csource`), so the C computes the bits of `Network.predict`; or integers only, with a bound
of the error (`bpcore.fixedpoint`).
"""

import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array, as_matrix, boolean, check_finite, choose
from bpcore.errors import ShapeError
from bpcore.files import open_regular, replace_file
from bpcore.layers import Activation, check_built_in
from bpcore.network import Network

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["CExport", "export_c"]

BITS = {"int16": 16, "int8": 8}


@dataclass(frozen=True, eq=False)
class CExport:
    """What `export_c` wrote.

    Attributes
    ----------
    source, header : str
        The paths of the two files.
    constant_bytes : int
        Of weights, tables and scales; the compiled code comes on top.
    stack_bytes : int
        Of the arrays that the function has on its stack, those of `float_wrapper` included.
    error_bound : ndarray of shape (n_out,) or None
        In fixed point, how far each output can be from that of the network, for any inputs in the
        calibrated ranges.
    measured_error : ndarray of shape (n_out,) or None
        How far it was at most, on the calibration rows.
    input_offset, input_scale : ndarray of shape (n_in,) or None
        An integer q of the input stands for ``input_offset + input_scale * q``.
    output_scale : ndarray of shape (n_out,) or None
        An integer q of the output stands for ``output_scale * q``.
    """

    source: str
    header: str
    constant_bytes: int
    stack_bytes: int
    error_bound: np.ndarray | None = None
    measured_error: np.ndarray | None = None
    input_offset: np.ndarray | None = None
    input_scale: np.ndarray | None = None
    output_scale: np.ndarray | None = None


def export_c(
    net: Network,
    path: "str | os.PathLike[str]",
    *,
    name: str = "controller",
    standardization: "tuple[ArrayLike, ArrayLike] | None" = None,
    workspace: str = "stack",
    quantize: str | None = None,
    X: "ArrayLike | None" = None,
    float_wrapper: bool = False,
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
        ``CONTROLLER_N_WORKSPACE`` numbers that is the function's last argument.
    quantize : {"int16", "int8"}, optional
        Compute in integers only, which inputs and outputs are too; the header says what they stand
        for and how large the error is at most. A last softmax is left off: outputs are logits.
    X : array_like of shape (n, n_in), optional
        With `quantize`: rows, before standardization, whose ranges are those that inputs may have.
        Inputs beyond them saturate.
    float_wrapper : bool
        With `quantize`: also write ``controller_float``, which takes and gives double.

    Returns
    -------
    CExport
        Paths, sizes and, in fixed point, errors and scales.

    Raises
    ------
    TypeError
        `net` is no network.
    ValueError
        `name` is no C identifier or is taken, `path` does not end in ``.c`` or cannot be included,
        a weight or an activation's parameter is nan or infinite in the network's dtype, a scale is
        not above 0, a layer is of a class that is not bpcore's own; in fixed point, a layer that
        has no such form.
    ShapeError
        `mean`, `scale` or `X` has another width than the inputs, or `X` has no rows.
    OSError
        A file cannot be written; both are as they were.

    Warns
    -----
    UserWarning
        The bound of the error in fixed point is larger than what the outputs for X vary by.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import bpcore
    >>> net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(100, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "controller.c")
    ...     done = bpcore.export_c(net, path)
    ...     with open(done.header) as file:
    ...         print(next(line for line in file if line.startswith("void")).strip())
    ...     fixed = bpcore.export_c(net, path, quantize="int16", X=X)
    void controller(const double input[CONTROLLER_N_IN], double output[CONTROLLER_N_OUT]);
    >>> bool((fixed.measured_error < fixed.error_bound).all())
    True
    """
    from bpcore import cfixed, cheader, cnames, csource, fixedpoint  # what exporting alone needs

    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    source, header = _paths(path)
    cnames.check_name(name)
    on_stack = choose(workspace, ("stack", "caller"), "workspace") == "stack"
    float_wrapper = boolean(float_wrapper, "float_wrapper")
    if quantize is not None:
        choose(quantize, BITS, "quantize")
    if (X is None) != (quantize is None):
        raise ValueError("quantize and the calibration rows X go together, but one is missing")
    if float_wrapper and quantize is None:
        raise ValueError("float_wrapper needs quantize: without, the function takes floats itself")
    check_built_in(net.names, net.layers)
    _check_parameters(net)
    scaling = None if standardization is None else _standardization(standardization, net)
    layers = csource.computing(net.layers)
    fixed = None
    if quantize is None:
        written = csource.source(layers, net.dtype, name, scaling, on_stack)
    else:
        fixed = fixedpoint.quantize(layers, _calibration(X, net), BITS[quantize], scaling)
        written = cfixed.source(fixed, name, on_stack, float_wrapper)
    text = cheader.Texts(net, layers, name, os.path.basename(header), written, fixed)
    head, body = text.header(scaling is not None, float_wrapper), text.source(scaling is not None)
    _replace_both((header, head.encode()), (source, body.encode()))
    sizes = (source, header, written.constant_bytes, written.stack_bytes)
    if fixed is None:
        return CExport(*sizes)
    if (fixed.error_bound >= fixed.output_span).any():
        warnings.warn(
            "the bound of the error in fixed point is larger than what the outputs for X vary by; "
            "the error measured on X may still be small enough",
            stacklevel=2,
        )
    scales = (fixed.offset, fixed.scale, fixed.output_scale)
    return CExport(*sizes, fixed.error_bound, fixed.measured_error, *scales)


# ---------------------------------------------------------------- arguments


def _paths(path: "str | os.PathLike[str]") -> tuple[str, str]:
    source = os.fsdecode(path)
    base, extension = os.path.splitext(source)
    if extension != ".c":
        raise ValueError(f"path must end in .c, got {source!r}")
    header = f"{base}.h"
    name = os.path.basename(header)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"path must have a file name in UTF-8, got {source!r}") from None
    if re.search(r"[\"\\<>\n\r]|\?\?[=/'()!<>-]", name):  # the latter are trigraphs
        raise ValueError(f"path must be a name that #include can take, got {source!r}")
    return source, header


def _check_parameters(net: Network) -> None:
    for key, array in net.parameter_arrays().items():
        check_finite(np.atleast_2d(array), key, net.dtype)
    largest = float(np.finfo(net.dtype).max)
    for index, layer in enumerate(net.layers):
        if isinstance(layer, Activation) and abs(layer.parameter) > largest:
            raise ValueError(
                f"layer {index} is {layer!r}, whose parameter is beyond the range of {net.dtype}"
            )


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


def _calibration(X: Any, net: Network) -> np.ndarray:
    X = as_matrix(X, "X", net.n_in)
    if len(X) == 0:
        raise ShapeError("X has no rows")
    check_finite(X, "X", net.dtype)
    return X


# ---------------------------------------------------------------- files


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
