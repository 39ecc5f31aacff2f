"""The state of NumPy's bit generators as plain numbers, and back."""

from typing import Any

import numpy as np


def plain_state(state: Any) -> Any:
    """A bit generator's state with lists for arrays and ints for NumPy's."""
    if isinstance(state, dict):
        return {key: plain_state(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return [int(value) for value in state]
    return int(state) if isinstance(state, np.integer) else state


BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def generator_from(state: dict[str, Any]) -> "np.random.Generator":
    """Return a generator of a known kind in the state that `plain_state` gave."""
    if state["bit_generator"] not in BIT_GENERATORS:
        raise ValueError(f"unknown bit generator {state['bit_generator']!r}")
    generator = np.random.Generator(getattr(np.random, state["bit_generator"])(0))
    generator.bit_generator.state = state
    return generator
