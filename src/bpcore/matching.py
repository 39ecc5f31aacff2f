"""Whether a candidate is the gradient that was given: all entries, up to one constant factor."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bpcore.suspects import Step
from bpcore.truepass import Problem, Right
from bpcore.wrongslopes import Backed

_LARGE = 20_000  # multiplications, from which random projections come first
_PROJECTIONS = 2
_MOST_STEPS = 3  # mistakes in a target
TOLERANCE = {4: 3e-5, 8: 1e-7}
"""By the size of a number: relative to the sums of absolute values of all that is added up."""


@dataclass
class Given:
    """What was given for one dense layer, in the shapes of its parameters."""

    weight: np.ndarray | None
    bias: np.ndarray | None
    has_bias: bool
    transposed: bool = False
    """Whether the weight's gradient came with the transposed shape."""

    @property
    def has_weight(self) -> bool:
        """Whether there is anything to match the weight's gradient with."""
        return self.weight is not None and bool(self.weight.any())


@dataclass
class Match:
    """A candidate fits an array up to a factor (None: both are zero, any factor will do)."""

    factor: float | None
    steps: tuple[Step, ...] = ()
    evidence: int = 1
    exact: bool = False
    """Whether only the factor that is expected anyway will do."""

    @property
    def cost(self) -> float:
        """The cost of the mistakes."""
        return sum(step.cost for step in self.steps)


def fit(target: np.ndarray, candidate: np.ndarray, error: np.ndarray) -> float | None:
    """Return c where target = c * candidate within abs(c) * error throughout; None if nowhere."""
    square = float((candidate * candidate).sum())
    if square == 0 or not np.isfinite(square) or (np.abs(candidate) <= error).all():
        return None
    factor = float((target * candidate).sum()) / square
    if factor == 0 or not np.isfinite(factor):
        return None
    off = np.abs(target - factor * candidate)
    return factor if (off <= abs(factor) * error).all() else None


def fit_each(targets: np.ndarray, candidates: np.ndarray, errors: np.ndarray) -> list[float | None]:
    """`fit` for each of several targets, all in the rows of matrices."""
    candidates = np.broadcast_to(candidates, targets.shape)
    squares = (candidates * candidates).sum(axis=1)
    factors = (targets * candidates).sum(axis=1) / squares
    seen = np.isfinite(factors) & (factors != 0) & (np.abs(candidates) > errors).any(axis=1)
    sizes = np.abs(factors)[:, None]
    close = (np.abs(targets - factors[:, None] * candidates) <= sizes * errors).all(axis=1)
    return [float(f) if good else None for f, good in zip(factors, seen & close, strict=True)]


@dataclass
class _Input:
    """What may stand for the layer's input in the outer product."""

    x: np.ndarray
    steps: tuple[Step, ...]
    projected: np.ndarray | None = None
    spread: np.ndarray | None = None


@dataclass
class _Target:
    """What the data's part of the gradient must be, if the rest is right or wrong in this way."""

    value: np.ndarray
    added: np.ndarray | None
    steps: tuple[Step, ...]
    projected: np.ndarray | None = None


class Matcher:
    """Matches candidates with the gradients given for one dense layer."""

    def __init__(self, problem: Problem, k: int, given: Given, right: Right, rtol: float) -> None:
        self.problem, self.k, self.given, self.rtol = problem, k, given, rtol
        self.block, self.layer = problem.blocks[k], problem.blocks[k].layer
        self.tolerance = rtol * right.condition
        self._floors = [
            problem.rounding * min(size.max(), 100 * np.median(size)) + np.finfo(float).tiny
            for size in (right.weight_size, right.bias_size)
        ]
        self._penalised = bool(problem.l2 or problem.l1)
        self._penalty_size = np.abs(self._penalty())
        self._large = right.weight.size * problem.n_rows > _LARGE
        self._inputs = list(self._all_inputs())
        if given.has_weight:
            self._targets = list(self._all_targets())
            self._up_to = [
                [target for target in self._targets if len(target.steps) <= most]
                for most in range(_MOST_STEPS + 1)
            ]
            self._project()

    # ---- what there is to choose from ----------------------------------------------------------

    def _all_inputs(self) -> Iterator[_Input]:
        """The layer's input, and what may be taken for it."""
        problem, k, block = self.problem, self.k, self.block
        yield _Input(block.x, ())
        n_in, layer = block.x.shape[1], self.layer
        seen: list[np.ndarray] = [block.x]

        def new(x: np.ndarray, *steps: Step) -> Iterator[_Input]:
            if x.shape != block.x.shape:
                if x.shape != (problem.n_rows, 1):
                    return
                x = np.broadcast_to(x, block.x.shape)
            if not any(np.array_equal(x, old) for old in seen):
                seen.append(x)
                yield _Input(np.ascontiguousarray(x), steps)

        if k and problem.blocks[k - 1].acts:
            for act in problem.blocks[k - 1].acts:
                yield from new(act.z, Step("input_before_activation", layer, "weight"))
        reshaped = block.x.reshape(n_in, -1).T
        yield from new(reshaped, Step("input_reshaped", layer, "weight"))
        yield from new(block.output, Step("own_output", layer, "weight"))
        if block.acts:
            used = "(layer's output before its activation).T @ delta"
            yield from new(block.z, Step("own_output", layer, "weight", used, cost=1.05))
        if problem.previous is not None:
            yield from new(problem.previous[k].x, Step("stale_activation", layer, "weight"))
        if n_in == problem.X.shape[1]:
            used = "X.T @ delta"
            yield from new(problem.X, Step("other_activation", layer, "weight", used))
        for other in problem.blocks:
            used = f"(output of layer {other.last_layer}).T @ delta"
            step = Step("other_activation", layer, "weight", used, cost=1.05)
            yield from new(other.output, step)
            used = f"(output of layer {other.layer}).T @ delta"
            yield from new(other.z, step._replace(used=used, cost=1.1))
        yield from new(problem.target, step._replace(used="y.T @ delta", cost=1.1))
        yield from new(np.ones((problem.n_rows, 1)), step._replace(used="ones.T @ delta", cost=1.1))

    def _all_targets(self) -> Iterator[_Target]:
        """The gradient with and without a penalty, as it is and transposed."""
        given = self.given.weight
        moved = (Step("gradient_transposed", self.layer, "weight"),)
        if self.given.transposed:
            yield from self._penalties(given, moved)
        else:
            yield from self._penalties(given, ())
            if given.shape[0] == given.shape[1] > 1:
                yield from self._penalties(given.T, moved)
        n_in, n_out = given.shape
        if min(n_in, n_out) > 1 and n_in != n_out and not self.given.transposed:
            other = (Step("gradient_reordered", self.layer, "weight"),)
            flat = given.ravel()
            yield _Target(flat.reshape(n_out, n_in).T - self._penalty(), None, other)
            if self._penalised:
                flat = (given - self._penalty()).ravel()
                yield _Target(flat.reshape(n_out, n_in).T, None, other)

    def _penalty(self, l2: float = 1.0, l1: float = 1.0) -> np.ndarray:
        weight = self.block.weight
        return l2 * self.problem.l2 * weight + l1 * self.problem.l1 * np.sign(weight)

    def _penalties(self, given: np.ndarray, steps: tuple[Step, ...]) -> Iterator[_Target]:
        problem = self.problem
        if not self._penalised:
            yield _Target(given, None, steps)
            return
        for l2, l2_steps in self._wrong_factors("l2", problem.l2):
            for l1, l1_steps in self._wrong_factors("l1", problem.l1):
                wrong = (*l2_steps, *l1_steps)
                if len(wrong) == 2 and self._large and (l2 or l1):
                    continue
                term = self._penalty(l2, l1)
                yield _Target(given - term, None, (*steps, *wrong))
                if term.any():
                    yield _Target(given, term, (*steps, *wrong))

    def _wrong_factors(self, kind: str, amount: float) -> Iterator[tuple[float, tuple[Step, ...]]]:
        """What a penalty may be multiplied with, the right factor first."""
        yield 1.0, ()
        n = float(self.problem.n_rows)
        values = (0.0, 2.0, 0.5, n, 1 / n, 2 / n, 0.5 / n, -1.0, 1 / amount) if amount else ()
        for value in dict.fromkeys(values):
            if value != 1:
                code = f"{kind}_factor" if value else f"{kind}_missing"
                yield value, (Step(code, self.layer, "weight", factor=value or None),)

    def _project(self) -> None:
        """Project everything once: candidates then cost a row each."""
        if not self._large:
            return
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (_PROJECTIONS, self.block.x.shape[1]))
        self._signs = signs
        for own in self._inputs:
            own.projected, own.spread = signs @ own.x.T, np.abs(own.x).sum(axis=1)
        for target in self._targets:
            target.projected = signs @ target.value

    # ---- matching ------------------------------------------------------------------------------

    def weights(self, way: Backed, scale: float, wide: int) -> list[Match]:
        """All matches of the weight's gradient, with up to `wide` mistakes of its own."""
        if not self.given.has_weight:
            found = [self._without(self.given.weight, self.block.x.T @ way.delta, "weight")]
            if found[0].steps and self.given.weight is not None:
                for own in self._inputs[1:]:
                    if not (own.x.T @ way.delta).any():
                        found.append(Match(None, own.steps))
            return found
        found: list[Match] = []
        size = np.abs(way.delta)
        for i, own in enumerate(self._inputs):
            if i and not wide:
                break
            targets = self._up_to[min(self.given.transposed + wide - (i > 0), _MOST_STEPS)]
            if self._large:
                targets = [
                    target
                    for target in targets
                    if self._may_match(own, target, way.delta, size, scale)
                ]
            if targets:
                product = own.x.T @ way.delta
                error = self.tolerance * (np.abs(own.x).T @ size) + self._floors[0]
                found += self._weight_matches(own, targets, product, error, scale)
        if wide and self.problem.n_rows == self.block.x.shape[1]:
            found += self._unsummed(way.delta)
        return found

    def _weight_matches(
        self,
        own: _Input,
        targets: list[_Target],
        product: np.ndarray,
        error: np.ndarray,
        scale: float,
    ) -> list[Match]:
        product, error = product.ravel(), error.ravel()
        evidence = int(np.count_nonzero(product))
        factors: dict[int, float | None] = {}
        plain = [target for target in targets if target.added is None]
        if plain:
            values = np.stack([target.value.ravel() for target in plain])
            more = 0.0
            if self._penalised:
                size = np.abs(self.given.weight) + self._penalty_size
                more = self.rtol * size.ravel() / abs(scale)
            found = fit_each(values, product, error + more)
            factors |= dict(zip(map(id, plain), found, strict=True))
        scaled = [target for target in targets if target.added is not None]
        if scaled:
            values = np.stack([target.value.ravel() for target in scaled])
            added = np.stack([target.added.ravel() for target in scaled])
            for before in dict.fromkeys((scale, 1.0)):  # what delta was scaled with
                size = abs(before) * error + self.rtol * np.abs(added)
                found = fit_each(values, before * product + added, size)
                for target, factor in zip(scaled, found, strict=True):
                    if factor is not None:
                        factors[id(target)] = factor * before
        matches = []
        for target in targets:
            factor, steps = factors.get(id(target)), (*own.steps, *target.steps)
            exact = evidence < 2 and bool(steps)  # one number is no evidence of a factor, too
            if factor is not None:
                matches.append(Match(factor, steps, evidence, exact))
        return matches

    def _may_match(
        self, own: _Input, target: _Target, delta: np.ndarray, size: np.ndarray, scale: float
    ) -> bool:
        """Whether random projections agree, which is cheap to see."""
        projected = own.projected @ delta
        error = self.tolerance * (own.spread @ size) * 4
        if not projected.any():
            return False
        if target.added is None:
            if self._penalised:
                error = error + self.rtol * np.abs(self.given.weight).sum(axis=0) / abs(scale)
            return fit(target.projected, projected, error) is not None
        added, more = self._signs @ target.added, self.rtol * np.abs(target.added).sum(axis=0)
        return any(
            fit(target.projected, s * projected + added, abs(s) * error + more) is not None
            for s in dict.fromkeys((1.0, scale))
        )

    def _unsummed(self, delta: np.ndarray) -> Iterator[Match]:
        """Products of rows that were not summed, where they have the gradient's shape."""
        for x in (self.block.x, self.block.output):
            if x.shape[1] not in (1, delta.shape[1]) and delta.shape[1] != 1:
                continue
            product = x * delta
            if product.shape == self.given.weight.shape:
                factor = fit(self.given.weight, product, self.tolerance * np.abs(product) + 1e-300)
                if factor is not None:
                    step = Step("rows_not_summed", self.layer, "weight")
                    yield Match(factor, (step,), product.size)

    def _without(self, given: np.ndarray | None, candidate: np.ndarray, name: str) -> Match:
        """What is to be said where the array is missing or zero."""
        if given is not None and not candidate.any():
            return Match(None)
        return Match(None, (Step("gradient_missing", self.layer, name),))

    def biases(self, way: Backed, scale: float, wide: bool) -> list[Match]:
        """All matches of the bias's gradient; `wide`: with a mistake of its own, too."""
        if not self.given.has_bias:
            return [Match(None)]
        delta, given = way.delta, self.given.bias
        total = delta.sum(axis=0)
        if given is None or not given.any():
            return [self._without(given, total, "bias"), *self._cancelling(given, way)]
        found = self._bias_match(given, total, np.abs(delta).sum(axis=0), ())
        if not wide:
            return found
        found += self._penalised_biases(way, scale)
        return found + list(self._bias_forms(way))

    def _penalised_biases(self, way: Backed, scale: float) -> Iterator[Match]:
        """The sum with the penalty's terms, which belong to weights, added."""
        given, bias = self.given.bias, self.block.bias
        total, size = way.delta.sum(axis=0), np.abs(way.delta).sum(axis=0)
        terms = {}
        if self.problem.l2 and bias.any():
            terms["l2_on_bias"] = self.problem.l2 * bias
        if self.problem.l1 and bias.any():
            terms["l1_on_bias"] = self.problem.l1 * np.sign(bias)
        for codes in [(code,) for code in terms] + [tuple(terms)] * (len(terms) == 2):
            steps = tuple(Step(code, self.layer, "bias") for code in codes)
            added = np.sum([terms[code] for code in codes], axis=0)
            extra = self.rtol * (np.abs(given) + np.abs(added)) / abs(scale)
            error = self.tolerance * size + extra
            if way.steps and (np.abs(total) <= error).all():
                continue  # a wrong way that gives nothing explains nothing
            for factor in (
                fit(given - added, total, error),
                fit(given, total + added, error),  # all of it scaled, here
                fit(given, total + added / scale, error),  # or before
            ):
                if factor is not None:
                    yield Match(factor, steps, given.size, given.size < 2)

    def _cancelling(self, given: np.ndarray | None, way: Backed) -> Iterator[Match]:
        """Wrong sums that are 0 where the right one is not."""
        delta, source = way.delta, way.source
        n, k = delta.shape
        size = self.tolerance * np.abs(delta).sum()
        if given is None or not np.abs(delta.sum(axis=0)).max() > size:
            return
        own = source is not None and self.block.acts
        if own and np.abs(source.sum(axis=0)).max() <= self.tolerance * np.abs(source).sum():
            yield Match(None, (Step("without_derivative", self.layer, "bias"),))
        for row, name in ((0, "delta[0]"), (n - 1, "delta[-1]")):
            if not delta[row].any():
                yield Match(None, (Step("bias_row", self.layer, "bias", name),))
        if k > 1 and abs(delta.sum()) <= size:
            yield Match(None, (Step("bias_all_summed", self.layer, "bias"),))
        if n == k > 1 and np.abs(delta.sum(axis=1)).max() <= size:
            yield Match(None, (Step("bias_wrong_axis", self.layer, "bias"),))

    def _bias_forms(self, way: Backed) -> Iterator[Match]:
        delta, given, layer = way.delta, self.given.bias, self.layer
        n, k = delta.shape
        if k > 1:
            step = Step("bias_all_summed", layer, "bias")
            total = np.full(k, delta.sum())
            yield from self._bias_match(given, total, np.full(k, np.abs(delta).sum()), (step,))
        if n == k > 1:
            step = Step("bias_wrong_axis", layer, "bias")
            total = delta.sum(axis=1)
            yield from self._bias_match(given, total, np.abs(delta).sum(axis=1), (step,))
        if way.source is not None and way.source.shape == delta.shape and self.block.acts:
            step = Step("without_derivative", layer, "bias")
            source = way.source
            found = self._bias_match(given, source.sum(axis=0), np.abs(source).sum(axis=0), (step,))
            for match in found:
                match.exact = k == 1
                yield match
        if n > 1:
            for row in self._likely_rows(delta):
                name = {0: "delta[0]", n - 1: "delta[-1]"}.get(row, f"delta[{row}]")
                step = Step("bias_row", layer, "bias", name, cost=1.0 + 0.1 * (0 < row < n - 1))
                for match in self._bias_match(given, delta[row], np.abs(delta[row]), (step,)):
                    match.exact = k == 1
                    yield match

    def _likely_rows(self, delta: np.ndarray) -> list[int]:
        """First, last, and those that are nearly parallel to what was given."""
        given = self.given.bias
        if given.size == 1:
            return [0, len(delta) - 1]
        sizes = np.linalg.norm(delta, axis=1) * np.linalg.norm(given)
        parallel = np.abs(delta @ given) >= 0.9999 * sizes
        rows = np.flatnonzero(parallel & (sizes > 0))
        return sorted(rows[:8].tolist(), key=lambda row: row not in (0, len(delta) - 1))

    def _bias_match(
        self, given: np.ndarray, candidate: np.ndarray, size: np.ndarray, steps: tuple[Step, ...]
    ) -> list[Match]:
        factor = fit(given, candidate, self.tolerance * size + self._floors[1])
        if factor is None:
            return []
        return [Match(factor, steps, int(np.count_nonzero(candidate)))]
