"""The core's headers as C for one number: what `bpcore.ckernels` reads."""

import re
from pathlib import Path

import pytest
import reference

from bpcore import ckernels

ACTIVATIONS = sorted(reference.ACTIVATIONS)


@pytest.mark.parametrize("bits", [32, 64])
def test_all_conditions_of_the_headers_are_known(bits):
    """Each, also those within branches that are not taken."""
    folder = Path(ckernels.__file__).parent / "kernels"
    n = 0
    for header in ckernels.HEADERS:
        for line in (folder / f"{header}.h").read_text("utf-8").splitlines():
            directive, _, condition = line.partition(" ")
            if directive in ("#if", "#elif"):
                assert ckernels._holds(condition, bits) in (True, False)
                n += 1
    assert n > 30
    assert {f"{kernel}_f" for kernel in ACTIVATIONS} <= ckernels._blocks(bits).keys()


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("BP_REAL_BITS == 32", True),
        ("BP_REAL_BITS == 64 /* why */", False),
        ("WIDTH > 1 && !defined(__clang__)", True),
        ("WIDTH <= 1 || defined(X)", False),
        ("defined(X) && WIDTH >= 2 || BP_REAL_BITS != 64", True),
    ],
)
def test_conditions(condition, expected):
    assert ckernels._holds(condition, 32) is expected


@pytest.mark.parametrize("condition", ["BP_NEW == 1", "(WIDTH > 1)", "WIDTH", "WIDTH + 1 > 2", ""])
def test_an_unknown_condition_is_named(condition):
    with pytest.raises(ValueError, match=re.escape(f"cannot evaluate #if {condition} of the")):
        ckernels._holds(condition, 32)
