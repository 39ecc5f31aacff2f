"""The mistakes that `explain_gradients` knows: one row each, with its code and its sentence.

``docs/mistakes.md`` is this table for readers; a test holds the two together.
"""

from typing import NamedTuple


class Suspect(NamedTuple):
    """A mistake: what the backward pass should do in one step, and what is done instead."""

    code: str
    step: str
    """The step of the backward pass: loss, activation, gradient, way back, scale or forward."""
    sentence: str
    meant: str
    used: str


class Step(NamedTuple):
    """A mistake at its place, as the search finds it."""

    code: str
    layer: int
    parameter: str | None = None
    used: str = ""
    """The formula used, where it says more than that of the suspect."""
    factor: float | None = None
    meaning: str = ""
    """What the factor is the number of."""
    cost: float = 1.0
    """How far it goes against simplicity."""
    meant: str = ""
    """The formula meant, where it is not that of the suspect."""


_ROWS = [
    # ---- loss
    ("other_loss", "loss", "the derivative of another loss was used", "dL/dp of this loss", ""),
    ("loss_value", "loss", "the loss, one number, was used in place of the error",
     "dL/dp, for squared error p - y", "the loss"),
    ("loss_elements", "loss", "the losses of the elements were used in place of their derivatives",
     "dL/dp", "the elements of the loss"),
    ("times_loss", "loss", "the error was also multiplied by the loss", "dL/dp", "loss * dL/dp"),
    ("swapped", "loss", "prediction and target were swapped", "p - y", "y - p"),
    ("error_missing", "loss", "the error was left out, as if dL/dp were constant", "dL/dp", "1"),
    ("error_averaged", "loss", "the mean of the errors, one number, was used for every row",
     "p_i - y_i", "mean(p - y)"),
    ("error_incomplete", "loss", "a part of the error was left out", "dL/dp, or p - y", ""),
    ("error_size", "loss", "the error lost its sign", "p - y", "|p - y|"),
    ("target_broadcast", "loss",
     "targets of shape (n,) were broadcast against predictions of shape (n, 1), so every "
     "prediction met every target; reshape y to (n, 1)", "p_i - y_i", "p_i - y_j for all i and j"),
    ("one_prediction", "loss", "the prediction of one row was compared with all targets",
     "p_i - y_i", ""),
    ("one_row", "loss",
     "only one row of the batch is in the gradient (was it overwritten where it should have been "
     "added to?)", "the sum over rows", ""),
    ("weights_ignored", "loss", "the sample weights were left out", "w_i dl_i/dp", "dl_i/dp"),
    ("weights_twice", "loss", "the sample weights were applied twice", "w_i", "w_i**2"),
    ("error_before_activation", "loss",
     "the error was taken before the last activation: z - y in place of p - y", "p - y", "z - y"),
    # ---- activation
    ("derivative_missing", "activation", "the activation's derivative was left out", "f'(z)", "1"),
    ("derivative_extra", "activation",
     "a derivative was multiplied in that does not belong there (with this loss p - y is already "
     "the gradient at z, or there is no activation)", "dL/dz = p - y, or no activation", ""),
    ("derivative_twice", "activation", "the activation's derivative was applied twice",
     "f'(z)", "f'(z)**2"),
    ("derivative_at_output", "activation",
     "the derivative was taken at the activation's output, not at its input z", "f'(z)", "f'(a)"),
    ("output_formula_at_input", "activation",
     "the formula of the derivative in terms of the output a = f(z) was used with the input z",
     "a in place of z", ""),
    ("other_derivative", "activation", "the derivative is that of another activation", "f'(z)", ""),
    ("derivative_incomplete", "activation", "the formula of the derivative lacks a part",
     "f'(z)", ""),
    ("activation_for_derivative", "activation",
     "the activation itself was used where its derivative is meant", "f'(z)", "f(z)"),
    ("derivative_at_error", "activation",
     "the derivative was taken at the error that comes back, not at the pre-activation",
     "f'(z)", "f'(error)"),
    ("derivative_other_layer", "activation",
     "the derivative (for ReLU: the mask) was taken at another layer's pre-activation",
     "f'(z) of this layer", ""),
    ("derivative_stale", "activation",
     "the derivative was taken at values left over from the step before", "f'(z) of this batch",
     "f'(z) of the batch before"),
    ("kink_included", "activation",
     "at z = 0 the derivative of the right side was used: >= for >", "z > 0", "z >= 0"),
    ("softmax_elementwise", "activation",
     "softmax was treated as if each output depended on its own input only",
     "p_i (d_i - sum_j d_j p_j)", "d_i p_i (1 - p_i)"),
    # ---- gradients of a dense layer
    ("input_before_activation", "gradient",
     "the outer product took the layer's input before its activation", "a.T @ delta",
     "z.T @ delta"),
    ("input_reshaped", "gradient",
     "the outer product took the input reshaped, which mixes rows, where its transpose is meant",
     "a.T @ delta", "a.reshape(n_in, n) @ delta"),
    ("own_output", "gradient", "the outer product took the layer's own output for its input",
     "(layer's input).T @ delta", "(layer's output).T @ delta"),
    ("other_activation", "gradient", "the outer product took another layer's values",
     "(layer's input).T @ delta", ""),
    ("stale_activation", "gradient", "the outer product took values of the step before",
     "a.T @ delta", "(a of the batch before).T @ delta"),
    ("rows_not_summed", "gradient", "rows were multiplied and not summed: * for @",
     "a.T @ delta", "a * delta"),
    ("gradient_transposed", "gradient", "the gradient is transposed", "a.T @ delta, (n_in, n_out)",
     "delta.T @ a, (n_out, n_in)"),
    ("gradient_reordered", "gradient", "rows and columns were read in the wrong order: a reshape "
     "where a transpose is meant", "G.T", "G.reshape"),
    ("gradient_missing", "gradient", "the gradient is missing or zero", "a gradient", "0"),
    ("without_derivative", "gradient",
     "this gradient was taken from the error before the activation's derivative",
     "delta = error * f'(z)", "error"),
    ("bias_row", "gradient", "the bias's gradient is one row of delta, not the sum over rows",
     "delta.sum(axis=0)", ""),
    ("bias_mean", "gradient", "the bias's gradient is the mean over rows, not the sum",
     "delta.sum(axis=0)", "delta.mean(axis=0)"),
    ("bias_all_summed", "gradient",
     "the bias's gradient was summed over outputs too: axis=0 is missing", "delta.sum(axis=0)",
     "delta.sum()"),
    ("bias_wrong_axis", "gradient", "the bias's gradient was summed along the wrong axis",
     "delta.sum(axis=0)", "delta.sum(axis=1)"),
    ("l2_missing", "gradient", "the L2 term is missing", "+ l2 W", ""),
    ("l2_factor", "gradient", "the L2 term has a wrong factor", "+ l2 W", ""),
    ("l2_on_bias", "gradient", "the L2 term was added to the bias, which has none", "", "+ l2 b"),
    ("l1_missing", "gradient", "the L1 term is missing", "+ l1 sign(W)", ""),
    ("l1_factor", "gradient", "the L1 term has a wrong factor", "+ l1 sign(W)", ""),
    ("l1_on_bias", "gradient", "the L1 term was added to the bias, which has none", "",
     "+ l1 sign(b)"),
    # ---- on the way back
    ("weights_transposed", "way back",
     "the way back used the weights themselves, not their transpose", "delta @ W.T", "delta @ W"),
    ("other_weights", "way back", "the way back used another layer's weights", "delta @ W.T", ""),
    ("updated_weights", "way back", "the way back used weights that had already been updated",
     "delta @ W.T", "delta @ (W - rate * gradient).T"),
    ("weights_missing", "way back", "the way back left out the weights", "delta @ W.T", "delta"),
    ("weights_size", "way back", "the way back used the weights' absolute values", "delta @ W.T",
     "delta @ |W|.T"),
    ("error_passed_back", "way back",
     "what was passed back is the error before the activation's derivative",
     "(error * f'(z)) @ W.T", "error @ W.T"),
    ("wrong_delta_passed_back", "way back", "the way back started from another layer's delta",
     "delta @ W.T", ""),
    # ---- scale
    ("sign", "scale", "the sign is reversed", "descent: W -= rate * gradient", "-gradient"),
    ("sum_for_mean", "scale", "the sum was taken where the loss is a mean", "mean", "sum"),
    ("mean_for_sum", "scale", "the mean was taken where the loss is a sum", "sum", "mean"),
    ("mean_twice", "scale", "the mean over the batch was taken twice", "1/N", "1/N**2"),
    ("outputs_factor", "scale", "the number of outputs is a factor too many, or missing",
     "this loss's reduction", ""),
    ("rate_applied", "scale", "the learning rate is already multiplied in", "gradient",
     "rate * gradient"),
    ("update_given", "scale", "this is the update, not the gradient", "gradient",
     "-rate * gradient"),
    ("factor", "scale", "a constant factor is wrong", "", ""),
    # ---- forward
    ("stale_forward", "forward",
     "the forward pass used this layer's output of the step before, so the layer has no part in "
     "the prediction", "f(z) of this batch", "f(z) of the batch before"),
    ("activation_left_out", "forward", "the forward pass left out the activation", "f(z)", "z"),
    ("other_forward", "forward", "the forward pass used another activation", "f(z)", ""),
    ("bias_left_out", "forward", "the forward pass left out the bias", "x @ W + b", "x @ W"),
]  # fmt: skip

DERIVATIVES = {
    "sigmoid": "a(1 - a)",
    "tanh": "1 - a**2",
    "relu": "1 where z > 0, else 0",
    "leaky_relu": "1 where z > 0, else slope",
    "elu": "1 where z > 0, else a + alpha",
    "softplus": "sigmoid(z)",
    "exp": "exp(z) = a",
    "silu": "s + z s(1 - s) with s = sigmoid(z)",
    "gelu": "P(z) + z P'(z), P the normal distribution",
}
"""The derivatives of activations as learners write them, with a = f(z)."""

SUSPECTS = {row[0]: Suspect(*row) for row in _ROWS}
"""Code -> suspect."""


class Mistake:
    """A mistake that reproduces the gradients that were given.

    Attributes
    ----------
    code : str
        A stable word; ``docs/mistakes.md`` lists them.
    layer : int
        The position in ``net.layers``.
    parameter : {"weight", "bias"} or None
        The array it is in; None where it concerns the whole layer, and so all layers before it.
    factor : float or None
        By what something was multiplied, if the mistake has a factor.
    text : str
        A sentence.
    meant, used : str
        The two formulas; either may be "".
    """

    def __init__(self, step: Step, place: str, derivative: str = "") -> None:
        suspect = SUSPECTS[step.code]
        self.code, self.layer, self.parameter = step.code, step.layer, step.parameter
        self.factor = None if step.factor is None else float(step.factor)
        self.meant, self.used = step.meant or suspect.meant, step.used or suspect.used
        if self.meant == "f'(z)" and derivative:
            self.meant += f" = {derivative}"
        times = "" if self.factor is None else f", factor {step.meaning or f'{self.factor:.6g}'}"
        self.text = f"{place}: {suspect.sentence}{times}"
        if self.meant and self.used:
            self.text += f". Meant: {self.meant}; used: {self.used}"
        elif self.used:
            self.text += f". Used: {self.used}"

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from other mistakes; the place of a constant factor hardly does."""
        if SUSPECTS[self.code].step == "scale":
            return self.code, self.factor
        return self.code, self.layer, self.parameter, self.factor

    def __repr__(self) -> str:
        place = "" if self.parameter is None else f", parameter={self.parameter!r}"
        factor = "" if self.factor is None else f", factor={self.factor:.6g}"
        return f"<Mistake {self.code}: layer={self.layer}{place}{factor}>"

    def __str__(self) -> str:
        return self.text
