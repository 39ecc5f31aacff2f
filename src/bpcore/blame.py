"""The search for the mistakes: from the output back, layer by layer, keeping what matches.

A state is the gradient at a dense layer's output as the learner's code has it, and the mistakes by
which it came about. At each layer every state is continued in the right way and in all wrong ones,
and those are kept whose products are the arrays that were given. So a mistake is found at its own
layer, however many layers it spoils before it, and few states are ever alive.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from bpcore.factors import Factors
from bpcore.matching import Given, Match, Matcher
from bpcore.scaling import Scaling
from bpcore.suspects import Step
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
        self.scaling = Scaling(self.problem, self.factors)
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
        sure = both or any(self.scaling.is_sure(match, state.scale) for match in biases)
        look = wide if sure else int(wide > 0 and len(way.steps) == 1)
        weights = matcher.weights(way, state.scale, look)
        if not weights and biases and sure and not single and not look:
            weights = matcher.weights(way, state.scale, 1)
        if weights and not biases:
            biases = matcher.biases(way, state.scale, True)
        return weights, biases

    def _join(
        self, k: int, state: State, way: Backed, weights: list[Match], biases: list[Match]
    ) -> list[State]:
        """Continue with a way whose products are what was given, up to factors."""
        best: dict[float, State] = {}
        for scale in self.scaling.scales(state.scale, weights, biases):
            pairs = [
                (weight, bias)
                for weight in self.scaling.fitting(weights, scale, biases)
                for bias in self.scaling.fitting(biases, scale, weights)
                if self.factors.same(scale, state.scale)
                or any(m.factor and self.factors.same(m.factor, scale) for m in (weight, bias))
            ]
            for weight, bias in pairs:
                for cost, steps in self.scaling.prices(k, state.scale, way, scale, weight, bias):
                    new = self._next(k, state, way, scale, steps, cost)
                    if scale in best:
                        new.histories = _merge(best[scale].histories, new.histories)
                    best[scale] = new
        return list(best.values())

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
        for_weight = [(way, self._exactly(state, way, found)) for way, found, _ in partial]
        for_bias = [(way, self._exactly(state, way, found)) for way, _, found in partial]
        for_weight = [(way, found) for way, found in for_weight if found]
        for_bias = [(way, found) for way, found in for_bias if found]
        new: list[State] = []
        for one, weights in for_weight:
            for other, biases in for_bias:
                altered = bool(one.steps) + bool(other.steps)
                if one is other or altered > (2 if deep else 1) or len(new) > 64:
                    continue
                fitting = [m for m in weights if len(m.steps) + altered <= (2 if deep else 1)]
                if not fitting:
                    continue
                common = tuple(step for step in one.steps if step in other.steps)
                in_weight = self._in_array(k, one.steps, common, "weight")
                in_bias = self._in_array(k, other.steps, common, "bias")
                way = Backed(one.delta, (*common, *in_weight, *in_bias), one.source)
                exact = [
                    replace(match, exact=match.exact or match.evidence < 2) for match in biases
                ]
                for state_delta in (one, other):
                    whole = Backed(state_delta.delta, way.steps, state_delta.source)
                    for found in self._join(k, state, whole, fitting, exact):
                        found.histories = [(c + _SPLIT, s, u) for c, s, u in found.histories]
                        new.append(found)
        return new

    def _exactly(self, state: State, way: Backed, matches: list[Match]) -> list[Match]:
        """The matches of a way that are more than a single number with a factor that fits it."""
        return [
            match
            for match in matches
            if not (way.steps and match.factor and match.evidence < 2)
            or self.factors.same(match.factor, state.scale)
        ]

    def _in_array(
        self, k: int, steps: tuple[Step, ...], common: tuple[Step, ...], parameter: str
    ) -> tuple[Step, ...]:
        """The mistakes of a way but for the common ones, made for one array only."""
        layer = self.problem.blocks[k].layer
        rows = {"the last row": "delta[-1]", "the first row": "delta[0]"}
        own = [step._replace(parameter=parameter) for step in steps if step not in common]
        for i, step in enumerate(own):  # some have a name of their own there
            if step.code == "derivative_missing":
                own[i] = Step("without_derivative", layer, parameter)
            elif (step.code, parameter) == ("one_row", "bias"):
                own[i] = Step("bias_row", layer, parameter, rows[step.used])
        return tuple(own)

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
