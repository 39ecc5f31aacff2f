"""Wrong forward passes: the same batch with one step of the network as it should not be."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bpcore.suspects import Step
from bpcore.truepass import Block, Elementwise, Function, Problem, blocks_of, run

if TYPE_CHECKING:
    from bpcore.network import Network

_DEFAULT = {"leaky_relu": 0.01, "elu": 1.0}


def other_forwards(net: "Network", problem: Problem) -> Iterator[tuple[Step, Problem]]:
    """The same batch through networks in which one step of the forward pass is another one."""
    if problem.previous is not None:
        used = "all values of the batch before"
        step = Step("stale_forward", problem.blocks[0].layer, used=used)
        yield step, replace(problem, blocks=problem.previous, X=problem.previous[0].x)
    for k, block in enumerate(problem.blocks):
        for i, act in enumerate(block.acts):
            if problem.previous is not None:
                old = problem.previous[k].acts[i]
                for z in (act.z, old.z):
                    yield (
                        Step("stale_forward", act.layer),
                        _run_again(net, problem, k, i, held=(z, old.a)),
                    )
            kernel = act.function.kernel
            for name in ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus"):
                if name == kernel:
                    continue
                other = Elementwise(name, _DEFAULT.get(name, 0.0))
                code = "activation_left_out" if name == "identity" else "other_forward"
                used = "" if name == "identity" else f"{name}(z)"
                step = Step(code, act.layer, used=used, cost=1.3)
                yield step, _run_again(net, problem, k, i, other)
            if kernel == "sigmoid":
                used = "1/1 + exp(-z), its brackets missing"
                step = Step("other_forward", act.layer, used=used, cost=1.3)
                yield step, _run_again(net, problem, k, i, _NoBrackets("sigmoid"))
        if block.bias is not None and block.bias.any():
            yield Step("bias_left_out", block.layer, cost=1.3), _run_again(net, problem, k, None)


class _NoBrackets(Elementwise):
    """1/1 + exp(-z), which is not the logistic function, and s(1 - s) of it."""

    def value(self, x: np.ndarray) -> np.ndarray:
        """Return 1/1 + exp(-x)."""
        return 1 + np.exp(-x)

    def slope(self, x: np.ndarray) -> np.ndarray:
        """Return what would be the derivative of the logistic function."""
        s = self.value(x)
        return s * (1 - s)


def _run_again(
    net: "Network",
    problem: Problem,
    k: int,
    i: int | None,
    function: Function | None = None,
    held: tuple[np.ndarray, np.ndarray] | None = None,
) -> Problem:
    """The problem with another function or held values for an activation, or without a bias."""
    blocks: list[Block] = blocks_of(net)[1]
    if i is None:
        blocks[k].bias = np.zeros_like(blocks[k].bias)
    elif held is not None:
        blocks[k].acts[i].held = held
    else:
        blocks[k].acts[i].function = function
    run([], blocks, problem.X)
    return replace(problem, blocks=blocks)
