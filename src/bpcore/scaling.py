"""Constant factors: which of those that matches show are on everything, which on one array.

`factors` says what a number may mean; here it is decided where in the backward pass it came in.
"""

from collections.abc import Iterator

from bpcore.factors import RATES, UNNAMED, Factors, Reading
from bpcore.matching import Match
from bpcore.suspects import SUSPECTS, Step
from bpcore.truepass import Problem
from bpcore.wrongslopes import Backed

_UNSIZED = {"error_missing", "weights_ignored", "weights_twice"}
"""Mistakes at the loss that any constant may go with; of the others the size is known."""


class Scaling:
    """The factors in a batch's gradients, as mistakes with their costs."""

    def __init__(self, problem: Problem, factors: Factors) -> None:
        self.problem, self.factors = problem, factors

    def scales(self, current: float, weights: list[Match], biases: list[Match]) -> list[float]:
        """The factors that delta may have: its own, and those of matches that have a name."""
        values = [current]
        evidence = sum(max(match.evidence for match in found) for found in (weights, biases))
        for factor in dict.fromkeys(match.factor for match in (*weights, *biases)):
            known = not factor or any(self.factors.same(factor, value) for value in values)
            if not known and self.factors.readings(factor / current, evidence):
                values.append(factor)
        return values

    def fitting(self, matches: list[Match], scale: float, others: list[Match]) -> list[Match]:
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

    def is_sure(self, match: Match, scale: float) -> bool:
        """Whether a match says anything: a single number fits whatever it is compared with."""
        return not match.factor or match.evidence > 1 or self._means(match.factor / scale, 1)

    def prices(
        self, k: int, current: float, way: Backed, scale: float, weight: Match, bias: Match
    ) -> Iterator[tuple[float, tuple[Step, ...]]]:
        """The mistakes of a match, with those in factors, and what they cost."""
        block = self.problem.blocks[k]
        in_arrays = self._array_factors(block.layer, scale, weight, bias)
        if in_arrays is None or (_is_unnamed(in_arrays) and _has_a_size(way)):
            return
        cost = way.cost + weight.cost + bias.cost + sum(step.cost for step in in_arrays)
        changed = scale / current
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
                alone = 0.0 if known else 0.02  # of a single array it is rather on everything
                steps += [step._replace(cost=step.cost + alone) for step in found]
        return steps

    def _scale_steps(
        self, factor: float, evidence: int, layer: int, way: Backed
    ) -> list[tuple[float, list[Step]]]:
        """A factor on everything from here on; the mistakes that fix no scale allow some."""
        steps = self._factor_steps(factor, evidence, layer, None)
        if not steps or (_is_unnamed(steps) and _has_a_size(way)):
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


def _is_unnamed(steps: list[Step]) -> bool:
    """Whether a factor is just a number."""
    return any(step.cost >= UNNAMED for step in steps)


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
