"""Networks to ONNX files and back, for onnxruntime, PyTorch, scikit-learn and all that reads ONNX.

`docs/exchange.md` has examples, and says which operators are written and read. Needs the package
onnx: ``pip install 'bpcore[onnx]'``.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.arguments import boolean
from bpcore.errors import ModelFileError
from bpcore.files import open_regular, replace_file
from bpcore.losses import Loss
from bpcore.losses import get as get_loss
from bpcore.network import Network
from bpcore.onnxexport import graph_of
from bpcore.onnxgraph import SIZE_LIMIT, decode, encode, package
from bpcore.onnximport import network_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["export", "load"]


def export(
    net: Network,
    path: str | os.PathLike[str],
    *,
    standardization: "tuple[ArrayLike, ArrayLike] | None" = None,
    target_standardization: "tuple[ArrayLike, ArrayLike] | None" = None,
    probabilities: bool = False,
) -> None:
    """Write a network to an ONNX file that computes what ``net.predict`` does.

    The model has one input, "input" of shape (batch, n_in), and one output, "output" of shape
    (batch, n_out), of the network's dtype; batch is any number of rows. It is of opset 9, with the
    layers' names as names of nodes and, as in ``net.parameter_arrays()``, of initializers.

    Parameters
    ----------
    net : Network
        Its weights must be finite. Dropout, which does nothing after training, becomes a node that
        runtimes leave out.
    path : str or os.PathLike
        File to write, by custom with the ending ``.onnx``; replaced whole or not at all.
    standardization : (mean, scale), optional
        Two arrays of shape (n_in,), or numbers: the model then takes raw inputs, and begins with
        ``(input - mean) / scale``, in the network's dtype. `scale` is above 0.
    target_standardization : (mean, scale), optional
        Two arrays of shape (n_out,), or numbers, for a network trained on ``(y - mean) / scale``:
        the model ends with ``output * scale + mean``.
    probabilities : bool
        Append the sigmoid or softmax to a network trained on logits (loss bce_logits or
        cross_entropy_logits).

    Raises
    ------
    ImportError
        The package onnx is not installed.
    OSError
        The file cannot be written; an older one of that name is as it was.
    ShapeError, DTypeError, TypeError, ValueError
        A weight that is not finite, a standardisation that does not fit, probabilities of a network
        that has no logits, a layer of a class that is not bpcore's own, more than 2 GB of weights.
    RuntimeError
        Another thread is training the network.

    See Also
    --------
    load : The reverse.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore.onnx
    >>> net = bpcore.mlp([4, 5, 3], hidden="gelu", output="softmax", loss="cross_entropy", rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.onnx")
    ...     bpcore.onnx.export(net, path)
    ...     same = bpcore.onnx.load(path)
    >>> same
    Network(Dense(4, 5), GELU(), Dense(5, 3), Softmax(), loss=cross_entropy, float64, 43 parameters)
    >>> bool((same.parameters == net.parameters).all())
    True
    """
    from bpcore import __version__

    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    boolean(probabilities, "probabilities")
    with net._exclusive:
        for name, array in net.parameter_arrays().items():
            if not np.isfinite(array).all():
                raise ValueError(f"cannot export non-finite weights: {name}")
        graph = graph_of(net, standardization, target_standardization, probabilities)
    replace_file(path, encode(graph, __version__))


def load(path: str | os.PathLike[str], *, loss: "str | Loss | None" = None) -> Network:
    """Load a network from an ONNX file.

    Read is what `export` writes (the network then has the same layers, names and bits), what
    PyTorch's exporters write for chains of linear layers and activations, and what skl2onnx writes
    for MLPClassifier, MLPRegressor and a scaler before them. A standardisation is folded into the
    layer beside it, which rounds its weights once. Of a classifier's outputs the probabilities are
    taken; where skl2onnx writes 1 - p and p (two classes, or several labels) the network gives p.

    Parameters
    ----------
    path : str or os.PathLike
        File to read. Weights may be in a file beside it (external data).
    loss : str or Loss, optional
        The network's loss. Without it: what the file says, if bpcore has written it; else
        cross_entropy after a softmax, bce after a sigmoid, and mse after all else. A loss's
        reduction and parameters are not in the file.

    Returns
    -------
    Network
        Of the dtype of the file's weights, float32 or float64.

    Raises
    ------
    ImportError
        The package onnx is not installed.
    OSError
        A file cannot be read, or is a directory, a device or a FIFO.
    ModelFileError
        Not an ONNX file, or damaged; or a model that is not a chain of the layers bpcore has. The
        message names the file, the node and its operator; of an unknown one also what is
        supported.

    See Also
    --------
    export : The reverse, with an example.
    """
    package()
    loss = None if loss is None else get_loss(loss)
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > SIZE_LIMIT:
            raise ModelFileError(f"{os.fsdecode(path)}: {size} bytes are too many for an ONNX file")
        data = file.read(size)
    folder = os.path.dirname(os.path.abspath(os.fsdecode(path)))
    try:
        return _network(data, folder, loss)
    except ModelFileError as error:
        # A message may quote the file, which may hold megabytes where a name should be.
        raise ModelFileError(f"{os.fsdecode(path)}: {str(error)[:1000]}") from error.__cause__


def _network(data: bytes, folder: str, loss: Any) -> Network:
    try:
        return network_of(decode(data, folder), loss)
    except (ModelFileError, MemoryError, OSError):
        raise
    except Exception as error:  # whatever a constructor dislikes is the file's fault
        raise ModelFileError(f"malformed model: {type(error).__name__}: {error}") from error
