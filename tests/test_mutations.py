"""The table of errors that `python tests/mutations.py` seeds fits the C that there is."""

import mutation_table
import pytest

MUTATIONS = mutation_table.load()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_the_old_text_is_there(mutation):
    assert mutation.mutated() != (mutation_table.CSRC / mutation.path).read_text()


def test_every_formula_has_an_error():
    assert not mutation_table.lacking(MUTATIONS)
    assert len(MUTATIONS) >= 80


def test_a_formula_without_an_error_is_noticed():
    """Value, derivative, loss, step and function."""
    for place in ("DF(relu)", "F(mse)", "STEP(rprop)", "ALWAYS_INLINE vec exp_v("):
        *_, start, end, _ = next(d for d in mutation_table.definitions() if d[0] == place)
        path = next(d[1] for d in mutation_table.definitions() if d[0] == place)
        fewer = [m for m in MUTATIONS if m.path != path or not start <= m.place() < end]
        assert f"{path}: {place}" in mutation_table.lacking(fewer)
