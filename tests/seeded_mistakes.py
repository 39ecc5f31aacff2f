"""Random networks, batches and mistakes for `broken_passes`, and what their names should be."""

import itertools
import sys
from typing import NamedTuple

import broken_passes
import cases
import numpy as np
import reference
from broken_passes import Mistake, Net

import bpcore

FACTORS = {"sign", "swapped", "sum_for_mean", "mean_for_sum", "mean_twice", "outputs_factor"} | {
    *("rate_applied", "update_given", "factor", "bias_mean")
}
# The codes of each mistake; more than one where they are different words for the same thing.
CODES = {
    "delta_factor": FACTORS,
    "weight_factor": FACTORS,
    "bias_factor": FACTORS,
    "everything": FACTORS,
    "swapped": {"swapped", "sign"},
    "error_size": {"error_size"},
    "before_activation": {"error_before_activation"},
    "broadcast": {"target_broadcast"},
    "last_prediction": {"one_prediction"},
    "last_row": {"one_row"},
    "loss_value": {"loss_value"},
    "weights_ignored": {"weights_ignored"},
    "weights_twice": {"weights_twice"},
    "derivative_missing": {"derivative_missing"},
    "not_cancelled": {"derivative_missing"},
    "derivative_extra": {"derivative_extra", "softmax_elementwise"},
    "derivative_of_error": {"derivative_at_error"},
    "derivative_twice": {"derivative_twice"},
    "derivative_at_output": {"derivative_at_output"},
    "derivative_at_error": {"derivative_at_error"},
    "formula_at_input": {"output_formula_at_input"},
    "other_derivative": {"other_derivative", "derivative_incomplete", "derivative_extra"},
    "activation_for_derivative": {"activation_for_derivative", "derivative_incomplete"},
    "mask_other_layer": {"derivative_other_layer"},
    "kink_included": {"kink_included"},
    "softmax_elementwise": {"softmax_elementwise"},
    "input_before_activation": {"input_before_activation"},
    "own_output": {"own_output"},
    "network_input": {"other_activation"},
    "stale_input": {"stale_activation"},
    "weight_transposed": {"gradient_transposed"},
    "weight_zero": {"gradient_missing"},
    "bias_zero": {"gradient_missing"},
    "bias_none": {"gradient_missing"},
    "bias_row": {"bias_row"},
    "bias_mean": {"bias_mean"},
    "bias_of_error": {"without_derivative", "derivative_missing"},
    "bias_all_summed": {"bias_all_summed"},
    "l2_factor": {"l2_factor"},
    "l2_missing": {"l2_missing"},
    "l2_on_bias": {"l2_on_bias"},
    "l1_missing": {"l1_missing"},
    "weights_transposed": {"weights_transposed"},
    "weights_other": {"other_weights"},
    "weights_updated": {"updated_weights"},
    "error_passed_back": {"error_passed_back"},
    "stale_forward": {"stale_forward"},
    "derivative_formula": {"derivative_incomplete"},
    "derivative_stale": {"derivative_stale"},
    "loss_elements": {"loss_elements"},
    "error_missing": {"error_missing"},
    "error_part": {"error_incomplete"},
    "error_averaged": {"error_averaged"},
    "input_reshaped": {"input_reshaped"},
    "other_loss": {"other_loss"},
    "times_loss": {"times_loss"},
    "delta_of_next": {"wrong_delta_passed_back"},
    "rows_not_summed": {"rows_not_summed"},
    "weight_reordered": {"gradient_reordered"},
    "l1_factor": {"l1_factor"},
    "l1_on_bias": {"l1_on_bias"},
    "bias_wrong_axis": {"bias_wrong_axis"},
    "weights_size": {"weights_size"},
    "weights_missing": {"weights_missing"},
    "other_forward": {"other_forward", "activation_left_out"},
    "bias_left_out": {"bias_left_out"},
}
HOWS = ("exact", "ambiguous", "unknown", "WRONG")
AT_THE_LOSS = {"swapped", "error_size", "before_activation", "broadcast", "last_prediction"} | {
    *("last_row", "loss_value", "weights_ignored", "weights_twice", "loss_elements"),
    *("error_missing", "error_part", "error_averaged", "other_loss", "times_loss", "not_cancelled"),
}
SMOOTH = ("sigmoid", "tanh", "elu", "softplus", "gelu", "gelu_tanh", "silu")
KINKED = ("relu", "leaky_relu")


class Case(NamedTuple):
    """A network, a batch, and the mistakes that are made."""

    plain: Net
    X: np.ndarray
    y: np.ndarray
    w: np.ndarray | None
    mistakes: tuple
    rate: float | None
    previous_X: np.ndarray | None
    square: bool = False

    def network(self, dtype="float64"):
        layers = []
        rows = zip(self.plain.weights, self.plain.biases, self.plain.activations, strict=True)
        for W, b, name in rows:
            layers.append(
                bpcore.Dense(
                    *W.shape,
                    weight_init=W,
                    bias=b is not None,
                    **({} if b is None else {"bias_init": b}),
                )
            )
            if name == "gelu_tanh":
                layers.append(bpcore.GELU(approximate="tanh"))
            elif name != "identity":
                layers.append(bpcore.layers.activation(name))
        loss = bpcore.losses.LOSSES[self.plain.loss](reduction=self.plain.reduction)
        keywords = {"l2": self.plain.l2, "l1": self.plain.l1, "dtype": dtype}
        return bpcore.Network(layers, loss=loss, **keywords)

    def gradients(self, mistakes=None):
        mistakes = self.mistakes if mistakes is None else mistakes
        return broken_passes.backward(
            self.plain, self.X, self.y, self.w, mistakes, self.rate, self.previous_X
        )

    def explain(self, gradients=None, dtype="float64"):
        return bpcore.explain_gradients(
            self.network(dtype),
            self.X,
            self.y,
            self.gradients() if gradients is None else gradients,
            sample_weight=self.w,
            learning_rate=self.rate,
            previous_X=self.previous_X,
        )

    def layers(self, k):
        """The positions of dense layer k and its activation."""
        names = self.plain.activations
        start = sum(1 + (name != "identity") for name in names[:k])
        return {start} | ({start + 1} if names[k] != "identity" else set())


def network(rng, depth, square=False, hidden=None, head=None, n_out=None, **settings):
    heads = [h for h in cases.HEADS if len(h.activations) < 2]
    head = head or heads[rng.integers(len(heads))]
    widths = [int(rng.integers(2, 7)) for _ in range(depth)] + [n_out or int(rng.integers(1, 6))]
    if "softmax" in head.activations or head.loss.startswith("cross_entropy"):
        widths[-1] = max(widths[-1], 2)
    if square:
        widths = [max(widths[0], 3)] * (depth + 1)
    names = [hidden or str(rng.choice(SMOOTH + KINKED)) for _ in range(depth - 1)]
    names.append(head.activations[0] if head.activations else "identity")
    pairs = list(itertools.pairwise(widths))
    weights = [rng.normal(0, 1.2 / np.sqrt(a), (a, b)) for a, b in pairs]
    biases = [rng.normal(0, 0.4, b) for _, b in pairs]
    return Net(weights, biases, names, head.loss, **settings)


def batch(rng, net, n, weighted=False):
    X = rng.normal(0, 1.3, (n, net.weights[0].shape[0]))
    y = cases.targets(rng, net.loss, n, net.weights[-1].shape[1], "float64")
    w = rng.uniform(0.2, 2, n) if weighted else None
    return X, y, w


def choose(rng, name, depth, reduction):
    """A network in which a mistake can be made, the mistake, and other settings; None: no luck."""
    last = depth - 1
    heads = {str(h): h for h in cases.HEADS if len(h.activations) < 2}
    pick = lambda *keys: heads[str(rng.choice(keys))]  # noqa: E731
    settings = {"reduction": reduction}
    plain_heads = ("identity+mse", "identity+mae", "identity+huber", "sigmoid+mse", "tanh+mse")
    hidden_only = {"mask_other_layer", "kink_included", "stale_forward", "derivative_at_error"}
    hidden_only |= {"bias_of_error", "derivative_missing", "derivative_twice", "other_derivative"}
    hidden_only |= {"derivative_at_output", "formula_at_input", "activation_for_derivative"}
    match name:
        case "delta_factor" | "weight_factor" | "bias_factor" | "everything":
            return network(rng, depth, **settings), int(rng.integers(depth)), {}
        case "swapped" | "error_size" | "last_prediction":
            head = pick("identity+mse", "identity+mae", "identity+huber", "sigmoid+bce")
            return network(rng, depth, head=head, **settings), last, {}
        case "before_activation":
            head = pick("sigmoid+mse", "sigmoid+bce", "softmax+cross_entropy", "tanh+mse")
            return network(rng, depth, head=head, **settings), last, {}
        case "loss_value":
            return network(rng, depth, head=pick(*plain_heads), **settings), last, {}
        case "broadcast":
            head = pick("identity+mse", "sigmoid+bce", "sigmoid+mse", "identity+mae")
            return network(rng, depth, head=head, n_out=1, **settings), last, {}
        case "loss_elements" | "error_missing" | "times_loss" | "error_averaged":
            return network(rng, depth, head=pick(*plain_heads), **settings), last, {}
        case "other_loss":
            net = network(rng, depth, head=pick("identity+mse", "identity+huber"), **settings)
            return net, last, {"value": lambda p, t: np.sign(p - t)}
        case "error_part":
            net = network(
                rng, depth, head=pick("identity+mse", "softmax+cross_entropy"), **settings
            )
            return net, last, {"value": lambda p, t: p}
        case "derivative_formula":
            if depth == 1:
                return None
            net = network(rng, depth, hidden="tanh", **settings)
            return net, int(rng.integers(last)), {"value": lambda z, a: 1 - a}
        case "derivative_stale" | "other_forward" | "bias_left_out":
            if depth == 1:
                return None
            extra = {"previous": True, "value": str(rng.choice(["tanh", "sigmoid", "identity"]))}
            net = network(rng, depth, hidden=str(rng.choice(["softplus", "relu"])), **settings)
            if name == "derivative_stale" and net.activations[0] == "relu":
                return None
            return net, int(rng.integers(last)), extra
        case "delta_of_next":
            if depth < 3:
                return None
            return network(rng, depth, True, **settings), int(rng.integers(1, last)), {}
        case "rows_not_summed":
            net = network(rng, depth, **settings)
            return net, last, {"n": net.weights[last].shape[0]}
        case "bias_wrong_axis":
            net = network(rng, depth, **settings)
            k = int(rng.integers(depth))
            return net, k, {"n": net.weights[k].shape[1]}
        case "weight_reordered":
            net = network(rng, depth, **settings)
            sizes = [min(W.shape) > 1 and W.shape[0] != W.shape[1] for W in net.weights]
            return (net, sizes.index(True), {}) if True in sizes else None
        case "weights_size" | "weights_missing":
            if depth < 2:
                return None
            return network(rng, depth, True, **settings), int(rng.integers(1, depth)), {}
        case "last_row":
            return network(rng, depth, **settings), last, {}
        case "weights_ignored" | "weights_twice":
            return network(rng, depth, **settings), last, {"weighted": True}
        case "not_cancelled" | "derivative_extra":
            head = pick("sigmoid+bce", "softmax+cross_entropy")
            if name == "derivative_extra" and rng.random() < 0.4:
                head = pick("identity+mse", "identity+bce_logits", "cross_entropy_logits")
            return network(rng, depth, head=head, **settings), last, {}
        case "derivative_of_error":
            return network(rng, depth, head=pick("sigmoid+bce"), **settings), last, {}
        case "softmax_elementwise":
            head = pick("softmax+cross_entropy", "softmax+mse", "softmax+bce")
            return network(rng, depth, head=head, **settings), last, {}
        case "formula_at_input":
            hidden = str(rng.choice(["sigmoid", "tanh"]))
            if depth == 1:
                return network(rng, 1, head=pick("sigmoid+mse", "tanh+mse"), **settings), 0, {}
            return network(rng, depth, hidden=hidden, **settings), int(rng.integers(last)), {}
        case "weights_transposed":
            if depth < 2:
                return None
            return network(rng, depth, True, **settings), int(rng.integers(1, depth)), {}
        case "weights_other":
            if depth < 3:
                return None
            k = int(rng.integers(1, depth))
            other = int(rng.choice([j for j in range(depth) if j != k]))
            return network(rng, depth, True, **settings), k, {"value": other}
        case "weights_updated" | "error_passed_back":
            if depth < 2:
                return None
            return network(rng, depth, **settings), int(rng.integers(1, depth)), {"rate": 0.05}
        case "mask_other_layer":
            if depth < 3:
                return None
            k, j = (int(i) for i in rng.permutation(last)[:2])
            return network(rng, depth, True, **settings), k, {"value": j}
        case "input_before_activation":
            if depth < 2:
                return None
            return network(rng, depth, **settings), int(rng.integers(1, depth)), {}
        case "own_output":
            k = int(rng.integers(depth))
            return network(rng, depth, True, **settings), k, {}
        case "network_input":
            if depth < 2:
                return None
            return network(rng, depth, True, **settings), int(rng.integers(1, depth)), {}
        case "l2_factor" | "l2_missing" | "l2_on_bias":
            settings |= {"l2": 0.03}
            return network(rng, depth, **settings), int(rng.integers(depth)), {}
        case "l1_missing" | "l1_factor" | "l1_on_bias":
            settings |= {"l1": 0.02}
            return network(rng, depth, **settings), int(rng.integers(depth)), {}
        case "stale_input":
            return network(rng, depth, **settings), int(rng.integers(depth)), {"previous": True}
    if name in hidden_only:
        if name not in ("bias_of_error", "mask_other_layer") and depth == 1:
            head = pick("sigmoid+mse", "tanh+mse", "relu+mse", "elu+mse", "gelu+mse")
            if name in ("kink_included", "stale_forward", "derivative_at_error"):
                return None
            return network(rng, 1, head=head, **settings), 0, {}
        if depth == 1:
            return None
        extra = {"previous": True} if name == "stale_forward" else {}
        if name == "kink_included":
            extra["zeros"] = True
            return network(rng, depth, hidden="relu", **settings), 0, extra
        return network(rng, depth, **settings), int(rng.integers(last)), extra
    return network(rng, depth, **settings), int(rng.integers(depth)), {}


def value_of(rng, name, net, n):
    k = net.weights[-1].shape[1]
    numbers = [-1.0, 2.0, 0.5, n, 1 / n, k, 1 / k, n * k, 1 / (n * k)]
    numbers = [v for v in numbers if v != 1]
    match name:
        case "everything" | "delta_factor" | "weight_factor" | "bias_factor":
            return float(rng.choice(numbers))
        case "bias_row":
            return int(rng.choice([0, -1]))
        case "other_derivative":
            return str(rng.choice(["sigmoid", "tanh", "relu", "softplus", "gelu", "silu"]))
    return None


def make(rng, names, depth=None, n=None):
    """A case with the named mistakes, or None if they cannot be made together."""
    depth = depth or int(rng.integers(1, 5))
    reduction = str(rng.choice(reference.REDUCTIONS))
    chosen = choose(rng, names[0], depth, reduction)
    if chosen is None:
        return None
    net, k, extra = chosen
    n = n or extra.get("n") or int(rng.integers(5, 18))
    if n < 2:
        return None
    X, y, w = batch(rng, net, n, extra.get("weighted", False) or rng.random() < 0.1)
    if extra.get("zeros"):
        X[: max(1, n // 3)] = 0
        net = net._replace(biases=[np.zeros_like(net.biases[0]), *net.biases[1:]])
    value = extra.get("value")
    mistakes = [Mistake(names[0], k, value_of(rng, names[0], net, n) if value is None else value)]
    if names[0] == "everything":
        mistakes = [mistakes[0]._replace(layer=0)]
    for name in names[1:]:
        layer = int(rng.integers(depth))
        mistakes.append(Mistake(name, layer, value_of(rng, name, net, n)))
    if rng.random() < 0.15 and not any("bias" in m.name for m in mistakes):
        net = net._replace(biases=[None if k % 2 else b for k, b in enumerate(net.biases)])
    previous = rng.normal(0, 1.3, X.shape) if extra.get("previous") else None
    case = Case(net, X, y, w, tuple(mistakes), extra.get("rate"), previous)
    if sum(mistake.name in AT_THE_LOSS for mistake in mistakes) > 1:
        return None
    scaled = [m.layer for m in mistakes if m.name in ("bias_factor", "bias_mean")]
    if len(set(scaled)) < len(scaled):  # two factors on one array are one
        return None
    sensible = all(is_sensible(case, mistake) for mistake in mistakes)
    return case if sensible and every_mistake_shows(case) else None


def is_sensible(case, mistake):
    """Whether a mistake is what its name says where it is made."""
    net, k = case.plain, mistake.layer
    n_in, n_out = net.weights[k].shape
    name = net.activations[k]
    if mistake.name in AT_THE_LOSS and k != len(net.weights) - 1:
        return False
    match mistake.name:
        case "formula_at_input":
            return name in ("sigmoid", "tanh")
        case "kink_included":
            return name in KINKED
        case "before_activation":
            return name != "identity" or net.loss in reference.FUSED.values()
        case "error_missing" | "loss_value" | "error_averaged":
            return name != "softmax"  # of a constant it gives 0 back
        case "other_derivative" | "derivative_formula":
            return name != "softmax"
        case "activation_for_derivative" if name == "exp":
            return False  # it is right
        case "activation_for_derivative" | "bias_of_error" | "derivative_at_error":
            return name not in ("identity", "softmax")
        case "derivative_extra":
            last = k == len(net.weights) - 1
            return last and (name == "identity" or broken_passes.cancels(net))
        case "derivative_of_error":
            return (name, net.loss) == ("sigmoid", "bce")
        case "input_before_activation":
            return k > 0 and net.activations[k - 1] != "identity"
        case "error_size":
            return net.loss != "mae"
        case "weight_reordered":
            return n_in != n_out and min(n_in, n_out) > 1
        case "bias_wrong_axis":
            return len(case.X) == n_out
        case "l2_factor" | "l2_missing" | "l2_on_bias":
            return net.l2 > 0
    return True


def every_mistake_shows(case):
    """Whether each mistake changes the numbers, whatever the others are."""
    try:
        given = case.gradients()
        without = [
            case.gradients([m for m in case.mistakes if m is not mistake])
            for mistake in case.mistakes
        ]
    except (ValueError, IndexError, KeyError, TypeError):  # cannot be made here
        return False
    if not all(g is None or np.isfinite(g).all() for g in given):
        return False
    return all(differ(given, other) for other in without)


def differ(some, others):
    for a, b in zip(some, others, strict=True):
        if a is None or b is None or a.shape != b.shape:
            if a is not b:
                return True
        elif np.abs(a - b).max() > 1e-5 * max(np.abs(a).max(), np.abs(b).max()):
            return True
    return False


def names_it(case, account):
    """Whether a list of mistakes is that of the case: as many, of those codes, at their layers."""
    left = list(account)
    for mistake in case.mistakes:
        fits = [m for m in left if is_it(case, mistake, m)]
        if not fits:
            return False
        left.remove(fits[0])
    return not left


def is_it(case, seeded, found):
    last = len(case.plain.weights) - 1
    codes = CODES[seeded.name]
    if (
        seeded.name == "derivative_twice"
        and seeded.layer == last
        and broken_passes.cancels(case.plain)
    ):
        codes = codes | {"derivative_extra"}  # the loss cancels one of the two
    if found.code not in codes:
        return False
    layer = last if seeded.name == "everything" else seeded.layer
    if found.layer not in case.layers(layer):
        return False
    if "_factor" in seeded.name or seeded.name == "everything":
        if found.code == "swapped":
            return seeded.value == -1
        if found.factor is None:
            return False
        if seeded.value is not None and not np.isclose(found.factor, seeded.value, rtol=1e-4):
            return False
    in_bias = seeded.name.startswith("bias_") and seeded.name != "bias_left_out"
    if in_bias and found.parameter != "bias":
        return found.parameter is None and seeded.name in ("bias_zero", "bias_none")
    return not (seeded.name == "weight_factor" and found.parameter == "bias")


def verdict(case, explanation):
    """exact, ambiguous (the right one is among several), unknown, or WRONG."""
    if explanation.ok:
        return "WRONG"
    if explanation.unexplained:
        return "unknown"
    if names_it(case, explanation.mistakes):
        return "exact"
    if any(names_it(case, other) for other in explanation.alternatives):
        return "ambiguous"
    return "WRONG"


# ---------------------------------------------------------------- right gradients


def right_case(rng):
    depth = int(rng.integers(1, 5))
    hidden = str(rng.choice(SMOOTH + KINKED))
    settings = {"reduction": str(rng.choice(reference.REDUCTIONS))}
    if rng.random() < 0.3:
        settings |= {"l2": 0.01, "l1": 0.02}
    net = network(rng, depth, hidden=hidden, **settings)
    n = int(rng.choice([1, 2, 7, 32, 100]))
    X, y, w = batch(rng, net, n, rng.random() < 0.3)
    return Case(net, X, y, w, (), None, None)


def float32_gradients(case):
    """A float32 network, and the gradients that it computes itself."""
    net = case.network("float32")
    X, y = case.X.astype("f4"), case.y.astype("f4")
    net.loss_and_gradient(X, y, sample_weight=case.w)
    return net, X, y, [g.copy() for g in net.gradient_arrays().values()]


# ---------------------------------------------------------------- python tests/seeded_mistakes.py


def count(rng, choose_names, total):
    """How many cases of each kind are named how, and those that are not named."""
    counts, done = {}, 0
    while done < total:
        names = choose_names(done)
        case = make(rng, names)
        if case is None:
            continue
        explanation = case.explain()
        how = verdict(case, explanation)
        row = counts.setdefault(names[0] if len(names) == 1 else "pairs", {})
        row[how] = row.get(how, 0) + 1
        done += 1
        if how in ("unknown", "WRONG"):
            seeded = [(m.name, m.layer, m.value) for m in case.mistakes]
            print(how, seeded, case.plain.activations, case.plain.loss, explanation.mistakes)
    return counts


def main(seed=0, singles=260, pairs=140, right=1000):
    """Print how many seeded mistakes are named, and how many right gradients are called wrong."""
    rng = np.random.default_rng(seed)
    names = list(CODES)
    counts = count(rng, lambda i: [names[i % len(names)]], singles)
    several = lambda i: [str(name) for name in rng.choice(names, 2, replace=False)]  # noqa: E731
    counts |= count(rng, several, pairs)
    for name, row in counts.items():
        print(f"{name:28}", row)
    total = {how: sum(row.get(how, 0) for row in counts.values()) for how in HOWS}
    print(total)
    wrong = 0
    for i in range(right):
        case = right_case(rng)
        if i % 2:
            explanation = case.explain()
        else:
            net, X, y, gradients = float32_gradients(case)
            explanation = bpcore.explain_gradients(net, X, y, gradients, sample_weight=case.w)
        wrong += not explanation.ok
    print(f"{right} right gradients, {wrong} called wrong")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
