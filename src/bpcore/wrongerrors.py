"""Wrong errors: what may be put where the derivative of the loss by the predictions is meant."""

from collections.abc import Iterator

import numpy as np

from bpcore.losses import FUSED
from bpcore.suspects import SUSPECTS, Step
from bpcore.truepass import Problem, elements_of, loss_values, output_delta, slope_of
from bpcore.wrongslopes import Backed, ways_back

_MOST_PAIRS = 4096  # rows, whose pairs with all targets are looked at
_ERROR = "p - y"
# Where the loss cancels the last derivative, these are told of p - y, not of dL/dp.
_OF_ERROR = {"weights_ignored", "weights_twice", "error_size", "one_prediction"} | {
    *("target_broadcast", "error_before_activation", "times_loss", "error_averaged")
}

_IS_EXTRA = {"derivative_at_error", "softmax_elementwise"}  # these say it already


def error_scales(problem: Problem) -> "tuple[float | np.ndarray, ...]":
    """By what the error that a learner has in hand may differ from the derivative of the loss."""
    scale = problem.row_scale()
    unit = np.divide(1.0, scale, where=scale > 0, out=np.zeros_like(scale))
    if problem.sample_weight is None:
        unit = float(unit[0, 0])
    half = () if problem.loss.startswith(("bce", "cross", "poisson")) else (unit / 2, 0.5)
    return (unit, 1.0, float(problem.n_rows), float(problem.n_out), *half, -unit, -1.0)


def output_ways(problem: Problem, deep: bool) -> list[Backed]:
    """All gradients at the last dense layer's output: the right one first.

    With `deep` also those of two mistakes, one in the error and one in the derivative.
    """
    last = len(problem.blocks) - 1
    scales = error_scales(problem)
    slope = problem.row_scale() * _slope(problem, problem.prediction, problem.target)
    right = output_delta(problem)
    found = [Backed(right, (), right if problem.fused else slope)]
    found += _ways_of_right_error(problem, slope, scales)
    found += _rows(problem, found[0])
    forms = ways_back(problem, last, slope, scales) if deep else []
    for error, step, loose in _wrong_errors(problem):
        ways = [ways_back_first(problem, error)]
        if deep:
            ways = ways_back(problem, last, error, scales)[: len(forms)]
        if problem.fused:
            direct = _without_last_derivative(problem, error)
            if step.code in _OF_ERROR:  # then a derivative is one too many
                extra = Step("derivative_extra", step.layer)
                ways = [
                    way if {s.code for s in way.steps} & _IS_EXTRA
                    else Backed(way.delta, (extra, *way.steps), error)
                    for way in ways
                    if deep
                ]  # fmt: skip
            ways = [Backed(direct, (), error), *_costlier(ways, 0.1)]
        for way in ways:
            if step.code == "other_loss" and problem.n_rows > 1 and _parallel(way.delta, right):
                continue  # but for a factor it is right
            found.append(Backed(way.delta, (step, *way.steps), error, loose))
    if deep:
        single = [way for way in found if len(way.steps) == 1]
        for way in single:
            if _keeps_rows(way):
                found += _rows(problem, way)
            found += _reweighted(problem, way)
    found = [way for way in found if np.isfinite(way.delta).all()]
    acts = problem.blocks[-1].acts
    for way in found:  # what is but rounding, as softmax's answer to a constant, is 0
        if not acts or acts[-1].function.kernel != "softmax" or way.source is None:
            continue
        size = np.abs(way.source * problem.prediction).max()
        if np.abs(way.delta).max() <= 1e-13 * size:
            way.delta = np.zeros_like(way.delta)
    return found


def _weightings(problem: Problem) -> Iterator[tuple[Step, np.ndarray]]:
    """Wrong weights of the rows, each with what then scales them."""
    if problem.sample_weight is None:
        return
    layer = problem.blocks[-1].last_layer
    yield Step("weights_ignored", layer), problem.row_scale(0)
    twice = Step("weights_twice", layer)
    yield twice, problem.row_scale() * problem.sample_weight[:, None]
    yield twice, problem.row_scale(2)


def _reweighted(problem: Problem, way: Backed) -> Iterator[Backed]:
    """The same with the sample weights left out or applied twice."""
    scale = problem.row_scale()
    for step, weighted in _weightings(problem):
        if way.steps[0].code == step.code or not (scale > 0).all():
            continue
        ratio = weighted / scale
        source = None if way.source is None else way.source * ratio
        yield Backed(way.delta * ratio, (*way.steps, step), source, way.loose)


def _keeps_rows(way: Backed) -> bool:
    return way.steps[0].code not in ("one_row", "one_prediction", "target_broadcast")


def ways_back_first(problem: Problem, error: np.ndarray) -> Backed:
    """The right way back for an error at the output."""
    return Backed(problem.blocks[-1].back(error), (), error)


def _costlier(ways: list[Backed], cost: float) -> Iterator[Backed]:
    """The same ways, the first with nothing to pay, told after others."""
    for way in ways:
        steps = tuple(step._replace(cost=step.cost + cost) for step in way.steps)
        yield Backed(way.delta, steps, way.source)


def _slope(problem: Problem, p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return slope_of(problem.loss, problem.parameter, p, t)


def _without_last_derivative(problem: Problem, error: np.ndarray) -> np.ndarray:
    for act in reversed(problem.blocks[-1].acts[:-1]):
        error = act.back(error)
    return error


def _ways_of_right_error(
    problem: Problem, slope: np.ndarray, scales: "tuple[float | np.ndarray, ...]"
) -> Iterator[Backed]:
    last = len(problem.blocks) - 1
    wrong = ways_back(problem, last, slope, scales)[1:]
    acts = problem.blocks[-1].acts
    squashed = bool(acts) and acts[-1].function.kernel in ("sigmoid", "softmax")
    for way in wrong:
        if problem.fused and way.steps[0].code == "derivative_twice":  # rather one too many
            way.steps = (way.steps[0]._replace(cost=1.05),)
        # p - y, as if this loss cancelled the derivative too: with or without a 2
        way.loose = squashed and problem.loss == "mse" and way.steps[0].code == "derivative_missing"
        yield way
    if not problem.fused:
        return
    layer = problem.blocks[-1].acts[-1].layer
    p, t = problem.prediction, problem.target
    total = t.sum(axis=1, keepdims=True) if problem.loss == "cross_entropy" else 1.0
    error = problem.row_scale() * (p * total - t)
    extra = Step("derivative_extra", layer)
    first, *others = ways_back(problem, last, error, scales)
    used = "(p - y) f'(z)"
    yield Backed(first.delta, (extra._replace(used=used),), error)
    for way in others:
        code = way.steps[0].code
        if code == "derivative_missing":
            continue
        if code in _IS_EXTRA:
            formula = way.steps[0].used or SUSPECTS[code].used
            if code == "derivative_at_error":
                formula = f"(p - y) {formula}".replace("error", "p - y")
            meant = "p - y, which with this loss is already the gradient at z"
            yield Backed(way.delta, (way.steps[0]._replace(used=formula, meant=meant),), error)
            extra_too = extra._replace(used="(p - y) p(1 - p)")
            if code == "softmax_elementwise":
                yield Backed(way.delta, (extra_too,), error)
        else:
            other = way.steps[0]._replace(cost=way.steps[0].cost - 0.2)
            yield Backed(way.delta, (extra._replace(cost=0.5), other), error)


def _wrong_errors(problem: Problem) -> Iterator[tuple[np.ndarray, Step, bool]]:
    """Everything that may stand for the derivative of the loss."""
    layer = problem.blocks[-1].last_layer
    p, t, scale = problem.prediction, problem.target, problem.row_scale()
    slope = _slope(problem, p, t)
    values = loss_values(problem)
    ones = np.ones_like(p)
    for name, value in values.items():
        yield ones * value, Step("loss_value", layer, used=name), True
        if problem.sample_weight is not None:
            yield scale * ones * value, Step("loss_value", layer, used=name), True
        yield scale * value * slope, Step("times_loss", layer, used=f"{name} * dL/dp"), False
        if problem.fused:
            used = f"{name} * (p - y)"
            yield scale * value * (p - t), Step("times_loss", layer, used=used), False
    elements = elements_of(problem.loss, problem.parameter, p, t)
    if problem.n_rows * problem.n_out > 1:
        yield scale * (ones * elements), Step("loss_elements", layer), True
    yield scale * ones, Step("error_missing", layer, cost=1.1), True
    own = p - t if problem.fused else slope
    yield scale * np.abs(own), Step("error_size", layer), False
    incomplete = {"p": p, "y": t}
    if "cross_entropy" in problem.loss:
        incomplete["(p - y) y, the right class only"] = (p - t) * t
    if problem.loss == "bce":
        incomplete["(1 - y) / (1 - p)"] = (1 - t) / (1 - p)
        incomplete["-y / p - (1 - y) / (1 - p), a sign wrong"] = -t / p - (1 - t) / (1 - p)
    if problem.loss == "poisson":
        incomplete["-y / p, without the 1"] = -t / p
        incomplete["1 + y / p, a sign wrong"] = 1 + t / p
    for used, part in incomplete.items():
        loose = "class" not in used  # that formula is complete but for the other classes
        yield scale * part, Step("error_incomplete", layer, used=used, cost=1.05), loose
    if problem.loss not in ("mse", "mae", "huber"):
        with np.errstate(all="ignore"):
            yield scale * _slope(problem, t, p), Step("swapped", layer), False
    yield from _other_losses(problem)
    if problem.sample_weight is not None:
        for step, weighted in _weightings(problem):
            yield weighted * own, step, False
    yield from _before_activation(problem)
    yield from _averaged(problem, own)
    yield from _mixed_rows(problem)


def _averaged(problem: Problem, error: np.ndarray) -> Iterator[tuple[np.ndarray, Step, bool]]:
    """The mean of all errors in place of each."""
    layer, scale = problem.blocks[-1].last_layer, problem.row_scale()
    step = Step("error_averaged", layer)
    if error.size > 1:
        yield scale * np.full_like(error, error.mean()), step, True
    if len(error) > 1 and error.shape[1] > 1:
        step = step._replace(used="mean(p - y, axis=0)")
        yield scale * np.broadcast_to(error.mean(axis=0), error.shape), step, True


def _before_activation(problem: Problem) -> Iterator[tuple[np.ndarray, Step, bool]]:
    last, scale = problem.blocks[-1], problem.row_scale()
    layer, t = last.last_layer, problem.target
    step = Step("error_before_activation", layer)
    if last.acts and last.acts[-1].function.kernel != "identity":
        z = last.acts[-1].z
        yield scale * (z - t), step, True
        if problem.loss in ("mae", "huber"):
            yield scale * _slope(problem, z, t), step, False
    elif problem.loss in FUSED.values():
        yield scale * (problem.prediction - t), step, True


def _other_losses(problem: Problem) -> Iterator[tuple[np.ndarray, Step, bool]]:
    p, t, scale = problem.prediction, problem.target, problem.row_scale()
    layer = problem.blocks[-1].last_layer
    inside = (p > 0).all() and (p < 1).all()
    formulas = {
        "mse": ("p - y, as of squared error", p - t),
        "mae": ("sign(p - y), as of the absolute error", np.sign(p - t)),
        "huber": ("p - y clipped to [-1, 1], as of Huber's loss", np.clip(p - t, -1, 1)),
    }
    if problem.loss in FUSED.values():
        formulas["bce_logits"] = ("sigmoid(z) - y", slope_of("bce_logits", 0.0, p, t))
        formulas["poisson_log"] = ("exp(z) - y", slope_of("poisson_log", 0.0, p, t))
        formulas["cross_entropy_logits"] = (
            "softmax(z) - y",
            slope_of("cross_entropy_logits", 0.0, p, t),
        )
        del formulas["mse"]  # that is the error before the activation
    elif inside:
        formulas["bce"] = (
            "(p - y) / (p (1 - p)), as of binary cross-entropy",
            slope_of("bce", 0.0, p, t),
        )
        formulas["cross_entropy"] = (
            "-y / p, as of cross-entropy",
            slope_of("cross_entropy", 0.0, p, t),
        )
    right = p - t if problem.fused else _slope(problem, p, t)
    acts = problem.blocks[-1].acts
    if acts and not problem.fused:  # these cancel the derivative: it is told as left out
        cancelled = {"sigmoid": "bce", "softmax": "cross_entropy"}
        formulas.pop(cancelled.get(acts[-1].function.kernel, ""), None)
    for name, (text, error) in formulas.items():
        if name != problem.loss and not _parallel(error, right):
            yield scale * error, Step("other_loss", layer, used=text), True
    if problem.fused:
        yield scale * (p - t), Step("other_loss", layer, used=_ERROR, cost=1.2), False


def _parallel(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether one is the other up to a constant, so that the mistake is but a factor."""
    if np.count_nonzero(b) < 2:  # of single numbers that says nothing
        return False
    product = float((a * b).sum())
    return product**2 >= (1 - 1e-12) * float((a * a).sum()) * float((b * b).sum())


def _mixed_rows(problem: Problem) -> Iterator[tuple[np.ndarray, Step, bool]]:
    """Errors of a prediction of one row and the target of another."""
    n, layer = problem.n_rows, problem.blocks[-1].last_layer
    p, t, scale = problem.prediction, problem.target, problem.row_scale()
    if n == 1:
        return

    def error(p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return p - t if problem.fused else _slope(problem, p, t)

    for row, name in ((n - 1, "last"), (0, "first")):
        mixed = error(np.repeat(p[row : row + 1], n, axis=0), t)
        step = Step("one_prediction", layer, used=f"p of the {name} row - y_j for all j")
        yield scale * mixed, step, True
        alone = np.zeros_like(p)
        alone[row] = (scale * mixed).sum(axis=0)
        yield alone, step, True
    if problem.n_out == 1 and n <= _MOST_PAIRS:
        pairs = error(np.repeat(p, n, axis=1), np.repeat(t.T, n, axis=0))
        step = Step("target_broadcast", layer)
        used = "the mean of p_i - y_j over all i and j"
        yield scale * pairs.mean(), step._replace(used=used), True
        yield scale * pairs.mean(axis=1, keepdims=True), step, True
        yield scale * pairs.mean(axis=0)[:, None], step._replace(cost=1.05), True


def _rows(problem: Problem, right: Backed) -> Iterator[Backed]:
    """Gradients in which one row only has a part."""
    n = problem.n_rows
    if n == 1:
        return
    for row, name in ((n - 1, "the last row"), (0, "the first row")):
        kept = np.zeros((n, 1))
        kept[row] = 1.0
        step = Step("one_row", problem.blocks[-1].last_layer, used=name)
        source = None if right.source is None else right.source * kept
        yield Backed(right.delta * kept, (*right.steps, step), source, True)
