"""The oracle's second half: optimisers, schedules, batches and the training loop in plain NumPy."""

import math

import numpy as np
import reference

# ---------------------------------------------------------------- optimisers (as in torch.optim)
# Each takes and returns the flat parameters; `slots` is a dict that it updates. Steps count from 1.


def sgd(p, g, slots, rate, step, momentum=0.0, nesterov=False):
    if momentum == 0:
        return p - rate * g
    slots["velocity"] = momentum * slots["velocity"] + g
    return p - rate * (g + momentum * slots["velocity"] if nesterov else slots["velocity"])


def rmsprop(p, g, slots, rate, step, rho=0.99, epsilon=1e-8):
    slots["square_average"] = rho * slots["square_average"] + (1 - rho) * g**2
    return p - rate * g / (np.sqrt(slots["square_average"]) + epsilon)


def adam(p, g, slots, rate, step, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    slots["first_moment"] = beta_1 * slots["first_moment"] + (1 - beta_1) * g
    slots["second_moment"] = beta_2 * slots["second_moment"] + (1 - beta_2) * g**2
    first = slots["first_moment"] / (1 - beta_1**step)
    second = slots["second_moment"] / (1 - beta_2**step)
    return p - rate * first / (np.sqrt(second) + epsilon)


def adamw(p, g, slots, rate, step, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01):
    return adam(p * (1 - rate * weight_decay), g, slots, rate, step, beta_1, beta_2, epsilon)


def rprop(p, g, slots, rate, step, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)):
    agreement = g * slots["previous_gradient"]
    factor = np.where(agreement > 0, etas[1], np.where(agreement < 0, etas[0], 1.0))
    slots["step_size"] = np.clip(slots["step_size"] * factor, *step_sizes)
    slots["previous_gradient"] = np.where(agreement < 0, 0.0, g)
    return p - np.sign(slots["previous_gradient"]) * slots["step_size"]


OPTIMIZERS = {"sgd": sgd, "rmsprop": rmsprop, "adam": adam, "adamw": adamw, "rprop": rprop}
SLOTS = {
    "sgd": ("velocity",),
    "rmsprop": ("square_average",),
    "adam": ("first_moment", "second_moment"),
    "adamw": ("first_moment", "second_moment"),
    "rprop": ("previous_gradient", "step_size"),
}


def initial_slots(name, n, rate):
    return {slot: np.full(n, rate if slot == "step_size" else 0.0) for slot in SLOTS[name]}


def clip(gradient, limit):
    """The gradient scaled down to the norm `limit` where it is longer."""
    norm = math.sqrt((gradient**2).sum())
    return gradient * (limit / norm) if limit is not None and norm > limit else gradient


# ---------------------------------------------------------------- learning rates by epoch, from 0


def step_decay(epoch, initial, factor, every):
    return initial * factor ** (epoch // every)


def exponential_decay(epoch, initial, factor):
    return initial * factor**epoch


def cosine_decay(epoch, initial, epochs, final=0.0):
    return final + (initial - final) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2


# ---------------------------------------------------------------- variances of initial weights

VARIANCES = {
    "glorot_uniform": lambda n_in, n_out: 2 / (n_in + n_out),
    "glorot_normal": lambda n_in, n_out: 2 / (n_in + n_out),
    "he_uniform": lambda n_in, n_out: 2 / n_in,
    "he_normal": lambda n_in, n_out: 2 / n_in,
    "lecun_normal": lambda n_in, n_out: 1 / n_in,
    "zeros": lambda n_in, n_out: 0.0,
}


# ---------------------------------------------------------------- the training loop


def epoch_batches(rng, n, batch_size, sampling):
    """The rows of each batch of one epoch, drawn from `rng` as a network draws them."""
    whole = batch_size is None or batch_size >= n
    size = n if whole else batch_size
    if sampling == "replacement":
        return [rng.integers(0, n, size=size) for _ in range(-(-n // size))]
    order = rng.permutation(n) if sampling == "shuffle" and not whole else np.arange(n)
    return [order[i : i + size] for i in range(0, n, size)]


def fit(
    layers,
    loss,
    x,
    y,
    *,
    optimizer,
    rates,
    rng,
    batch_size=None,
    sampling="shuffle",
    sample_weight=None,
    gradient_clip=None,
    l2=0.0,
    l1=0.0,
    slots=None,
    first_step=1,
    **hyper,
):
    """Train; return the layers, the losses recorded, and the optimiser's slots."""
    x, y = np.asarray(x, float), np.asarray(y)
    w = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, float)
    vector = reference.flat(reference.parameters(layers))
    slots = initial_slots(optimizer, vector.size, rates[0]) if slots is None else slots
    step, losses = first_step, []
    for rate in rates:
        total = weight = 0.0
        for rows in epoch_batches(rng, len(x), batch_size, sampling):
            layers = reference.with_parameters(layers, vector)
            value, gradient, _ = reference.loss_and_gradient(
                layers, loss, x[rows], y[rows], w[rows], l2, l1
            )
            total += value * w[rows].sum()
            weight += w[rows].sum()
            gradient = clip(gradient, gradient_clip)
            vector = OPTIMIZERS[optimizer](vector, gradient, slots, rate, step, **hyper)
            step += 1
        losses.append(total / weight)
    return reference.with_parameters(layers, vector), losses, slots
