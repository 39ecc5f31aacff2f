"""Ways back from one dense layer to the one before it, right and wrong."""

from collections.abc import Iterator

import numpy as np

from bpcore.suspects import Step
from bpcore.truepass import Problem
from bpcore.wrongslopes import Backed, ways_back

_RATES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 1e-4)


def hidden_ways(
    problem: Problem,
    k: int,
    delta: np.ndarray,
    source: np.ndarray | None,
    scales: "tuple[float | np.ndarray, ...]",
    given: np.ndarray | None,
    rate: float | None,
    deep: bool,
    earlier: tuple[tuple[int, np.ndarray], ...] = (),
) -> list[Backed]:
    """All gradients at the output of dense layer k, given that at the output of the next one.

    `given` is the gradient that the learner has for the next layer's weight, `earlier` are the
    gradients at the outputs of layers behind that. With `deep` also those of two mistakes.
    """
    starts = list(_starts(problem, k, delta, source, earlier))
    products = list(_products(problem, k, given, rate))
    found: list[Backed] = []
    for i, (start, start_step) in enumerate(starts):
        for j, (weight, weight_step) in enumerate(products):
            before = (start_step, weight_step)
            altered = (i > 0) + (j > 0)
            if altered > (2 if deep else 1):
                continue
            d = start @ weight
            ways = [Backed(problem.blocks[k].back(d), (), d)]
            if altered < (2 if deep else 1):
                ways = ways_back(problem, k, d, scales)
            steps = tuple(step for step in before if step is not None)
            found += [Backed(way.delta, (*steps, *way.steps), d) for way in ways]
    found.sort(key=lambda way: len(way.steps) > 0)
    return [way for way in found if np.isfinite(way.delta).all()]


def _starts(
    problem: Problem,
    k: int,
    delta: np.ndarray,
    source: np.ndarray | None,
    earlier: tuple[tuple[int, np.ndarray], ...],
) -> Iterator[tuple[np.ndarray, Step | None]]:
    above = problem.blocks[k + 1]
    yield delta, None
    if source is not None and source is not delta:
        yield source, Step("error_passed_back", above.last_layer)
    for layer, other in earlier:
        if other.shape == delta.shape:
            used = f"delta of layer {layer} @ W.T"
            yield other, Step("wrong_delta_passed_back", above.layer, used=used, cost=1.1)


def _products(
    problem: Problem, k: int, given: np.ndarray | None, rate: float | None
) -> Iterator[tuple[np.ndarray, Step | None]]:
    above = problem.blocks[k + 1]
    weight, layer = above.weight, above.layer
    n_in, n_out = weight.shape
    yield weight.T, None
    if n_in == n_out and n_in > 1:
        yield weight, Step("weights_transposed", layer)
    for j, other in enumerate(problem.blocks):
        if j == k + 1:
            continue
        step = Step("other_weights", layer, used=f"delta @ W.T with W of layer {other.layer}")
        if other.weight.shape == weight.shape:
            yield other.weight.T, step
        if other.weight.shape == (n_out, n_in):
            used = f"delta @ W with W of layer {other.layer}"
            yield other.weight, step._replace(used=used, cost=1.05)
    if given is not None and given.any():
        rates = _RATES if rate is None else (rate,)
        for i, known in enumerate(rates):
            yield (weight - known * given).T, Step("updated_weights", layer, cost=1 + 0.001 * i)
        yield (weight + given).T, Step("updated_weights", layer, cost=1.1)
    if n_in == n_out:
        yield np.eye(n_in), Step("weights_missing", layer, cost=1.1)
    elif n_out == 1:
        yield np.ones((1, n_in)), Step("weights_missing", layer, cost=1.1)
    if (weight < 0).any():
        yield np.abs(weight).T, Step("weights_size", layer, cost=1.1)


def solve_rate(
    problem: Problem, k: int, delta: np.ndarray, given: np.ndarray, target: np.ndarray
) -> float | None:
    """The rate of the update that was made before the way back, if the target speaks of one."""
    block, above = problem.blocks[k], problem.blocks[k + 1]
    plain = block.x.T @ block.back(delta @ above.weight.T)
    change = block.x.T @ block.back(delta @ given.T)
    columns = np.stack([plain.ravel(), change.ravel()], axis=1)
    if columns.shape[0] < 4:
        return None
    (scale, shift), *_ = np.linalg.lstsq(columns, target.ravel(), rcond=None)
    if scale == 0 or not np.isfinite(shift / scale):
        return None
    rate = -shift / scale
    return float(rate) if 1e-8 < abs(rate) < 1e3 else None
