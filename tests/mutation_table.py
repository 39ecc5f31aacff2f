"""The errors of mutations.toml, and which formulas of csrc/ still lack one."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

CSRC = Path(__file__).parents[1] / "csrc"
TABLE = Path(__file__).with_name("mutations.toml")

# A row of a .def file -> the file of its formulas, and how each definition that must hold an error
# starts. A definition ends where the next begins.
FORMULAS = {
    r"ACTIVATION\((\w+)\)": ("kernels/activations.h", [r"F\({}\)", r"DF\({}\)"]),
    r"ELEMENT_LOSS\((\w+), \d\)": ("kernels/losses.h", [r"F\({}\)", r"DF\({}\)"]),
    r"ROW_LOSS\((\w+)\)": (
        "kernels/losses.h",
        [r"static double {}_value\(", r"ALWAYS_INLINE vec {}_vector\("],
    ),
    r"OPTIMIZER\((\w+), \d\)": (
        "kernels/optimizers.h",
        [r"CONSTANTS\({}\w*\)", r"STEP\({}\w*\)", r"REACH\({}\w*\)"],
    ),
    r"FUNCTION\((\w+)\)": ("kernels/math.h", [r"ALWAYS_INLINE vec {}_v\("]),
}
BOTH_IN_ONE = "ROW_LOSS"  # value and gradient in one function, which needs two errors
NEXT = r"^(F|DF|STEP|REACH|CONSTANTS|STEP_LOOP|static|ALWAYS_INLINE|NOINLINE|#define|#undef)\b"


class Mutation(NamedTuple):
    """`new` for `old`, which stands in the file once, or is its `occurrence`, from 1."""

    path: str  # below csrc/
    name: str
    old: str
    new: str
    occurrence: int = 0

    def place(self):
        """Where `old` starts in the file."""
        text = (CSRC / self.path).read_text()
        places = [match.start() for match in re.finditer(re.escape(self.old), text)]
        if self.occurrence:
            places = places[self.occurrence - 1 : self.occurrence]
        if len(places) != 1 or self.old == self.new:
            raise ValueError(f"{self}: the old text is there {len(places)} times")
        return places[0]

    def mutated(self):
        """The text of the file with the error."""
        text, at = (CSRC / self.path).read_text(), self.place()
        return text[:at] + self.new + text[at + len(self.old) :]

    def __str__(self):
        return f"{self.path}: {self.name}"


def load():
    with TABLE.open("rb") as file:
        files = tomllib.load(file)
    return [
        Mutation(path, name, *texts)
        for path, errors in files.items()
        for name, texts in errors.items()
    ]


def definitions():
    """(what, path, start, end, errors needed) of each formula that a .def file asks for."""
    next_start = re.compile(NEXT, re.M)
    for file in sorted(CSRC.glob("*.def")):
        for pattern, (path, starts) in FORMULAS.items():
            text = (CSRC / path).read_text()
            for name in re.findall("^" + pattern, file.read_text(), re.M):
                for start in starts:
                    found = re.search("^" + start.format(name), text, re.M)
                    if not found:
                        raise ValueError(f"{path} has no {start.format(name)}")
                    after = next_start.search(text, found.end())
                    needed = 2 if pattern.startswith(BOTH_IN_ONE) else 1
                    end = after.start() if after else len(text)
                    yield found.group(), path, found.start(), end, needed


def lacking(mutations):
    """The formulas with no error, or too few, among the mutations."""
    places = [(mutation.path, mutation.place()) for mutation in mutations]
    return [
        f"{path}: {what}"
        for what, path, start, end, needed in definitions()
        if sum(path == file and start <= place < end for file, place in places) < needed
    ]
