"""The formulas of ``csrc/kernels`` as C99 for one number at a time.

The text comes from the headers themselves, which the build puts beside the extension, so exported C
computes what the compiled core computes: there is no second copy that could drift from the first.
The headers are written over vectors of any width, in a few primitives; here a vector is one number
and the primitives are C's operators and `fma`. Comments, constants and names stay.
"""

import operator
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

HEADERS = ("simd", "math", "activations")
NAMES = {
    "vmax": "larger",
    "vmin": "smaller",
    "vabs": "magnitude",
    "vsign_of": "with_sign_of",
    "vpow2": "power_of_two",
    "vscale": "scaled",
    "vsplit": "split",
    "vpoly": "polynomial",
}
OURS = ("fma", "fma_once")
"""What the text takes from `bpcore.cparts`: a b + c rounded once, and the same where that is needed
even by those who would have it fast."""
TYPES = {"vmask": "int", "ALWAYS_INLINE": "static", "bits": "uint{bits}_t"}
COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")
_CODE_OR_COMMENT = re.compile(r"/\*.*?\*/|(?:(?!/\*).)+", re.S)
_START = re.compile(
    r"#define (?P<macro>\w+)|static const real (?P<table>\w+)|typedef struct (?P<struct>\w+)"
    r"|ALWAYS_INLINE \w+ (?P<function>\w+)\(|F\((?P<activation>\w+)\)"
)


class Block(NamedTuple):
    """One definition, as C99, and the names that it mentions."""

    text: str
    mentions: frozenset[str]
    is_macro: bool


def definitions(names: Iterable[str], bits: int) -> dict[str, Block]:
    """Return the definitions of `names`, and of all that they need, in an order that C accepts.

    Parameters
    ----------
    names : iterable of str
        Functions of the headers; ``tanh_f`` is the activation of that name.
    bits : 32 or 64
        Of a number.

    Returns
    -------
    dict of str to Block
        By the headers' names.
    """
    known = _blocks(bits)
    wanted: set[str] = set()
    pending = set(names)
    while pending:
        wanted |= pending
        pending = {m for name in pending for m in known[name].mentions & known.keys()} - wanted
    return {name: block for name, block in known.items() if name in wanted}


def takes_parameter(name: str, bits: int) -> bool:
    """Whether an activation has a second argument."""
    return "parameter" in _blocks(bits)[f"{name}_f"].mentions


def c_name(name: str, prefix: str, is_macro: bool = False) -> str:
    """Return what a definition is called in exported C."""
    if is_macro or name.isupper():
        return f"{prefix.upper()}_{name}"
    name = NAMES.get(name, name)
    if name.endswith("_f"):
        return f"{prefix}_activate_{name[:-2]}"
    return f"{prefix}_{name.removesuffix('_v')}"


def write(blocks: dict[str, Block], prefix: str) -> str:
    """Return the definitions as text, each name with `prefix` before it."""
    new = {name: c_name(name, prefix, block.is_macro) for name, block in blocks.items()}
    new |= {n: c_name(n, prefix) for n in OURS}
    texts = [
        "".join(
            part if part.startswith("/*") else _WORD.sub(lambda m: new.get(m[0], m[0]), part)
            for part in _CODE_OR_COMMENT.findall(block.text)
        )
        for block in blocks.values()
    ]
    joined = "\n\n".join(texts)
    return re.sub(r"(#define .*)\n\n(?=#define)", r"\1\n", joined)


@cache
def _blocks(bits: int) -> dict[str, Block]:
    folder = Path(__file__).parent / "kernels"
    found: dict[str, Block] = {}
    for header in HEADERS:
        text = (folder / f"{header}.h").read_text("utf-8")
        for name, raw in _split(list(_resolve(text.splitlines(), bits))):
            code = _scalar(raw, bits)
            bare = "".join(p for p in _CODE_OR_COMMENT.findall(code) if not p.startswith("/*"))
            mentions = frozenset(_WORD.findall(bare)) - {name}
            found.setdefault(name, Block(code, mentions, code.startswith("#define")))
    return found


def _resolve(lines: list[str], bits: int) -> Iterator[str]:
    """Take the branches of ``#if`` for numbers of so many bits, and for a processor with fma."""
    stack: list[tuple[bool, bool]] = []  # whether lines count here, whether a branch was taken
    for line in lines:
        directive, _, condition = line.partition(" ")
        outer = stack[-2][0] if len(stack) > 1 else True
        if directive in ("#if", "#ifndef"):
            outer = stack[-1][0] if stack else True
            taken = directive == "#ifndef" or _holds(condition, bits)
            stack.append((outer and taken, taken))
        elif directive == "#elif":
            taken = not stack[-1][1] and _holds(condition, bits)
            stack[-1] = (outer and taken, stack[-1][1] or taken)
        elif directive == "#else":
            stack[-1] = (outer and not stack[-1][1], True)
        elif directive == "#endif":
            stack.pop()
        elif not stack or stack[-1][0]:
            yield line


def _holds(condition: str, bits: int) -> bool:
    """Evaluate what the headers ask: the dtype, and compilers and levels, which are none here."""
    condition = re.sub(r"/\*.*?\*/", "", condition)
    return any(
        all(_is_true(term.strip(), bits) for term in terms.split("&&"))
        for terms in condition.split("||")
    )


def _is_true(term: str, bits: int) -> bool:
    numbers = {"BP_REAL_BITS": bits, "WIDTH": 2, "__GNUC__": 0}
    if re.fullmatch(r"!?defined\(\w+\)", term):
        return term.startswith("!")
    match = re.fullmatch(r"(\w+) *(==|!=|<=|>=|<|>) *(\d+)", term)
    if match is None or match[1] not in numbers:
        raise ValueError(f"bpcore.ckernels cannot evaluate #if {term} of the headers")
    return COMPARISONS[match[2]](numbers[match[1]], int(match[3]))


def _split(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each definition, with the comment right above it."""
    comment: list[str] = []
    i = 0
    while i < len(lines):
        line = lines[i]
        start = _START.match(line)
        if line.startswith("/*"):
            first = i
            while not lines[i].rstrip().endswith("*/"):
                i += 1
            comment = lines[first : i + 1]
        elif start:
            first = i
            while not _ends(line, lines[i], start.lastgroup):
                i += 1
            name = start[start.lastgroup or 0] + ("_f" if start["activation"] else "")
            yield name, "\n".join([*comment, *lines[first : i + 1]])
            comment = []
        else:
            comment = []
        i += 1


def _ends(first: str, line: str, kind: str | None) -> bool:
    if kind == "macro":
        return not line.endswith("\\")
    if kind == "table":
        return line.endswith(";")
    if kind == "struct":
        return line.startswith("} ")
    return line == "}" or (line is first and "{" in line and "}" in line)


# ---------------------------------------------------------------- from vectors to numbers


def _scalar(text: str, bits: int) -> str:
    real = "double" if bits == 64 else "float"
    text = re.sub(r"^ *UNROLL\n", "", text, flags=re.M).replace("MAYBE_UNUSED ", "")
    parts = _CODE_OR_COMMENT.findall(text)
    text = "".join(part if part.startswith("/*") else _calls(part, bits) for part in parts)
    words = {k: v.format(bits=bits) for k, v in TYPES.items()} | {"vec": real, "real": real}
    words["BP_REAL_BITS"] = str(bits)
    text = "".join(
        part if part.startswith("/*") else _WORD.sub(lambda m: words.get(m[0], m[0]), part)
        for part in _CODE_OR_COMMENT.findall(text)
    )
    start = re.search(r"^F\((\w+)\)", text, re.M)
    if start is None:
        return text
    body = text[start.end() :]
    argument = f", {real} parameter" if "parameter" in body else ""
    return f"{text[: start.start()]}static {real} {start[1]}_f({real} x{argument}){body}"


def _calls(code: str, bits: int) -> str:
    """Write the primitives out, from the inside to the outside."""
    pieces, at = [], 0
    for match in re.finditer(r"\b(vset|vfma|vfma_once|vless|vselect|vany|VPOLY|C)\(", code):
        if match.start() < at:
            continue  # inside one that has been written
        arguments, end = _arguments(code, match.end())
        pieces.append(code[at : match.start()])
        pieces.append(_call(match[1], [_calls(a, bits) for a in arguments], bits))
        at = end
    return "".join(pieces) + code[at:]


def _call(name: str, a: list[str], bits: int) -> str:
    if name == "C":
        is_number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", a[0])
        suffix = "f" if bits == 32 and is_number and ("." in a[0] or "e" in a[0]) else ""
        return a[0] + suffix if bits == 64 or is_number else f"((float)({a[0]}))"
    if name == "vset":
        return a[0] if re.fullmatch(r"-?[\w.]+(\[.*\])?|\(.*\)", a[0]) else f"({a[0]})"
    if name == "vless":
        return f"{a[0]} < {a[1]}"
    if name == "vselect":
        return f"({a[0]} ? {a[1]} : {a[2]})"
    if name == "vany":
        return a[0]
    if name == "VPOLY":
        return f"vpoly({a[0]}, (int)(sizeof({a[0]}) / sizeof({a[0]}[0])), {a[1]})"
    return f"{name[1:]}({', '.join(a)})"


def _arguments(code: str, start: int) -> tuple[list[str], int]:
    """Split at the commas of one pair of parentheses; also where it ends."""
    depth, found, last = 1, [], start
    for i in range(start, len(code)):
        if code[i] in "([":
            depth += 1
        elif code[i] in ")]":
            depth -= 1
        if depth == 0 or (depth == 1 and code[i] == ","):
            found.append(code[last:i].strip())
            last = i + 1
        if depth == 0:
            return found, i + 1
    raise ValueError(f"unbalanced parentheses after {code[start : start + 40]!r}")
