"""What `fit` is given: checked, and handed to the run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, optimizers, schedules
from bpcore.callbacks import Checkpoint, EarlyStopping, check_fit
from bpcore.checks import (
    as_matrix,
    as_sample_weight,
    boolean,
    check_finite,
    check_memory,
    choose,
    finite_positive,
    fraction,
    whole,
)
from bpcore.classweights import described, row_weights
from bpcore.csvlogger import CSVLogger
from bpcore.errors import ShapeError
from bpcore.fitrun import EVENTS, Run, history_of, optimizer_text
from bpcore.history import History
from bpcore.progress import Progress
from bpcore.unfinished import DefaultFloat, DefaultInt, DefaultText, Unfinished

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

EPOCHS, BATCH_SIZE, SAMPLING = DefaultInt(1), DefaultInt(32), DefaultText("shuffle")
FRACTION = DefaultFloat(0.0)


def fit(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    epochs: int = EPOCHS,
    batch_size: int | None = BATCH_SIZE,
    optimizer: Any = None,
    sampling: str = SAMPLING,
    sample_weight: "ArrayLike | None" = None,
    class_weight: Any = None,
    gradient_clip: float | None = None,
    validation_data: Any = None,
    validation_fraction: float = FRACTION,
    early_stopping: "EarlyStopping | int | None" = None,
    callbacks: Iterable[Any] = (),
    verbose: int = 0,
    print_every: int = 1,
    progress: bool = False,
    resume: bool = False,
    health: bool = True,
) -> History:
    """Train the network.

    Parameters
    ----------
    X : array_like of shape (n, n_in)
        Rows are samples. Arrays of float32 and float64 are read where they lie, in any layout,
        memory maps included, and never written to. Frames and tensors of other libraries are
        arrays too, if they have ``__array__`` or DLPack; columns count by position, not by name.
    y : array_like
        The target: shape (n, n_out), or (n,) for one output; class labels for cross-entropy.
    epochs : int
        An epoch goes through all rows once; 0 does nothing.
    batch_size : int or None
        Rows a step; None, or more than there are, is all rows. The last batch may be short. With
        `LevenbergMarquardt` all rows are the default.
    optimizer : str, Optimizer or None
        None: the one that the network has, state and all, else ``SGD()``. An optimiser that has
        served this network before continues, its schedule too; a name or a new object starts
        afresh.
    sampling : {"shuffle", "sequential", "replacement"}
        "shuffle": a new order each epoch, that of ``net.rng.permutation(n)``; a single batch of all
        rows keeps their own order. "sequential": rows in order. "replacement": each batch is
        ``net.rng.integers(0, n, batch_size)``.
    sample_weight : array_like of shape (n,), optional
        Finite, 0 or more, not all 0.
    class_weight : "balanced", dict of label to number, or None
        Weights that multiply those of the rows: for cross-entropy, and for one output whose target
        is 0 or 1. "balanced" is ``n / (k * count)`` for n rows and k classes, as scikit-learn's,
        counted in all of `y`; labels that a dict lacks weigh 1. The validation loss does not
        count them.
    gradient_clip : float, optional
        The largest Euclidean norm of the whole gradient; longer ones are scaled down to it.
    validation_data : (X, y) or (X, y, sample_weight), optional
        Its loss is recorded after each epoch.
    validation_fraction : float
        Instead of `validation_data`: this share of the rows, drawn at random, is held out.
    early_stopping : EarlyStopping, int or None
        An int is the patience of an `EarlyStopping`.
    callbacks : iterable
        Functions, or objects such as `Metric`, `CSVLogger` and `Checkpoint`; see
        `bpcore.callbacks`. One may set ``net.optimizer.learning_rate`` for the epochs to come.
    verbose : int
        1 prints a line every `print_every` epochs, and after the last.
    print_every : int
        Epochs a line.
    progress : bool
        Show a progress bar (tqdm).
    resume : bool
        Finish the fit that was interrupted, by Ctrl-C, a callback, another exception, or the end of
        the process after a `Checkpoint`: from the batch where it stood, to the same bits as if
        nothing had happened, its record too. X, y, weights (of rows and of classes), validation
        data and callbacks must be given again. Other arguments that are not given are as they
        were; those given must be the same, but `epochs` may be larger. Nothing else may have used
        the network's generator.
    health : bool
        Whether to look, now and then and on a few rows, at the inputs and at what the layers make
        of them, and to warn of what is wrong; see `Network.health`. Results are the same without.

    Returns
    -------
    History
        The loss of an epoch is the mean over its batches, by weight, of each batch's loss before
        its update; nan if the epoch drew rows of weight 0 alone. `net.gradients` holds the gradient
        of the last step; after an exception it may hold anything.

    Raises
    ------
    ShapeError, DTypeError, ValueError, TypeError
        An argument is not what it should be; nothing has changed.
    DivergenceError
        The loss or a gradient became non-finite; the last finite weights are kept.
    RuntimeError
        Another thread, or a callback, is already training the network.
    KeyboardInterrupt
        Within a fraction of a second; the weights are those after the last whole batch.

    Warns
    -----
    UnscaledInputWarning, DeadUnitsWarning, SaturationWarning, StalledWarning
        At most once each, with a remedy. A network's first fit is looked at, later ones once they
        have lasted long enough for a look to cost next to nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> net = bpcore.mlp([1, 8, 1], hidden="tanh", rng=0)
    >>> history = net.fit(X, X[:, 0] ** 2, epochs=200, optimizer="adam", verbose=1, print_every=100)
    ... # doctest: +ELLIPSIS
    epoch 100/200  loss ...
    epoch 200/200  loss ...
    """
    earlier = _earlier(net) if boolean(resume, "resume") else None
    if earlier is not None:
        epochs = earlier.argument("epochs", epochs)
        batch_size = earlier.argument("batch_size", batch_size)
        sampling = earlier.argument("sampling", sampling)
        gradient_clip = earlier.argument("gradient_clip", gradient_clip)
        validation_fraction = earlier.argument("validation_fraction", validation_fraction)
    epochs = 1 if epochs is EPOCHS else whole(epochs, "epochs", 0)
    check_memory(32 * epochs, f"the record of {epochs} epochs")
    verbose = whole(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    print_every = whole(print_every, "print_every", 1)
    health = boolean(health, "health")
    if sampling is SAMPLING:
        sampling = "shuffle"
    else:
        sampling = choose(sampling, _core.sampling_names(), "sampling")
    clip = None if gradient_clip is None else finite_positive(gradient_clip, "gradient_clip")
    data = checked(net, X, y, sample_weight, "")
    n = data[0].shape[0]
    optimizer = _optimizer(net, optimizer, earlier)
    if batch_size is BATCH_SIZE:
        batch_size = n if optimizer.takes_all_rows else 32
    else:
        batch_size = n if batch_size is None else whole(batch_size, "batch_size", 1)
    watchers = _callbacks(callbacks, early_stopping)
    if validation_data is not None and validation_fraction:
        raise ValueError("give validation_data or validation_fraction, not both")
    validation = None if validation_data is None else _validation(net, validation_data)
    share = 0.0
    if validation_fraction is not FRACTION:
        share = fraction(validation_fraction, "validation_fraction")
    held_out = _held_out(n, share)
    batch_size = min(batch_size, n - held_out)
    optimizer.check_fit(net, n - held_out, batch_size, sampling, clip)
    kind = {"loss": net.loss, "n_out": net.n_out, "dtype": net.dtype}
    weight = row_weights(class_weight, data[1], data[2], **kind)
    others = None if validation is None else validation[0].shape[0]
    settings = {
        "n": n,
        "epochs": epochs,
        "batch_size": batch_size,
        "sampling": sampling,
        "gradient_clip": clip,
        "validation_fraction": share,
        "sample_weight": data[2] is not None,
        "class_weight": described(class_weight),
        "n_validation": held_out or others,
    }
    if earlier is not None:
        earlier.check(settings)
    if watchers:
        check_fit(watchers, net, settings["n_validation"] is not None)
    rates = _rates(net, optimizer, epochs, earlier)
    bar = Progress(progress)
    if epochs == 0:
        return history_of(0, rates, rates, rates, rates if validation or held_out else None, {})

    with net._exclusive:
        if net._exclusive.fitting:
            raise RuntimeError("a callback cannot train the network that is being trained")
        net._exclusive.fitting = True
        try:
            rows = others = None
            if held_out:
                rows, others = _split(net.rng, n, held_out, (weight, data[2]), earlier)
                validation = (*data, others)
            net.optimizer = optimizer
            data = (*data[:2], weight, rows)
            run = Run(net, data, validation, optimizer, rates, settings, earlier)
            return run.train(watchers, bar, print_every if verbose else 0, health)
        finally:
            net._exclusive.fitting = False
            bar.close()


def checked(
    net: "Network", X: "ArrayLike", y: "ArrayLike", sample_weight: "ArrayLike | None", of: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return data in the form that C reads; `of` goes before the arguments' names in messages."""
    X = as_matrix(X, f"{of}X", net.n_in)
    n = X.shape[0]
    if n == 0:
        raise ShapeError(f"{of}X has no rows")
    check_finite(X, f"{of}X", net.dtype)
    y = net.loss.check_target(y, f"{of}y", n, net.n_out)
    if y.dtype.kind == "f":
        check_finite(y, f"{of}y", net.dtype)
    return net._apart(X), net._apart(y), as_sample_weight(sample_weight, n, net.dtype)


def _validation(net: "Network", validation_data: Any) -> tuple[Any, ...]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    weight = validation_data[2] if len(validation_data) == 3 else None
    return (
        *checked(net, validation_data[0], validation_data[1], weight, "validation_data "),
        None,
    )


def _held_out(n: int, share: float) -> int:
    """How many rows a fraction is: at least one, and not all."""
    if not share:
        return 0
    if n < 2:
        raise ValueError("validation_fraction needs two rows at least")
    return min(max(round(share * n), 1), n - 1)


def _split(
    rng: "np.random.Generator",
    n: int,
    held_out: int,
    weights: tuple[np.ndarray | None, np.ndarray | None],
    earlier: Unfinished | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to train on and those to hold out, both in order; each have weights."""
    if earlier is not None:
        rows_held_out = earlier.arrays["held_out"]
        return np.setdiff1d(np.arange(n), rows_held_out), rows_held_out
    before = rng.bit_generator.state
    order = rng.permutation(n)
    rows, rows_held_out = np.sort(order[held_out:]), np.sort(order[:held_out])
    for weight, used in zip(weights, (rows, rows_held_out), strict=True):
        if weight is not None and not weight[used].any():
            rng.bit_generator.state = before
            raise ValueError(
                "weights are all zero in the rows that validation_fraction drew to hold out, or in "
                "the others; give validation_data"
            )
    return rows, rows_held_out


def _optimizer(net: "Network", optimizer: Any, earlier: Unfinished | None) -> optimizers.Optimizer:
    given = None if optimizer is None else optimizers.get(optimizer)
    if earlier is None:
        return given or net.optimizer or optimizers.SGD()
    if given is not None and given is not net.optimizer:
        text = optimizer_text(given, given.learning_rate)
        if text != earlier.settings["optimizer"]:
            was = earlier.settings["optimizer"]
            raise ValueError(f"resume=True goes on with optimizer {was}, got {text}")
    return net.optimizer or optimizers.SGD()


def _rates(
    net: "Network", optimizer: optimizers.Optimizer, epochs: int, earlier: Unfinished | None
) -> np.ndarray:
    """Return the learning rates; a schedule goes on where the optimiser stands."""
    if earlier is not None:
        earlier.check_epochs(epochs)
        return schedules.rates(optimizer.learning_rate, epochs, earlier.position["first_epoch"])
    first = optimizer.epochs_done(net) if callable(optimizer.learning_rate) else 0
    return schedules.rates(optimizer.learning_rate, epochs, first)


def _earlier(net: "Network") -> Unfinished:
    if net._interrupted is None:
        raise ValueError(
            "there is nothing to resume: the network has no fit that was interrupted. Call fit "
            "without resume to train on"
        )
    return net._interrupted


def _callbacks(callbacks: Iterable[Any], early_stopping: Any) -> list[Any]:
    single = callable(callbacks) or any(hasattr(callbacks, name) for name in EVENTS)
    watchers = [callbacks] if single else list(callbacks)
    for callback in watchers:
        known = callable(callback) or any(hasattr(callback, name) for name in EVENTS)
        if isinstance(callback, type) or not known:
            events = ", ".join(EVENTS)
            raise TypeError(
                f"a callback must be a function or an object with {events}; got {callback!r}"
            )
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            early_stopping = EarlyStopping(patience=whole(early_stopping, "early_stopping", 1))
        watchers.append(early_stopping)
    if watchers:  # what is monitored, written and saved is what the others leave
        watchers.sort(key=_place)
    return watchers


def _place(callback: Any) -> int:
    """Where a callback stands among the others; those of equal place keep their order."""
    last = enumerate((EarlyStopping, CSVLogger, Checkpoint), 1)
    return next((place for place, kind in last if isinstance(callback, kind)), 0)
