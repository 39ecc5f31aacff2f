"""The search for the mistakes: from the output back, layer by layer, keeping what matches.

A state is the gradient at a dense layer's output as the learner's code has it, and the mistakes by
which it came about. At each layer every state is continued in the right way and in all wrong ones,
and those are kept whose products are the arrays that were given. So a mistake is found at its own
layer, however many layers it spoils before it, and few states are ever alive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bpcore.factors import RATES, UNNAMED, Factors, Reading
from bpcore.matching import Given, Match, Matcher
from bpcore.suspects import SUSPECTS, Step
from bpcore.truepass import Problem, Right, output_delta
from bpcore.wrongerrors import error_scales, output_ways
from bpcore.wrongslopes import Backed
from bpcore.wrongways import hidden_ways, solve_rate

_WIDTH = 12  # states that are alive
_HISTORIES = 8  # explanations of one state
_SPREAD = 1.2  # how much more than the cheapest a state may cost
_UNKNOWN = 3.0  # the cost of an array that nothing explains
_TIE = 0.3
_SPLIT = 0.1
_SIMPLE = 1.7  # below this nothing deeper is looked for

_UNSIZED = {"error_missing", "weights_ignored", "weights_twice"}
"""Mistakes at the loss that any constant may go with; of the others the size is known."""

_DEEP = 3  # states that are tried with two mistakes at a layer

History = tuple[float, tuple[Step, ...], tuple[str, ...]]


Partial = tuple[Backed, list[Match], list[Match]]
"""A way back, and its matches with the gradients of the weight and of the bias."""


@dataclass
class State:
    """The gradient at a dense layer's output, up to `scale`, and how it came about."""

    delta: np.ndarray | None
    source: np.ndarray | None
    scale: float
    histories: list[History]
    earlier: tuple[tuple[int, np.ndarray], ...] = ()

    @property
    def cost(self) -> float:
        """That of the simplest explanation."""
        return self.histories[0][0]


@dataclass
class Search:
    """What the search needs throughout."""

    problem: Problem
    given: list[Given]
    right: list[Right]
    factors: Factors
    rtol: float
    rate: float | None
    strict: bool = False
    """Whether to give up where an array matches nothing."""
    right_output: bool = False
    """Whether the output layer has no mistakes but in factors and single arrays."""
    matchers: list[Matcher] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.matchers = [
            Matcher(self.problem, k, given, right, self.rtol)
            for k, (given, right) in enumerate(zip(self.given, self.right, strict=True))
        ]

    def run(self) -> list[History]:
        """Return the explanations, simplest first."""
        states = [State(None, None, 1.0, [(0.0, (), ())])]
        for k in reversed(range(len(self.problem.blocks))):
            states = self._prune(self._step(k, states))
            if not states:
                return []
        return sorted((h for state in states for h in state.histories), key=lambda h: h[0])

    # ---- one layer -----------------------------------------------------------------------------

    def _step(self, k: int, states: list[State]) -> list[State]:
        """Continue all states by one layer: with one mistake, else with two, else without any."""
        if self._nothing_to_match(k):
            return [self._skip(k, state) for state in states]
        new: list[State] = []
        partials: list[list[Partial]] = []
        for deep in (False,) if self.strict else (False, True):
            new, partials = [], []
            for state in states[:_DEEP] if deep else states:
                found, partial = self._continue(k, state, deep)
                new += found
                partials.append(partial)
            if any(state.cost <= states[0].cost + _SIMPLE for state in new):
                return new
        if new or self.strict:
            return new
        return [
            other
            for state, partial in zip(states, partials, strict=False)
            for other in self._unexplained(k, state, partial)
        ]

    def _continue(self, k: int, state: State, deep: bool) -> tuple[list[State], list[Partial]]:
        """What comes of a state at the next layer back, and the ways that fit one array only."""
        ways = self._ways(k, state, deep)
        joint: list[State] = []
        partial: list[Partial] = []
        for i, way in enumerate(ways):
            if i and _same(way.delta, ways[0].delta):
                continue
            wide = max(1, 2 - len(way.steps)) if deep else int(i == 0)
            weights, biases = self._matches(k, state, way, wide, i == 0)
            both = self._join(k, state, way, weights, biases) if weights and biases else []
            joint += both
            told = any(new.cost <= state.cost + _SIMPLE for new in both)
            if i == 0 or ((weights or biases) and not told):
                partial.append((way, weights, biases))
            if i == 0 and joint and min(new.cost for new in joint) == state.cost:
                return joint, []
        return joint + self._split(k, state, partial, deep), partial

    def _nothing_to_match(self, k: int) -> bool:
        given = self.given[k]
        return not given.has_weight and (given.bias is None or not given.bias.any())

    def _skip(self, k: int, state: State) -> State:
        """Go on where both arrays are missing or zero: named only if they should not be."""
        way = self._ways(k, state, False)[0]
        weights, biases = self._matches(k, state, way, 0, True)
        steps = (*weights[0].steps, *biases[0].steps)
        if len(steps) == 2:
            steps = (steps[0]._replace(parameter=None),)
        return self._next(k, state, way, state.scale, steps, sum(s.cost for s in steps))

    def _ways(self, k: int, state: State, deep: bool) -> list[Backed]:
        if state.delta is None:
            if self.right_output:
                right = output_delta(self.problem)
                return [Backed(right, (), right)]
            return output_ways(self.problem, deep)
        scales = (state.scale, *error_scales(self.problem))
        given = self.given[k + 1].weight
        ways = hidden_ways(
            self.problem, k, state.delta, state.source, scales, given, self.rate, deep,
            state.earlier,
        )  # fmt: skip
        if given is not None and given.any() and self.rate is None and self.given[k].has_weight:
            rate = solve_rate(self.problem, k, state.delta, given, self.given[k].weight)
            if rate is not None:
                d = state.delta @ (self.problem.blocks[k + 1].weight - rate * given).T
                used = f"delta @ (W - {rate:.6g} * gradient).T"
                step = Step("updated_weights", self.problem.blocks[k + 1].layer, used=used)
                step = step._replace(cost=1.05)
                ways.append(Backed(self.problem.blocks[k].back(d), (step,), d))
        return ways

    def _matches(
        self, k: int, state: State, way: Backed, wide: int, both: bool
    ) -> tuple[list[Match], list[Match]]:
        """Matches of both arrays; a mistake in one of them is looked for if the other fits."""
        matcher, given = self.matchers[k], self.given[k]
        single = not given.has_bias
        wide = max(wide, int(both))
        biases = matcher.biases(way, state.scale, bool(wide) and not (single and not both))
        if not (biases or both) and not given.has_weight:
            return [], []
        sure = both or any(self._is_sure(match, state.scale) for match in biases)
        look = wide if sure else int(wide > 0 and len(way.steps) == 1)
        weights = matcher.weights(way, state.scale, look)
        if not weights and biases and sure and not single and not look:
            weights = matcher.weights(way, state.scale, 1)
        if weights and not biases:
            biases = matcher.biases(way, state.scale, True)
        return weights, biases

    def _is_sure(self, match: Match, scale: float) -> bool:
        """Whether a match says anything: a single number fits whatever it is compared with."""
        return not match.factor or match.evidence > 1 or self._means(match.factor / scale, 1)

    def _join(
        self, k: int, state: State, way: Backed, weights: list[Match], biases: list[Match]
    ) -> list[State]:
        """Continue with a way whose products are what was given, up to factors."""
        best: dict[float, State] = {}
        for scale in self._scales(state, weights, biases):
            pairs = [
                (weight, bias)
                for weight in self._fitting(weights, scale, biases)
                for bias in self._fitting(biases, scale, weights)
                if self.factors.same(scale, state.scale)
                or any(m.factor and self.factors.same(m.factor, scale) for m in (weight, bias))
            ]
            for weight, bias in pairs:
                for cost, steps in self._prices(k, state, way, scale, weight, bias):
                    new = self._next(k, state, way, scale, steps, cost)
                    if scale in best:
                        new.histories = _merge(best[scale].histories, new.histories)
                    best[scale] = new
        return list(best.values())

    def _scales(self, state: State, weights: list[Match], biases: list[Match]) -> list[float]:
        """The factors that delta may have: the one it had, and those of matches that have a name."""
        values = [state.scale]
        evidence = sum(max(match.evidence for match in found) for found in (weights, biases))
        for factor in dict.fromkeys(match.factor for match in (*weights, *biases)):
            if factor and not any(self.factors.same(factor, value) for value in values):
                if self.factors.readings(factor / state.scale, evidence):
                    values.append(factor)
        return values

    def _fitting(self, matches: list[Match], scale: float, others: list[Match]) -> list[Match]:
        """The matches whose factor is that of delta, or another one that means something."""
        evidence = max(match.evidence for match in others)
        return [
            match
            for match in matches
            if match.factor is None
            or self.factors.same(match.factor, scale)
            or (not match.exact and self._means(match.factor / scale, match.evidence + evidence))
        ]

    def _means(self, ratio: float, evidence: int) -> bool:
        return self._over_rows(ratio) or bool(self.factors.readings(ratio, evidence))

    def _prices(
        self, k: int, state: State, way: Backed, scale: float, weight: Match, bias: Match
    ) -> Iterator[tuple[float, tuple[Step, ...]]]:
        """The mistakes of a match, with those in factors, and what they cost."""
        block = self.problem.blocks[k]
        in_arrays = self._array_factors(block.layer, scale, weight, bias)
        if in_arrays is None:
            return
        cost = way.cost + weight.cost + bias.cost + sum(step.cost for step in in_arrays)
        changed = scale / state.scale
        options: list[tuple[float, list[Step]]] = [(0.0, [])]
        if not self.factors.same(changed, 1.0):
            place = block.last_layer
            shared = [m for m in (weight, bias) if m.factor and self.factors.same(m.factor, scale)]
            evidence = sum(match.evidence for match in shared)
            options = self._scale_steps(changed, evidence, place, way)
        for more, steps in options:
            yield cost + more, (*way.steps, *steps, *weight.steps, *bias.steps, *in_arrays)

    def _array_factors(
        self, layer: int, scale: float, weight: Match, bias: Match
    ) -> list[Step] | None:
        """The factors that are on an array, or on both, and not on delta; None: not believable."""
        ratios = [1.0 if m.factor is None else m.factor / scale for m in (weight, bias)]
        off = [not self.factors.same(ratio, 1.0) for ratio in ratios]
        if (weight.exact and off[0]) or (bias.exact and off[1]):
            return None
        known = weight.factor is not None and bias.factor is not None
        if all(off) and known and self.factors.same(*ratios):
            both = self._factor_steps(ratios[0], weight.evidence + bias.evidence, layer, None)
            return [step._replace(cost=step.cost + 0.02) for step in both] or None
        steps: list[Step] = []
        for name, match, ratio, wrong in zip(
            ("weight", "bias"), (weight, bias), ratios, off, strict=True
        ):
            if wrong:
                found = self._factor_steps(ratio, match.evidence, layer, name)
                if not found:
                    return None
                steps += found
        return steps

    def _scale_steps(
        self, factor: float, evidence: int, layer: int, way: Backed
    ) -> list[tuple[float, list[Step]]]:
        """A factor on everything from here on; the mistakes that fix no scale allow some."""
        steps = self._factor_steps(factor, evidence, layer, None)
        if not steps or (steps[-1].cost >= UNNAMED and _has_a_size(way)):
            return []
        cost = sum(step.cost for step in steps)
        readings = self.factors.readings(abs(factor), evidence)
        rate = all(reading.code in RATES for reading in readings)
        if not way.loose or rate or steps[-1].code == "sign" or cost > 2.5:
            return [(cost, steps)]
        signs = steps[:-1]
        return [(0.1 + len(signs), signs), (0.3 + len(signs), steps)]

    def _factor_steps(
        self, factor: float, evidence: int, layer: int, parameter: str | None
    ) -> list[Step]:
        """A factor as mistakes, the sign apart; none if the factor means nothing."""
        if parameter == "bias" and self._over_rows(factor):
            return [Step("bias_mean", layer, "bias", "", factor, f"{factor:.6g} = 1 / rows", 0.9)]
        found = self.factors.readings(factor, evidence)
        if not found:
            return []
        whole = found[0].code in ("sign", "update_given")
        if factor > 0 or whole:
            return [factor_step(found[0], layer, parameter, self.problem)]
        size = self.factors.readings(-factor, evidence)[0]
        sign = Step("sign", layer, parameter, "", -1.0, "-1", found[0].cost - size.cost)
        return [sign, factor_step(size, layer, parameter, self.problem)]

    def _over_rows(self, factor: float) -> bool:
        n = self.problem.n_rows
        return n > 1 and self.factors.same(factor * n, 1.0)

    def _next(
        self,
        k: int,
        state: State,
        way: Backed,
        scale: float,
        steps: tuple[Step, ...],
        cost: float,
        unknown: tuple[str, ...] = (),
    ) -> State:
        histories = [
            (old + cost, (*before, *steps), (*names, *unknown))
            for old, before, names in state.histories
        ]
        earlier = state.earlier
        if state.delta is not None:
            earlier = (*earlier, (self.problem.blocks[k + 1].layer, state.delta))
        return State(way.delta, way.source, scale, histories, earlier)

    # ---- where one way does not explain both arrays --------------------------------------------

    def _split(
        self,
        k: int,
        state: State,
        partial: list[Partial],
        deep: bool,
    ) -> list[State]:
        """One way for the weight and another one for the bias: mistakes in one array only."""
        if not self.given[k].has_bias or not self.given[k].has_weight:
            return []
        for_weight = [(way, found) for way, found, _ in partial if found]
        for_bias = [(way, found) for way, _, found in partial if found]
        new: list[State] = []
        for one, weights in for_weight:
            for other, biases in for_bias:
                altered = bool(one.steps) + bool(other.steps)
                if one is other or altered > (2 if deep else 1) or len(new) > 64:
                    continue
                fitting = [m for m in weights if len(m.steps) + altered <= (2 if deep else 1)]
                if not fitting:
                    continue
                in_weight = self._in_array(k, one.steps, "weight")
                in_bias = self._in_array(k, other.steps, "bias")
                way = Backed(one.delta, (*in_weight, *in_bias), one.source)
                exact = [
                    replace(match, exact=match.exact or match.evidence < 2) for match in biases
                ]
                for state_delta in (one, other):
                    whole = Backed(state_delta.delta, way.steps, state_delta.source)
                    for found in self._join(k, state, whole, fitting, exact):
                        found.histories = [(c + _SPLIT, s, u) for c, s, u in found.histories]
                        new.append(found)
        return new

    def _in_array(self, k: int, steps: tuple[Step, ...], parameter: str) -> tuple[Step, ...]:
        """The mistakes of a way, made for one array only."""
        return tuple(
            Step("without_derivative", self.problem.blocks[k].layer, parameter)
            if step.code == "derivative_missing"
            else step._replace(parameter=parameter)
            for step in steps
        )

    def _unexplained(self, k: int, state: State, partial: list[Partial]) -> list[State]:
        """Continue where nothing explains an array, or both: the rest can still be judged."""
        new: list[State] = []
        nothing = [Match(None)]
        for way, weights, biases in partial:
            altered = len(way.steps)
            sure = [m for m in biases if m.evidence >= (2 + 2 * altered)]
            if weights and self.given[k].has_bias:
                found = self._join(k, state, way, weights, nothing)
                new += self._mark(found, (f"{self.problem.blocks[k].layer}.bias",))
            elif sure and not weights:
                found = self._join(k, state, way, nothing, sure)
                new += self._mark(found, (f"{self.problem.blocks[k].layer}.weight",))
        way = partial[0][0] if partial else self._ways(k, state, False)[0]
        layer = self.problem.blocks[k].layer
        names = [f"{layer}.weight"] + ([f"{layer}.bias"] if self.given[k].has_bias else [])
        last = self._next(k, state, way, state.scale, (), 0.0)
        return new + self._mark([last], tuple(names))

    def _mark(self, states: list[State], names: tuple[str, ...]) -> list[State]:
        for state in states:
            state.histories = [
                (cost + _UNKNOWN * len(names), steps, (*unknown, *names))
                for cost, steps, unknown in state.histories
            ]
        return states

    def _prune(self, states: list[State]) -> list[State]:
        """Keep the simplest states; two with the same gradient are one with two explanations."""
        states.sort(key=lambda state: state.cost)
        kept: list[State] = []
        for state in states:
            if kept and state.cost > kept[0].cost + _SPREAD:
                break
            for old in kept:
                if self.factors.same(old.scale, state.scale) and _same(old.delta, state.delta):
                    old.histories = _merge(old.histories, state.histories)
                    break
            else:
                if len(kept) < _WIDTH:
                    kept.append(state)
        return kept


def _has_a_size(way: Backed) -> bool:
    """Whether a mistake at the loss leaves no constant open."""
    at_loss = [step.code for step in way.steps if SUSPECTS[step.code].step == "loss"]
    return any(code not in _UNSIZED for code in at_loss)


def factor_step(reading: Reading, layer: int, parameter: str | None, problem: Problem) -> Step:
    """A factor as a mistake."""
    code = reading.code
    over_rows = abs(reading.value * problem.n_rows - 1) < 1e-3
    if parameter == "bias" and code in ("mean_twice", "mean_for_sum") and over_rows:
        code = "bias_mean"
    return Step(code, layer, parameter, "", reading.value, reading.meaning, reading.cost)


def _merge(some: list[History], others: list[History]) -> list[History]:
    """The cheapest explanations of both, those that cost about the same kept side by side."""
    merged: list[History] = []
    for history in sorted([*some, *others], key=lambda h: h[0]):
        if history[0] > min(some[0][0], others[0][0]) + _TIE:
            break
        if not any(_names(history) == _names(old) for old in merged):
            merged.append(history)
    return merged[:_HISTORIES]


def _names(history: History) -> tuple[object, ...]:
    places = {(s.code, s.layer, s.parameter) for s in history[1]}
    return frozenset(places), frozenset(history[2])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    size = float(np.abs(a).max(initial=0.0))
    return float(np.abs(a - b).max(initial=0.0)) <= 1e-9 * size
