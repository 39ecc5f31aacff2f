"""The gradients of a network, checked on a few rows."""

from typing import Any

import numpy as np

from bpcore.commands.report import Report

__all__ = ["prove"]

CHECKED_PARAMETERS = 2000  # of a larger network a random sample of so many
BUDGET = 2e9  # multiply-adds; an entry costs about a pass over all rows and parameters


def prove(
    report: Report,
    net: Any,
    x: np.ndarray,
    y: np.ndarray,
    parameters: int | None = None,
    details: bool = False,
) -> bool:
    """Check the network's gradients on these rows and say how it came out."""
    size, which = net.parameters.size, ""
    count = min(parameters or CHECKED_PARAMETERS, size)
    chosen: int | str = "all" if count == size else count
    if parameters is None and count * float(size) * len(x) > BUDGET:
        chosen, which = "projections", " along random directions"
    found = net.check_gradients(x, y, parameters=chosen)
    if details or not found.ok:
        report.text(str(found))
    text = f"{found.n_checked} derivatives{which}, worst relative error {found.worst_error:.1e}"
    if found.n_undecided:
        text += f", {found.n_undecided} too small to judge"
    report.line("check", f"gradients {'proven' if found.ok else 'NOT proven'}: {text}")
    report.put(
        gradients={
            "ok": found.ok,
            "rows": len(x),
            "checked": found.n_checked,
            "directions": chosen == "projections",
            "wrong": found.n_wrong,
            "kinks": found.n_kinks,
            "undecided": found.n_undecided,
            "worst_error": found.worst_error,
            "problems": list(found.problems),
            "hint": found.hint,
            "arrays": {
                name: {
                    "ok": array.ok,
                    "checked": array.n_checked,
                    "wrong": array.n_wrong,
                    "worst_error": array.worst_error,
                }
                for name, array in found.arrays.items()
            },
        }
    )
    return found.ok
