"""A network in whole numbers, and how far at most that is from the network itself.

A number x is kept as an integer q of 8 or 16 bits with ``x = q 2**exponent``; each input and each
unit may have an exponent of its own, because the exponents of a layer's inputs go into its weights.
What is bounded, for all inputs in a box and for each unit:

- z = sum w x + b, where x is off by E: ``sum |w| E``, what the rounding of w takes times the
  largest |x|, and what the rounding of b takes;
- rounding z: half a unit;
- an activation: its Lipschitz constant times the error of z, and the error of its table, which is
  found by trying every integer that can go in;
- the roundings of float64, in which all of this is computed.

The ranges that decide the exponents are those of interval arithmetic, so nothing can overflow or
saturate but the inputs.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bpcore.fixedtable import (
    KINDS,
    LARGEST,
    ROOM,
    SLACK,
    Kind,
    Table,
    Tabulated,
    away,
    exponent_for,
    interpolate,
    rescale,
)
from bpcore.layers import Activation, Dense, Layer, Softmax

DIRECT = ("relu", "leaky_relu")
LARGEST_SUM = 2.0**53  # whole numbers up to there are exact in float64
CHUNK = 2**18  # numbers of a layer that are computed at a time


class Slope(NamedTuple):
    """LeakyReLU: for q < 0 it is factor q / 2**shift."""

    factor: int
    shift: int


@dataclass
class FixedLayer:
    """A dense layer and its activation; ``weight`` is (n_out, n_in)."""

    layer: Dense
    activation: Activation | None
    weight: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    is_wide: bool
    """Whether sums need 64 bits."""
    exponent: np.ndarray
    table: Table | None = None
    slope: Slope | None = None


@dataclass
class Signal:
    """What is known of the numbers between two layers, for each of them."""

    exponent: np.ndarray
    largest: np.ndarray
    """|q| at most."""
    low: np.ndarray
    high: np.ndarray
    """Of the network itself, over the box."""
    error: np.ndarray
    magnitude: np.ndarray
    """At most, of what is rounded in float64: |x|, or the parts that x is the difference of."""


@dataclass
class FixedNetwork:
    """All that `bpcore.cfixed` writes."""

    bits: int
    offset: np.ndarray
    scale: np.ndarray
    limit: np.ndarray
    layers: list[FixedLayer]
    output_scale: np.ndarray
    error_bound: np.ndarray
    ends_in_logits: bool
    """A last softmax is left off."""
    measured_error: np.ndarray
    """The largest on the rows of X, by output."""
    output_span: np.ndarray
    """How far apart the outputs for these rows are."""

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Return inputs as integers; beyond the calibrated range they saturate."""
        q = away((np.asarray(X, np.float64) - self.offset) / self.scale)
        return np.clip(q, -self.limit, self.limit).astype(np.int64)

    def run(self, q: np.ndarray) -> np.ndarray:
        """Return the integers that the C function computes."""
        q = np.clip(q, -self.limit, self.limit).astype(np.int64)
        for layer in self.layers:  # float64 multiplies fast, and exactly below LARGEST_SUM
            z = q.astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias
            q = _activate(layer, rescale(z.astype(np.int64), layer.shift))
        return q


def quantize(
    layers: list[Layer],
    X: np.ndarray,
    bits: int,
    standardization: tuple[np.ndarray, np.ndarray] | None,
) -> FixedNetwork:
    """Return the network in integers of 8 or 16 bits.

    Parameters
    ----------
    layers : list of Layer
        Dense layers, each with one activation at most, without dropout.
    X : ndarray of shape (n, n_in)
        Rows whose ranges make the box.
    bits : {8, 16}
    standardization : (mean, scale) or None
        What the network's inputs were made with from X.

    Raises
    ------
    ValueError
        A layer that has no fixed-point form, or parameters too far apart in size.
    RuntimeError
        The error on X is beyond the bound: a mistake in bpcore.

    Returns
    -------
    FixedNetwork
    """
    pairs, ends_in_logits = _pairs(layers)
    offset, limit, signal = _calibrate(X, bits)
    scale = np.exp2(signal.exponent)
    fixed = []
    for number, (dense, activation) in enumerate(pairs):
        weight = dense.weight.astype(np.float64)
        bias = dense.bias.astype(np.float64) if dense.has_bias else np.zeros(dense.n_out)
        if number == 0:
            if standardization is not None:
                mean, divisor = (a.astype(np.float64) for a in standardization)
                bias = bias - (mean / divisor) @ weight
                weight = weight / divisor[:, None]
                signal.magnitude += np.abs(mean)
            bias = bias + offset @ weight
        layer, signal = _Quantizer(dense, activation, weight, bias, signal, bits).result()
        fixed.append(layer)
    net = FixedNetwork(
        bits,
        offset,
        scale,
        limit.astype(np.int64),
        fixed,
        np.exp2(signal.exponent),
        signal.error * SLACK,
        ends_in_logits,
        *[np.zeros(len(signal.error))] * 2,
    )
    _measure(net, pairs, X, standardization)
    if (net.measured_error > net.error_bound).any():
        raise RuntimeError(
            f"a mistake in bpcore: the error of fixed point on X is {net.measured_error}, which is "
            f"beyond its bound, {net.error_bound}"
        )
    return net


def _pairs(layers: list[Layer]) -> tuple[list[tuple[Dense, Activation | None]], bool]:
    ends_in_logits = isinstance(layers[-1], Softmax)
    if ends_in_logits:
        layers = layers[:-1]
    pairs: list[tuple[Dense, Activation | None]] = []
    for layer in layers:
        if isinstance(layer, Dense):
            pairs.append((layer, None))
        elif isinstance(layer, Softmax):
            raise ValueError("softmax has a fixed-point form only as the last layer")
        elif not pairs or pairs[-1][1] is not None:
            raise ValueError(
                f"fixed point takes dense layers with at most one activation after each; "
                f"{layer!r} follows none"
            )
        elif layer.kernel not in KINDS and layer.kernel not in DIRECT:
            known = ", ".join([*DIRECT, *KINDS])
            raise ValueError(f"{layer!r} has no fixed-point form; those that have: {known}")
        else:
            pairs[-1] = (pairs[-1][0], layer)
    return pairs, ends_in_logits


def _measure(
    net: FixedNetwork,
    pairs: list[tuple[Dense, Activation | None]],
    X: np.ndarray,
    standardization: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Set the errors on X and the spans of the outputs, going by chunks of rows."""
    low, high = np.inf, -np.inf
    size = max(1, CHUNK // max(max(dense.n_in, dense.n_out) for dense, _ in pairs))
    for start in range(0, len(X), size):
        rows = X[start : start + size]
        exact = _outputs(pairs, rows, standardization)
        error = np.abs(net.run(net.encode(rows)) * net.output_scale - exact).max(axis=0)
        net.measured_error = np.maximum(net.measured_error, error)
        low, high = np.minimum(low, exact.min(axis=0)), np.maximum(high, exact.max(axis=0))
    net.output_span = high - low


def _outputs(
    pairs: list[tuple[Dense, Activation | None]],
    X: np.ndarray,
    standardization: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """The network itself, in float64."""
    x = X.astype(np.float64)
    if standardization is not None:
        x = (x - standardization[0]) / standardization[1]
    for dense, activation in pairs:
        x = x @ dense.weight.astype(np.float64) + (dense.bias if dense.has_bias else 0)
        x = x if activation is None else copy.copy(activation).forward(x)
    return x


def _calibrate(X: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, Signal]:
    """Offsets and the largest integers of the inputs, and what is known of input - offset."""
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    radius, middle = high / 2 - low / 2, low / 2 + high / 2
    exponent = np.where(high > low, exponent_for(radius, LARGEST[bits] - 1.0), 0.0)
    scale = np.exp2(exponent)
    offset = np.where(high > low, away(middle / scale) * scale, middle)
    limit = np.maximum(away((high - offset) / scale), away((offset - low) / scale))
    exponent = np.where(limit > 0, exponent, 0.0)
    # A range of less than half the smallest unit is no integer but 0; all of it is error then.
    low, high = np.minimum(low - offset, -limit * scale), np.maximum(high - offset, limit * scale)
    error = np.where(limit > 0, scale / 2, np.maximum(high, -low))
    magnitude = np.abs(offset) + np.maximum(high, -low)
    return offset, limit, Signal(exponent, limit, low, high, error, magnitude)


class _Quantizer:
    """One dense layer and its activation."""

    def __init__(
        self,
        dense: Dense,
        activation: Activation | None,
        weight: np.ndarray,
        bias: np.ndarray,
        x: Signal,
        bits: int,
    ) -> None:
        self.dense, self.activation, self.bits, self.x = dense, activation, bits, x
        self.weight, self.bias = weight, bias
        self.scaled = scaled = weight * np.where(x.largest > 0, np.exp2(x.exponent), 0)[:, None]
        largest = np.abs(scaled).max(axis=0)
        self.unit = np.maximum(
            exponent_for(largest, LARGEST[bits]), exponent_for(np.abs(bias), ROOM / 2)
        )
        self._round()
        up, down = np.maximum(weight, 0), np.minimum(weight, 0)
        self.z_low = x.low @ up + x.high @ down + bias
        self.z_high = x.high @ up + x.low @ down + bias

    def _round(self) -> None:
        """Weights and biases in units of 2**unit, and the error of z."""
        unit = np.exp2(self.unit)
        self.weight_q, self.bias_q = away(self.scaled / unit), away(self.bias / unit)
        lost = np.abs(self.scaled - self.weight_q * unit)
        self.error = self.x.error @ np.abs(self.weight) + self.x.largest @ lost
        self.error = (self.error + np.abs(self.bias - self.bias_q * unit)) * SLACK
        terms = self.x.magnitude @ np.abs(self.weight) + np.abs(self.bias)
        self.error += (len(self.weight) + 8) * 2 * np.finfo(np.float64).eps * terms

    def result(self) -> tuple[FixedLayer, Signal]:
        kernel = None if self.activation is None else self.activation.kernel
        if kernel in KINDS:
            return self._by_table(KINDS[kernel])
        return self._directly(kernel)

    def _layer(self, shift: np.ndarray, exponent: np.ndarray, **more: object) -> FixedLayer:
        sums = self.x.largest @ np.abs(self.weight_q) + np.abs(self.bias_q)
        if sums.max() >= LARGEST_SUM or np.abs(shift).max() > 62:
            raise ValueError(f"the numbers of {self.dense!r} are too far apart for fixed point")
        return FixedLayer(
            self.dense,
            self.activation,
            self.weight_q.T.astype(np.int16 if self.bits == 16 else np.int8),
            self.bias_q.astype(np.int64),
            shift.astype(np.int64),
            bool(sums.max() > ROOM or shift.max() > 30),
            exponent,
            **more,
        )

    def _directly(self, kernel: str | None) -> tuple[FixedLayer, Signal]:
        low, high = self.z_low, self.z_high
        slope = self.activation.parameter if kernel == "leaky_relu" else 0.0
        if kernel is not None:
            low, high = (np.where(z > 0, z, slope * z) for z in (low, high))
        reach = np.maximum(np.abs(self.z_high) + self.error, 0)
        reach = np.maximum(reach, np.abs(self.z_low) + self.error) * max(1.0, slope)
        if kernel == "relu":
            reach = np.maximum(self.z_high + self.error, 0)
        exponent = np.maximum(exponent_for(reach, LARGEST[self.bits] - 2.0), self.unit)
        shift = exponent - self.unit
        rounding = np.where(shift > 0, np.exp2(exponent) / 2, 0)
        error = self.error + rounding
        more = {}
        if kernel == "leaky_relu":
            more["slope"], inexact = _slope(slope)
            below = np.maximum(self.error - self.z_low, 0)
            left = slope * error + inexact * (below + rounding) + np.exp2(exponent) / 2
            error = np.maximum(error, left)
        largest = np.minimum(np.floor(reach / np.exp2(exponent)) + 2, LARGEST[self.bits])
        signal = Signal(exponent, largest, low, high, error, np.maximum(np.abs(low), np.abs(high)))
        return self._layer(shift, exponent, **more), signal

    def _by_table(self, kind: Kind) -> tuple[FixedLayer, Signal]:
        assert self.activation is not None
        low, high = float((self.z_low - self.error).min()), float((self.z_high + self.error).max())
        f, slope = copy.copy(self.activation).forward, kind.slope
        if self.activation.kernel == "elu":
            slope = max(1.0, self.activation.parameter)
        if self.activation.kernel == "exp":
            if high > kind.domain:
                raise ValueError(
                    f"{self.activation!r} has a fixed-point form for inputs up to {kind.domain}, "
                    f"but those after {self.dense!r} may reach {high:.4g} for inputs in the "
                    f"ranges of X"
                )
            if low < -ROOM / 4:  # the unit of z would be larger than 1
                raise ValueError(f"the numbers of {self.dense!r} are too far apart for fixed point")
            slope = float(np.exp(high))
        values = np.sort([f(self.z_low), f(self.z_high)], axis=0)
        if kind.lowest < 0:
            values[0] = np.where(self.z_low < 0, kind.lowest, values[0])
        made = Tabulated(f, kind, low, high, self.bits)
        z_exponent, out, wrong = made.z_exponent, made.exponent, made.error
        self.unit = np.maximum(self.unit, z_exponent - 24)  # sums need no more than that
        self._round()
        shift = z_exponent - self.unit
        error = slope * (self.error + np.where(shift > 0, 2.0**z_exponent / 2, 0)) + wrong
        exponent = np.full(self.bias.shape, out)
        largest = np.floor((np.abs(values).max(axis=0) + error) / 2.0**out) + 1
        largest = np.minimum(largest, LARGEST[self.bits])
        signal = Signal(exponent, largest, *values, error, np.abs(values).max(axis=0))
        return self._layer(shift, exponent, table=made.table), signal


def _slope(slope: float) -> tuple[Slope, float]:
    """A factor of 15 bits, and its error."""
    if slope == 0:
        return Slope(0, 0), 0.0
    shift = int(min(max(-exponent_for(np.array(slope), 16383.0), 0), 30))
    factor = int(away(np.array(slope * 2.0**shift)))
    if factor > 32767:
        raise ValueError(f"a slope of {slope} is too steep for fixed point")
    return Slope(factor, shift), abs(slope - factor / 2.0**shift)


def _activate(layer: FixedLayer, z: np.ndarray) -> np.ndarray:
    if layer.table is not None:
        return interpolate(layer.table, z)
    if layer.slope is not None:
        return np.where(z < 0, rescale(z * layer.slope.factor, layer.slope.shift), z)
    return z if layer.activation is None else np.maximum(z, 0)
