"""The examples of the README and of docs/training.md print what stands below them."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(language, page="README.md"):
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


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


def test_training_page(tmp_path, monkeypatch):
    """Its blocks go on where the one before ended; one without output has none below it."""
    page = "docs/training.md"
    text = (ROOT / page).read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    pairs = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.M | re.S)
    assert len(pairs) == len(blocks("python", page)) == len(blocks("text", page))
    for code, expected in pairs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        assert printed.getvalue() == expected
