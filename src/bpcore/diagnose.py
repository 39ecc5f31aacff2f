"""Which mistake is it? Gradients of somebody's own code beside those that known mistakes give.

`suspects` lists the mistakes, `wrongerrors`, `wrongslopes` and `wrongways` compute what they do to
the steps of a backward pass, `wrongforwards` to the forward pass, `blame` searches from the output
back, `matching` compares all entries, and `scaling` says where constant factors came in.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.blame import History, Search
from bpcore.checks import FLOAT64, as_matrix, as_sample_weight, finite_positive
from bpcore.errors import ShapeError
from bpcore.explanation import Account, ArrayVerdict, Explanation
from bpcore.factors import Factors
from bpcore.givengradients import GivenArrays
from bpcore.layers import Dense
from bpcore.matching import TOLERANCE
from bpcore.scaling import factor_step
from bpcore.suspects import DERIVATIVES, Mistake, Step
from bpcore.truepass import Problem, Right, blocks_of, right_gradients, run
from bpcore.wrongforwards import other_forwards

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

__all__ = ["Explanation", "Mistake", "explain_gradients"]

_TIE = 0.35  # explanations that cost so little more are told as alternatives
_MOST_TOLD = 6
_SIMPLE = 3.8  # from here on a wrong forward pass may be the simpler explanation
_MOST_FORWARDS = 40  # for which mistakes at the loss are looked for, too
_LARGE = 20_000  # parameters, from which other forward passes would take too long
_TWINS = {
    "sign": "sign",
    "swapped": "sign",
    "error_averaged": "error_averaged",
    "target_broadcast": "error_averaged",
}
"""Mistakes of which other data need not tell one from the other."""
_ROUNDING = {4: 1e-5, 8: 2e-14}  # some eighty roundings of a number near 1


def explain_gradients(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    gradients: Any,
    *,
    sample_weight: "ArrayLike | None" = None,
    learning_rate: float | None = None,
    previous_X: "ArrayLike | None" = None,
) -> Explanation:
    """Say which of somebody's gradients are right, and which mistakes reproduce the others.

    The gradients that backward passes with known mistakes would give are computed in float64 and
    compared in all entries; ``docs/mistakes.md`` lists them. `Dropout` does not act.

    Parameters
    ----------
    net : Network
        The architecture, the weights and the loss that the gradients are meant for.
    X : array_like of shape (n, n_in)
        The batch.
    y : array_like
        Its targets, as `net.loss_value` takes them.
    gradients : array_like, list, dict or callable
        What is to be judged: a flat array in the order of `net.gradients`; a list of arrays
        [W1, b1, W2, ...]; a dict by the names of `net.parameter_arrays`, or W1, b1, ... or dW1,
        db1, ...; or a function that returns one of these, of no arguments, of (X, y) or of
        (net, X, y). None stands for an array that is missing. Updates in place of gradients are
        recognised.
    sample_weight : array_like of shape (n,), optional
        Weights of the rows.
    learning_rate : float, optional
        The rate that may have been applied already.
    previous_X : array_like of shape (n, n_in), optional
        The batch of the step before, from which values may have been left over.

    Returns
    -------
    Explanation
        `print` it, or look at `ok`, `arrays`, `mistakes` and `alternatives`.

    Raises
    ------
    ShapeError
        An array whose shape is neither that of its parameter, nor the transposed one, nor the
        result of a mistake; too few arrays or too many.
    DTypeError
        Anything but real numbers.
    ValueError
        A name that the network does not have, or one that is lacking; a network with a
        `CustomLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> rng = np.random.default_rng(0)
    >>> net = bpcore.mlp([4, 5, 3], hidden="sigmoid", rng=0)
    >>> X, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    >>> W1, b1, W2, b2 = net.parameter_arrays().values()
    >>> a = 1 / (1 + np.exp(-(X @ W1 + b1)))
    >>> delta2 = 2 * (a @ W2 + b2 - y) / y.size
    >>> delta1 = delta2 @ W2.T  # and where is the sigmoid's derivative?
    >>> mine = [X.T @ delta1, delta1.sum(axis=0), a.T @ delta2, delta2.sum(axis=0)]
    >>> explanation = bpcore.explain_gradients(net, X, y, mine)
    >>> explanation.ok, explanation.mistakes
    (False, [<Mistake derivative_missing: layer=1>])
    >>> print(explanation.mistakes[0].text)
    layer 1 (Sigmoid()): the activation's derivative was left out. Meant: f'(z) = a(1 - a); used: 1
    """
    if net.loss.calls_python:
        raise ValueError(
            f"explain_gradients knows the mistakes that are made with bpcore's own losses, and "
            f"{net.loss!r} is none; compare with net.loss_and_gradient instead"
        )
    problem = _problem(net, X, y, sample_weight, previous_X)
    if learning_rate is not None:
        learning_rate = finite_positive(learning_rate, "learning_rate")
    given = GivenArrays(net, gradients, problem.X, y)
    itemsize = 4 if min(given.itemsize, net.dtype.itemsize) <= 4 else 8
    problem.rtol, problem.rounding = TOLERANCE[itemsize], _ROUNDING[itemsize]
    problem.tiny = float(np.finfo(f"f{itemsize}").tiny)
    rtol = problem.rtol
    with np.errstate(all="ignore"):
        right = right_gradients(problem)
        arrays = _verdicts(net, problem, given, right)
        order = _from_output(net)
        explanation = Explanation(arrays, order=order)
        moved = given.transposed | given.broadcast
        if explanation.ok and not moved:
            return explanation
        for name in moved:
            if arrays[name].ok:
                arrays[name].verdict, arrays[name].misshapen = "wrong", True
                arrays[name].note = f"its shape is {given.arrays[name].shape}"
        histories = _search(net, problem, given, right, rtol, learning_rate)
    accounts = _accounts(net, problem, histories, arrays, learning_rate, rtol)
    if given.columns:
        accounts = _with_broadcast_targets(net, accounts)
    explained = {name for name in arrays if not accounts or name not in accounts[0].unexplained}
    given.refuse_broadcast(explained if accounts else set(), net.parameter_arrays())
    return Explanation(arrays, accounts, _suggestion(problem, accounts, arrays), order)


def _problem(
    net: "Network", X: "ArrayLike", y: "ArrayLike", sample_weight: Any, previous_X: Any
) -> Problem:
    X = np.array(as_matrix(X, "X", net.n_in), dtype=FLOAT64, order="C")
    if not len(X):
        raise ShapeError("X has no rows, so there is no gradient")
    if not np.isfinite(X).all():
        raise ValueError("X must be finite")
    target = net.loss.check_target(y, "y", len(X), net.n_out)
    if target.ndim == 1:
        target = np.eye(net.n_out)[target]
    target = np.array(target, dtype=FLOAT64)
    if not np.isfinite(target).all():
        raise ValueError("y must be finite")
    weight = as_sample_weight(sample_weight, len(X), FLOAT64)
    with np.errstate(all="ignore"):
        before, blocks = blocks_of(net)
        run(before, blocks, X)
        own_input = blocks[0].x
        previous = None
        if previous_X is not None:
            older = np.array(as_matrix(previous_X, "previous_X", net.n_in), dtype=FLOAT64)
            before, previous = blocks_of(net)
            run(before, previous, older)
            if len(older) != len(X):
                previous = None
    return Problem(
        blocks,
        own_input,
        target,
        weight,
        net.loss.kernel,
        float(net.loss.parameter),
        net.loss.reduction,
        float(net.l2),
        float(net.l1),
        previous,
    )


def _from_output(net: "Network") -> list[str]:
    """The arrays from the output back; of a layer the bias first, which depends on less."""
    names = list(net.parameter_arrays())
    layers = dict.fromkeys(name.rpartition(".")[0] for name in reversed(names))
    return [
        f"{layer}.{kind}"
        for layer in layers
        for kind in ("bias", "weight")
        if f"{layer}.{kind}" in names
    ]


def _verdicts(
    net: "Network", problem: Problem, given: GivenArrays, right: list[Right]
) -> dict[str, ArrayVerdict]:
    """Compare every array with the right one."""
    parts = []
    for block in right:
        errors = block.errors(problem)
        parts.append((block.weight, errors[0]))
        if block.bias is not None:
            parts.append((block.bias, errors[1]))
    wanted = dict(zip(net.parameter_arrays(), parts, strict=True))
    arrays = {
        name: ArrayVerdict(name, given.fitted[name], value, error)
        for name, (value, error) in wanted.items()
    }
    if net.dtype.itemsize == 8 or all(verdict.ok for verdict in arrays.values()):
        return arrays
    # A float32 network clips earlier, and may lie on the other side of a kink.
    copy = net.astype(net.dtype)
    copy.loss_and_gradient(problem.X, problem.target, sample_weight=problem.sample_weight)
    for name, own in copy.gradient_arrays().items():
        verdict = ArrayVerdict(name, given.fitted[name], own.astype(float), wanted[name][1])
        if verdict.ok:
            arrays[name] = verdict
    return arrays


def _search(
    net: "Network",
    problem: Problem,
    given: GivenArrays,
    right: list[Right],
    rtol: float,
    rate: float | None,
) -> list[History]:
    factors = Factors(problem, rate, 3 * rtol)
    by_layer = given.by_layer(net, right)
    histories = Search(problem, by_layer, right, factors, rtol, rate).run()
    best = histories[0][0] if histories else np.inf
    if (histories and _is_simple(histories[0])) or net.parameters.size > _LARGE:
        return histories
    others = [(step, other, right_gradients(other)) for step, other in other_forwards(net, problem)]
    others = [row for row in others if all(np.isfinite(r.weight).all() for r in row[2])]
    for right_output in (True, False):  # mistakes at the loss, too, if there must be
        for step, other, own in others:
            search = Search(other, by_layer, own, factors, rtol, rate, True, right_output)
            histories += [
                (cost + step.cost, (step, *steps), unknown)
                for cost, steps, unknown in search.run()
                if cost + step.cost < best
            ]
        histories.sort(key=lambda history: history[0])
        if len(others) > _MOST_FORWARDS or not histories or not histories[0][2]:
            break
    return histories


def _is_simple(history: History) -> bool:
    """Whether an explanation is so simple that none with another forward pass could be simpler."""
    _, steps, unknown = history
    once = {step.code: step.cost for step in steps}  # what is done in each layer is one habit
    return not unknown and sum(once.values()) < _SIMPLE


# ------------------------------------------------------------------------------- telling what it is


def _accounts(
    net: "Network",
    problem: Problem,
    histories: list[History],
    arrays: dict[str, ArrayVerdict],
    rate: float | None,
    rtol: float,
) -> list[Account]:
    """The simplest explanation, and those that are as simple."""
    factors = Factors(problem, rate, 3 * rtol)
    accounts: list[Account] = []
    seen: set[Any] = set()
    for cost, steps, unknown in histories:
        if cost > histories[0][0] + _TIE:
            break
        for reading in _readings(steps, factors, problem):
            mistakes = [
                Mistake(step, _place(net, step), _derivative(net, step)) for step in reading
            ]
            named = [
                f"{net.names[int(n.partition('.')[0])]}.{n.partition('.')[2]}" for n in unknown
            ]
            named = [name for name in named if not arrays[name].ok]
            key = tuple(sorted(str(m.key) for m in mistakes)), frozenset(named)
            if key not in seen and len(accounts) < _MOST_TOLD:
                seen.add(key)
                accounts.append(Account(mistakes, named))
    return accounts


def _with_broadcast_targets(net: "Network", accounts: list[Account]) -> list[Account]:
    """Where equal targets hide in the numbers what the shape shows."""
    step = Step("target_broadcast", len(net.layers) - 1)
    shown = Mistake(step, _place(net, step))
    return [
        account
        if any(mistake.code == shown.code for mistake in account.mistakes)
        else Account([shown, *account.mistakes], account.unexplained)
        for account in accounts
    ]


def _readings(
    steps: tuple[Step, ...], factors: Factors, problem: Problem
) -> Iterator[tuple[Step, ...]]:
    """The mistakes, then the same with a factor read in another way."""
    yield steps
    kinds = [(step.code, step.parameter, step.meaning) for step in steps]
    for i, step in enumerate(steps):
        if kinds[i] in kinds[:i]:  # what is alike has the same cause
            continue
        others: list[Step] = []
        if step.factor is not None and step.meaning:
            readings = factors.readings(step.factor, 1)
            others = [factor_step(r, step.layer, step.parameter, problem) for r in readings]
            others = [o for o in others if (o.code, o.meaning) != (step.code, step.meaning)]
        symmetric = problem.fused or problem.loss in ("mse", "mae", "huber")
        if step.code == "sign" and step.layer == problem.blocks[-1].last_layer and symmetric:
            others.append(Step("swapped", step.layer))
        for other in others:
            yield tuple(
                other._replace(layer=old.layer) if kind == kinds[i] else old
                for old, kind in zip(steps, kinds, strict=True)
            )


def _place(net: "Network", step: Step) -> str:
    name, layer = net.names[step.layer], net.layers[step.layer]
    place = f"layer {name} ({layer!r})"
    if step.parameter is None:
        return place
    if not isinstance(layer, Dense):
        return f"{place}, on the way to the gradient of the {step.parameter} only"
    return f"the {step.parameter} of {place}"


def _derivative(net: "Network", step: Step) -> str:
    """The formula of the derivative that is meant, by the layer's activation."""
    return DERIVATIVES.get(getattr(net.layers[step.layer], "kernel", ""), "")


def _as_twins(account: Account) -> tuple[set[Any], set[str]]:
    """What an account says, but for what other data need not tell apart."""
    keys = {(_TWINS[m.code], m.layer) if m.code in _TWINS else m.key for m in account.mistakes}
    return keys, set(account.unexplained)


def _suggestion(problem: Problem, accounts: list[Account], arrays: dict[str, ArrayVerdict]) -> str:
    """What would tell the alternatives apart."""
    if not accounts:
        return ""
    n, k = problem.n_rows, problem.n_out
    first, *others = (_as_twins(account) for account in accounts)
    told = {m.code for account in accounts for m in account.mistakes}
    advice = []
    if others and told >= {"error_averaged", "target_broadcast"}:
        advice.append(
            "An averaged error and broadcast targets may give the same numbers; print "
            "(p - y).shape, which tells."
        )
    if any(other != first for other in others):
        rows = next(r for r in (7, 11, 13) if r not in (n, k))
        start = "To tell the rest apart" if advice else "To tell them apart"
        advice.append(
            f"{start}, try {rows} random rows without zeros, and layers of different widths."
        )
    if advice:
        return " ".join(advice)
    unknown = [name for name in accounts[0].unexplained if arrays[name].verdict != "not finite"]
    if unknown and n == 1:
        return "One row says little: try a batch of 7 random rows."
    if unknown and problem.previous is None:
        return "If values of an earlier step may be left over, give its batch as previous_X."
    return ""
