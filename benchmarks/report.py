"""Figures as text, Markdown and JSON."""

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import cores
from benchmarks.runner import REFERENCE, Case, Figures, Pool


def duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    if seconds < 1e-6:
        return f"{1e9 * seconds:.1f} ns"
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s"


def ratio(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    count = len(cores())
    return f"{name}, {count} cores, {platform.system()}, CPython {platform.python_version()}"


def as_text(case: Case, pool: Pool) -> str:
    """A paragraph: the workload, then a line for each peer."""
    workload = case.workload
    threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
    lines = [
        f"{workload.name}  {workload.title}, {case.dtype}, {threads}; time of one {workload.unit}"
    ]
    for name, figures in case.figures.items():
        if figures.times:
            lines.append(f"    {_text_line(pool.titles[name], figures)}")
        elif name not in pool.missing:
            lines.append(f"    {pool.titles.get(name, name):<16}         - {figures.absent}")
    return "\n".join(lines)


def _text_line(title: str, figures: Figures) -> str:
    spread = f"+-{50 * figures.spread:4.1f} %, best {duration(min(figures.times)):>8}"
    line = f"{title:<16} {duration(figures.median):>9} {spread}"
    if figures.peer != REFERENCE and not math.isnan(figures.ratio):
        line += f"   bpcore / it {ratio(figures.ratio):>7}"
    if figures.agrees is False:
        line += f"   OTHER RESULT: loss {figures.before:.9g} to {figures.after:.9g}"
    return f"{line}   {figures.note}" if figures.note else line


def as_markdown(cases: Sequence[Case], pool: Pool) -> str:
    lines = [
        "| workload | dtype | threads | bpcore | best peer | ratio | others |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for case in cases:
        ours, best = case.timed.get(REFERENCE), case.best_peer
        others = sorted(
            (figures for figures in case.timed.values() if figures not in (ours, best)),
            key=lambda figures: figures.median,
        )
        cells = (
            f"{case.workload.name}: {case.workload.title}",
            case.dtype.replace("float", "f"),
            str(case.threads),
            duration(ours.median) if ours else "-",
            f"{pool.titles[best.peer]} {duration(best.median)}" if best else "-",
            ratio(best.ratio) if best else "-",
            ", ".join(_other(pool, figures) for figures in others),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _other(pool: Pool, figures: Figures) -> str:
    text = f"{pool.titles[figures.peer]} {duration(figures.median)} ({ratio(figures.ratio)})"
    return text if figures.agrees is not False else f"{text}, other result"


BEGIN, END = "<!-- begin: written by python -m benchmarks --into -->", "<!-- end -->"


def renew(path: Path, text: str) -> None:
    """Put `text` between the two marks of a Markdown file."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{path} lacks the marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def versions(pool: Pool) -> str:
    """The machine, who took part and who did not."""
    there = ", ".join(f"{pool.titles[name]} {version}" for name, version in pool.versions.items())
    lines = [f"{machine()}. {there}."]
    if pool.missing:
        lines.append(f"Not measured: {', '.join(pool.missing)}.")
    return "\n".join(lines)


def as_json(cases: Sequence[Case], pool: Pool) -> str:
    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def entry(figures: Figures) -> dict[str, Any]:
        return {
            "median": plain(figures.median),
            "spread": plain(figures.spread),
            "times": figures.times,
            "bpcore_by_this": plain(figures.ratio),
            "loss_before": plain(figures.before),
            "loss_after": plain(figures.after),
            "agrees": figures.agrees,
            "note": figures.note,
            "absent": figures.absent,
        }

    content = {
        "machine": machine(),
        "peers": {name: [pool.titles[name], version] for name, version in pool.versions.items()},
        "missing": pool.missing,
        "cases": [
            {
                "workload": case.workload.name,
                "title": case.workload.title,
                "dtype": case.dtype,
                "threads": case.threads,
                "unit": case.workload.unit,
                "peers": {name: entry(figures) for name, figures in case.figures.items()},
            }
            for case in cases
        ],
    }
    return json.dumps(content, indent=1)
