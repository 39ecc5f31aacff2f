"""The gradients of a network, checked on a few rows."""

from typing import Any

import numpy as np

from bpcore.commands.report import Report

__all__ = ["prove"]

CHECKED_PARAMETERS = 2000  # of a larger network a random sample of so many


def prove(
    report: Report,
    net: Any,
    x: np.ndarray,
    y: np.ndarray,
    parameters: int | None = None,
    details: bool = False,
) -> bool:
    """Check the network's gradients on these rows and say how it came out."""
    count = min(parameters or CHECKED_PARAMETERS, net.parameters.size)
    found = net.check_gradients(x, y, parameters="all" if count == net.parameters.size else count)
    if details or not found.ok:
        report.text(str(found))
    text = f"{found.n_checked} derivatives, worst relative error {found.worst_error:.1e}"
    if found.n_undecided:
        text += f", {found.n_undecided} too small to judge"
    report.line("check", f"gradients {'proven' if found.ok else 'NOT proven'}: {text}")
    report.put(
        gradients={
            "ok": found.ok,
            "rows": len(x),
            "checked": found.n_checked,
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
