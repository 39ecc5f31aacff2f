"""The README's example prints what the README says."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)


def without_last_digits(text):
    """Levels without fma differ in the last digits of a long training, and in nothing else."""
    return re.sub(r"\d\.\d+(e-\d+)?|\de-\d+", lambda m: f"{float(m[0]):.0e}", text)


def test_example(tmp_path, monkeypatch):
    (code,), (expected,) = blocks("python"), blocks("text")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert without_last_digits(printed.getvalue()) == without_last_digits(expected)
    assert (tmp_path / "sine.safetensors").exists()
