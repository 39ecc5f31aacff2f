"""What would explain a wrong gradient: a factor, a transposition, a pattern of zeros."""

import numpy as np

from bpcore.gradreport import ArrayCheck

_SAME = 2e-5  # relative, of two factors


def explain_difference(
    arrays: dict[str, ArrayCheck],
    gradients: "dict[str, tuple[np.ndarray, np.ndarray | None]]",
    meanings: dict[str, float],
) -> str:
    """Look for a factor, a transposition or a pattern of zeros that explains what is wrong.

    Parameters
    ----------
    arrays : dict of str to ArrayCheck
        What was found.
    gradients : dict of str to (ndarray, ndarray or None)
        The whole gradient that was given for each array, and the flat positions looked at
        (None: random directions).
    meanings : dict of str to float
        Names of numbers that may appear as factors, such as that of rows.

    Returns
    -------
    str
        "" if nothing explains it.
    """
    hints: dict[str, list[str]] = {}
    for name, array in arrays.items():
        if array.n_wrong:
            text = _explain_array(array, *gradients[name], meanings)
            if text:
                hints.setdefault(text, []).append(name)
    if len(arrays) == 1:
        return "".join(hints)
    compared = [name for name, array in arrays.items() if array.n_checked and not array.all_zero]
    return "; ".join(
        f"{'every array' if names == compared else ', '.join(names)}: {text}"
        for text, names in hints.items()
    )


def _explain_array(
    array: ArrayCheck,
    gradient: np.ndarray,
    entries: np.ndarray | None,
    meanings: dict[str, float],
) -> str:
    unfit = np.count_nonzero(~np.isfinite(gradient))
    if unfit:
        count = "one entry of what was given is" if unfit == 1 else f"{unfit} entries given are"
        return f"not finite: {count} nan or infinite (did exp overflow, or was 0 divided by 0?)"
    judged = array.judged
    numeric, error = array.numeric[judged], array.error_estimate[judged]
    analytic = array.analytic[judged]
    if not judged.any():
        return ""
    if not analytic.any():
        return "zeros: what was given is 0 everywhere"
    factor = _common_factor(analytic, numeric, error)
    if factor is not None and (factor := _snap(factor, meanings, judged.sum())):
        return _describe(factor, meanings)
    if entries is not None and gradient.ndim == 2 and min(gradient.shape) > 1:
        rows, columns = gradient.shape
        flat = gradient.reshape(-1)
        variants = {"its rows and columns read in the wrong order": flat.reshape(columns, rows).T}
        if rows == columns:
            variants = {"it is the transposed gradient": gradient.T}
        for text, other in variants.items():
            moved = np.asarray(other, dtype=np.float64).reshape(-1)[entries][judged]
            factor = _common_factor(moved, numeric, error)
            if factor is not None:
                if abs(factor - 1) < _SAME:
                    return f"transposition: {text}"
                return f"transposition ({text}) and {_describe(factor, meanings)}"
    wrong = array.verdict[judged] == "wrong"
    if np.all(np.abs(analytic + numeric)[wrong] <= 4 * error[wrong]):
        count = "one entry" if wrong.sum() == 1 else f"{wrong.sum()} entries"
        return f"sign: right but for the sign of {count} (an absolute value too many?)"
    count = "one entry that" if wrong.sum() == 1 else f"{wrong.sum()} entries that"
    if not analytic[wrong].any():
        return f"zeros: right but for {count} should not be 0 (masked too much?)"
    if np.all(np.abs(numeric[wrong]) <= error[wrong]):
        return f"zeros: right but for {count} should be 0 (a mask left out?)"
    return ""


def _common_factor(analytic: np.ndarray, numeric: np.ndarray, error: np.ndarray) -> float | None:
    """The number c for which analytic = c * numeric throughout, if there is one."""
    good = np.abs(numeric) > 1e4 * error
    if not good.any():
        return None
    factor = float(np.median(analytic[good] / numeric[good]))
    off = np.abs(analytic - factor * numeric)
    if factor and np.all(off <= 1e-5 * np.abs(analytic) + 4 * abs(factor) * error):
        return factor
    return None


def _snap(factor: float, meanings: dict[str, float], n_entries: int) -> float | None:
    """A factor worth telling: of a single entry only one that says something."""
    if abs(factor - 1) < _SAME:
        return None
    return factor if n_entries > 1 or _name_number(abs(factor), meanings) else None


def _name_number(number: float, meanings: dict[str, float]) -> str:
    """Write a number as n or 1/n and say what it is the number of; "" if it is neither."""
    for text, value in (("{}", number), ("1/{}", 1 / number)):
        nearest = round(value)
        if 1 <= nearest <= 10**7 and abs(value - nearest) <= _SAME * nearest:
            return text.format(nearest)
    return ""


def _describe(factor: float, meanings: dict[str, float]) -> str:
    """Say what a factor is."""
    number = _name_number(abs(factor), meanings) or f"{abs(factor):.6g}"
    if number == "1":
        return "sign: what was given is -1 times the right gradient"
    counted = ""
    for times in (1, 2):
        for meaning, count in meanings.items():
            prefix = "" if times == 1 else "twice "
            if count > 2 and number == str(times * count):
                counted = counted or f" ({prefix}{meaning})"
            if count > 2 and abs(abs(factor) * count / times - 1) < _SAME:
                counted = counted or f" ({times} over {meaning})"
    sign = "-" if factor < 0 else ""
    reversed_ = ", sign reversed" if factor < 0 else ""
    return (
        f"factor {sign}{number}{counted}{reversed_}: "
        f"what was given is {sign}{number} times the right gradient"
    )
