"""What was found out about somebody's gradients, and how it is told."""

from typing import NamedTuple

import numpy as np

from bpcore.suspects import Mistake

_LITTLE = 1e-4


class ArrayVerdict:
    """The verdict on one array.

    Attributes
    ----------
    name : str
    verdict : {"right", "wrong", "missing", "not finite"}
    error : float
        The largest difference from the right gradient, relative to that gradient's largest entry;
        nan where there is nothing to compare.
    ratio, correlation : float
        The best constant between what was given and the right gradient, and how well the two
        agree up to a constant (1 or -1: perfectly); nan where one of them is 0.
    note : str
        What else can be seen: zeros, a transposed shape.
    misshapen : bool
        Whether the numbers are right and only the shape is not.
    """

    def __init__(
        self, name: str, given: np.ndarray | None, right: np.ndarray, error: np.ndarray
    ) -> None:
        self.name, self.note, self.misshapen = name, "", False
        self.error = self.ratio = self.correlation = float("nan")
        if given is None:
            self.verdict = "missing"
            return
        if not np.isfinite(given).all():
            self.verdict = "not finite"
            unfit = int(np.count_nonzero(~np.isfinite(given)))
            self.note = (
                f"{unfit} of {given.size} entries are not finite (did exp overflow, or was 0 "
                "divided by 0?)"
            )
            return
        off = np.abs(given - right)
        self.verdict = "right" if (off <= error).all() else "wrong"
        largest = float(np.abs(right).max(initial=0.0))
        self.error = float(off.max(initial=0.0)) / largest if largest else float(off.max())
        if self.error and not largest:
            self.error = float("inf")
        self._compare(given, right, error)

    def _compare(self, given: np.ndarray, right: np.ndarray, error: np.ndarray) -> None:
        square, own = float((right * right).sum()), float((given * given).sum())
        if square and own:
            product = float((given * right).sum())
            self.ratio = product / square
            self.correlation = product / float(np.sqrt(square) * np.sqrt(own))
        if self.ok:
            if not right.any():
                self.note = "0 everywhere, as it should be: dead or saturated units?"
            return
        wrong = np.abs(given - right) > error
        count = int(np.count_nonzero(wrong))
        if not given.any():
            self.note = "it is 0 everywhere"
        elif not given[wrong].any():
            self.note = f"right but for {count} of {given.size} entries that are 0"
        elif np.all(np.abs(right[wrong]) <= error[wrong]):
            self.note = f"right but for {count} of {given.size} entries that should be 0"
        elif self.error < _LITTLE:
            self.note = (
                "so little that it may be finite differences, lower precision, or a small number "
                "added where it does not belong"
            )
        elif count < given.size:
            self.note = f"{count} of {given.size} entries are wrong"

    @property
    def ok(self) -> bool:
        """Whether the array is right."""
        return self.verdict == "right"

    def __str__(self) -> str:
        text = self.verdict
        if self.verdict == "wrong" and self.misshapen:
            text = "WRONG in its shape only"
        elif self.verdict == "wrong":
            text = f"WRONG, by {self.error:.1e} of its largest entry"
            if np.isfinite(self.correlation):
                text += f"; best factor {self.ratio:.6g}, correlation {self.correlation:.4f}"
        return f"{text}; {self.note}" if self.note else text

    def __repr__(self) -> str:
        return f"<ArrayVerdict {self.name}: {self.verdict}>"


class Account(NamedTuple):
    """One explanation of all arrays."""

    mistakes: list[Mistake]
    unexplained: list[str]


class Explanation:
    """Which arrays are right, and which mistakes reproduce the others; `print` it to read it.

    Attributes
    ----------
    ok : bool
        Whether every array is right.
    arrays : dict of str to ArrayVerdict
        A verdict for each array.
    mistakes : list of Mistake
        From the output back. Together they reproduce every array that is not `unexplained`.
    alternatives : list of list of Mistake
        Other mistakes that reproduce the same numbers, no less simply.
    unexplained : list of str
        Names of arrays that no mistake known here reproduces.
    suggestion : str
        A batch that tells alternatives apart, or what to try next; "" if there is no need.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> net = bpcore.mlp([2, 3, 1], hidden="tanh", rng=0)
    >>> X = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]])
    >>> y = np.array([0.0, 1.0, 2.0])
    >>> loss, gradient = net.loss_and_gradient(X, y)
    >>> explanation = bpcore.explain_gradients(net, X, y, 3 * gradient)
    >>> explanation.ok, [(m.code, m.factor) for m in explanation.mistakes]
    (False, [('sum_for_mean', 3.0)])
    """

    def __init__(
        self,
        arrays: dict[str, ArrayVerdict],
        accounts: list[Account] = (),
        suggestion: str = "",
        order: "list[str]" = (),
    ) -> None:
        self.arrays, self.suggestion = arrays, suggestion
        first = accounts[0] if accounts else Account([], [])
        self.mistakes, self.unexplained = first
        self.alternatives = [account.mistakes for account in accounts[1:]]
        self._order = list(order) or list(arrays)[::-1]

    @property
    def ok(self) -> bool:
        """Whether every array is right."""
        return all(verdict.ok for verdict in self.arrays.values())

    @property
    def first_wrong(self) -> str | None:
        """The first array from the output back that is not right; what is nearer it is right."""
        return next((name for name in self._order if not self.arrays[name].ok), None)

    def __repr__(self) -> str:
        codes = ", ".join(mistake.code for mistake in self.mistakes) or "no mistake named"
        return f"<Explanation ok={self.ok}: {'all right' if self.ok else codes}>"

    def _repr_html_(self) -> str:
        from bpcore.htmlreprs import explanation_html

        return explanation_html(self)

    def __str__(self) -> str:
        if self.ok:
            return "\n".join(["All gradients are right.", *self._table()])
        return "\n".join([*self.story(), "", *self._table()])

    def story(self) -> list[str]:
        """Return the lines that tell of mistakes, and of what nothing explains."""
        lines = []
        if self.mistakes:
            n = len(self.mistakes)
            lines.append("1 mistake:" if n == 1 else f"{n} mistakes, from the output back:")
            lines += [f"  - {mistake.text}." for mistake in self.mistakes]
        if self.alternatives:
            lines.append("The same numbers would come of:")
            lines += [
                f"  - {'; and '.join(mistake.text for mistake in other)}."
                for other in self.alternatives
            ]
        unfit = [name for name in self.unexplained if self.arrays[name].verdict == "not finite"]
        if unfit:
            lines.append(f"Nothing can be compared with nan or infinities: {_listed(unfit)}.")
        unknown = [name for name in self.unexplained if name not in unfit]
        if unknown:
            lines.append(f"No mistake known here reproduces {_listed(unknown)}; {self._known()}")
        if self.suggestion:
            lines.append(self.suggestion)
        return lines

    def _known(self) -> str:
        """What can be said where nothing explains an array."""
        first = self.first_wrong
        before = self._order[: self._order.index(first)] if first in self._order else []
        right = [name for name in before if self.arrays[name].ok]
        if right:
            verb = "is" if len(right) == 1 else "are"
            return f"from the output back {_listed(right)} {verb} right and {first} is wrong first."
        return f"{first}, at the output, is wrong already."

    def _table(self) -> list[str]:
        width = max(len(name) for name in self.arrays)
        return [f"  {name.ljust(width)}  {verdict}" for name, verdict in self.arrays.items()]


def _listed(names: list[str]) -> str:
    """Names as a sentence lists them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
