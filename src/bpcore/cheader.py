"""The header of exported C, and the comment at the top of both files."""

from typing import TYPE_CHECKING

import numpy as np

from bpcore.csource import Source, c_type

if TYPE_CHECKING:
    from bpcore.fixedpoint import FixedNetwork
    from bpcore.layers import Layer
    from bpcore.network import Network

MOST_LISTED = 16  # inputs or outputs in a comment


class Texts:
    """Both files of a network."""

    def __init__(
        self,
        net: "Network",
        layers: "list[Layer]",
        name: str,
        header_name: str,
        written: Source,
        fixed: "FixedNetwork | None",
    ) -> None:
        self.net, self.layers, self.name, self.header_name = net, layers, name, header_name
        self.written, self.fixed = written, fixed
        self.real = c_type(net.dtype) if fixed is None else f"int{fixed.bits}_t"

    def source(self, is_scaled: bool) -> str:
        """Return the C file."""
        return f'{self._title(is_scaled)}#include "{self.header_name}"\n\n{self.written.body}'

    def header(self, is_scaled: bool, float_wrapper: bool) -> str:
        """Return the header."""
        upper = self.name.upper()
        guard = f"BPCORE_{self.name}_H"
        sizes = {"N_IN": self.net.n_in, "N_OUT": self.net.n_out}
        if self.written.n_workspace:
            sizes["N_WORKSPACE"] = self.written.n_workspace
        lines = [f"#define {upper}_{key} {value}" for key, value in sizes.items()]
        prototypes = [self._prototype(self.name, self.real)]
        if self.fixed is not None:
            lines += self._numbers(upper)
            if float_wrapper:
                prototypes.append(self._prototype(f"{self.name}_float", "double"))
        return "\n".join(
            [
                f"{self._title(is_scaled)}#ifndef {guard}",
                f"#define {guard}",
                "",
                *(["#include <stdint.h>", ""] if self.fixed is not None else []),
                *lines,
                "",
                "#ifdef __cplusplus",
                'extern "C" {',
                "#endif",
                "",
                "/* The arrays must not overlap. */",
                *prototypes,
                "",
                "#ifdef __cplusplus",
                "}",
                "#endif",
                "",
                f"#endif /* {guard} */",
                "",
            ]
        )

    def _prototype(self, name: str, real: str) -> str:
        upper = self.name.upper()
        extra = f", {self.real} workspace[{upper}_N_WORKSPACE]" if self.written.n_workspace else ""
        arguments = f"const {real} input[{upper}_N_IN], {real} output[{upper}_N_OUT]{extra}"
        return f"void {name}({arguments});"

    def _numbers(self, upper: str) -> list[str]:
        assert self.fixed is not None
        arrays = {
            "INPUT_OFFSET": self.fixed.offset,
            "INPUT_SCALE": self.fixed.scale,
            "OUTPUT_SCALE": self.fixed.output_scale,
            "OUTPUT_ERROR_BOUND": self.fixed.error_bound,
            "OUTPUT_MEASURED_ERROR": self.fixed.measured_error,
        }
        return [
            f"#define {upper}_{key} {{{', '.join(repr(float(v)) for v in values)}}}"
            for key, values in arrays.items()
        ]

    # ---- the comment -----------------------------------------------------------------------

    def _title(self, is_scaled: bool) -> str:
        from bpcore import __version__

        names = [repr(layer) for layer in self.layers]
        if is_scaled:
            names.insert(0, "(input - mean) / scale")
        if self.fixed is not None and self.fixed.ends_in_logits:
            names[-1] += " is left off: the largest output is that of the likeliest class"
        net, written = self.net, self.written
        lines = [f"A neural network, written by bpcore {__version__}."]
        lines += [f"{net.n_in} inputs, {net.n_out} outputs, {net.dtype}:"]
        lines += [f"    {name}" for name in names]
        constants, stack = written.constant_bytes, written.stack_bytes
        lines.append(f"{constants} bytes of constants, {stack} bytes of arrays on the stack.")
        lines += self._promise() if self.fixed is None else self._promise_of_fixed(self.fixed)
        return "/* " + "\n * ".join(lines) + " */\n"

    def _promise(self) -> list[str]:
        return [
            "The same bits as Network.predict on every processor with IEEE arithmetic. What breaks",
            "this is refused where the compiler tells of it. It does not tell of subnormal numbers",
            "that are flushed to zero, nor does clang of -freciprocal-math, -fno-signed-zeros and",
            "-funsafe-math-optimizations. Fast where the compiler may use fused multiply-adds: on",
            "x86 with -mfma.",
        ]

    def _promise_of_fixed(self, fixed: "FixedNetwork") -> list[str]:
        upper, ends = self.name.upper(), fixed.scale * fixed.limit
        ranges = zip(fixed.offset - ends, fixed.offset + ends, strict=True)
        errors = zip(fixed.error_bound, fixed.measured_error, strict=True)
        lines = [
            f"Integers of {fixed.bits} bits. input[i] stands for",
            f"    {upper}_INPUT_OFFSET[i] + {upper}_INPUT_SCALE[i] * input[i]",
            f"and output[j] for {upper}_OUTPUT_SCALE[j] * output[j].",
            "Inputs beyond these ranges saturate:",
            *_listed("input", [f"{low:.6g} to {high:.6g}" for low, high in ranges]),
            "Errors against the network in exact arithmetic: a bound for inputs in these ranges",
            "rounded to integers, and the largest on the calibration rows:",
            *_listed("output", [f"bound {b:.3g}, measured {m:.3g}" for b, m in errors]),
        ]
        useless = np.count_nonzero(fixed.error_bound >= fixed.output_span)
        if useless:
            lines.append(
                f"THE BOUND IS OF NO USE for {useless} of {len(fixed.error_bound)} outputs:"
            )
            lines.append("it is larger than what they vary by on the calibration rows.")
        return lines


def _listed(what: str, texts: list[str]) -> list[str]:
    lines = [f"    {what}[{i}]: {text}" for i, text in enumerate(texts[:MOST_LISTED])]
    if len(texts) > MOST_LISTED:
        lines.append(f"    ... and {len(texts) - MOST_LISTED} more")
    return lines
