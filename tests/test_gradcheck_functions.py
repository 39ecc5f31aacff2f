"""The gradient check on hundreds of functions whose gradients are known, right and seeded wrong."""

import numpy as np
import pytest

from bpcore import check_gradients, noise

SEEDS = range(40)


def quadratic(rng, x):
    A = rng.normal(size=(x.size, x.size))
    b = rng.normal(size=x.size)

    def f(x):
        return x.ravel() @ A @ x.ravel() + b @ x.ravel()

    return f, lambda x: ((A + A.T) @ x.ravel() + b).reshape(x.shape)


def waves(rng, x):
    """Sines whose wavelength lies far from the scale of x."""
    k = 10.0 ** rng.uniform(-2, 4, x.shape)
    phase = rng.uniform(0, 6, x.shape)
    return (
        lambda x: np.sum(np.sin(k * x + phase) / k),
        lambda x: np.cos(k * x + phase),
    )


def log_sum_exp(rng, x):
    c = rng.normal(0, 3, x.shape)

    def f(x):
        top = (c * x).max()
        return top + np.log(np.exp(c * x - top).sum())

    def gradient(x):
        e = np.exp(c * x - (c * x).max())
        return c * e / e.sum()

    return f, gradient


def product(rng, x):
    c = rng.uniform(0.5, 2, x.shape) * (1 + np.abs(x))

    def gradient(x):
        return np.prod(1 + x / c) / (1 + x / c) / c

    return lambda x: np.prod(1 + x / c), gradient


def norm(rng, x):
    c = rng.normal(size=x.shape)
    return (
        lambda x: np.sqrt(np.sum((x - c) ** 2)),
        lambda x: (x - c) / np.sqrt(np.sum((x - c) ** 2)),
    )


def edge_of_domain(rng, x):
    """Logarithms and roots a short way from where they end."""
    gap = 10.0 ** rng.uniform(-6, 0, x.shape)
    edge = x - gap
    w = rng.normal(size=x.shape)
    return (
        lambda x: np.sum(w * np.log(x - edge) + np.sqrt(x - edge)),
        lambda x: w / (x - edge) + 0.5 / np.sqrt(x - edge),
    )


def sharp_sigmoids(rng, x):
    """Some of them saturated beyond what a difference can see."""
    k = 10.0 ** rng.uniform(-1, 3, x.shape)
    c = rng.normal(size=x.shape)

    def gradient(x):
        s = 0.5 + 0.5 * np.tanh(0.5 * k * (x - c))
        return k * s * (1 - s)

    return lambda x: np.sum(0.5 + 0.5 * np.tanh(0.5 * k * (x - c))), gradient


def kinks(rng, x):
    """Absolute values and maxima, with kinks at, near and far from x."""
    near = 10.0 ** rng.uniform(-8, 1, x.shape) * rng.choice([-1, 0, 1], x.shape)
    c = x + near
    w = rng.normal(size=x.shape)
    return (
        lambda x: np.sum(np.abs(x - c) + w * np.maximum(x - c, 0) + w * x**2),
        lambda x: np.sign(x - c) + w * (x > c) + 2 * w * x,
    )


def many_kinks(rng, x):
    """A ReLU network of many rows: kinks lie so close that only short steps miss them."""
    rows = int(rng.integers(50, 2000))
    A = rng.normal(size=(rows, x.size))
    b = rng.normal(size=rows)

    def gradient(x):
        z = A @ x.ravel() + b
        return (2 * np.maximum(z, 0) @ A / rows + (z > 0) @ A / rows).reshape(x.shape)

    def f(x):
        a = np.maximum(A @ x.ravel() + b, 0)
        return np.mean(a**2 + a)

    return f, gradient


def single_precision(rng, x):
    """Computed in float32, so that only three or four digits of a slope can be seen."""
    c = rng.normal(size=x.shape).astype(np.float32)

    def f(x):
        return np.sum(np.tanh(c * x.astype(np.float32)))

    def gradient(x):
        return c * (1 - np.tanh(c * x.astype(np.float32)) ** 2)

    return f, gradient


def offset(rng, x):
    """A small function on a large constant: rounding hides much of the slope."""
    big = 10.0 ** rng.uniform(0, 8)
    f, gradient = waves(rng, x)
    return lambda x: big + f(x), gradient


def cancellation(rng, x):
    """Large numbers inside that nearly cancel: the rounding is not that of the value."""
    big = 10.0 ** rng.uniform(0, 6)
    return (
        lambda x: np.sum((np.sin(x) + big) ** 2 - (big**2 + 2 * big * np.sin(x))),
        lambda x: 2 * np.sin(x) * np.cos(x),
    )


def perceptron(rng, x):
    A = rng.normal(size=(x.size, 7))
    v = rng.normal(size=7)
    target = rng.normal()

    def f(x):
        return (np.tanh(x.ravel() @ A) @ v - target) ** 2

    def gradient(x):
        h = np.tanh(x.ravel() @ A)
        return (2 * (h @ v - target) * A @ (v * (1 - h**2))).reshape(x.shape)

    return f, gradient


FAMILIES = [
    quadratic,
    waves,
    log_sum_exp,
    product,
    norm,
    edge_of_domain,
    sharp_sigmoids,
    kinks,
    many_kinks,
    single_precision,
    offset,
    cancellation,
    perceptron,
]


def case(family, seed):
    """A function of the family, its gradient, and a point, at random scales."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    shape = [(), (1,), (5,), (3, 4), (2, 3, 2), (4, 4)][rng.integers(6)]
    x = np.asarray(rng.normal(size=shape))
    if rng.random() < 0.3:
        x = np.where(rng.random(shape) < 0.3, 0.0, x)
    f, gradient = family(rng, x)
    if family is not single_precision:
        scale = 10.0 ** rng.uniform(-12, 12)
        return (lambda x: scale * f(x)), (lambda x: scale * gradient(x)), x
    return f, gradient, x


by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)


@by_family
def test_right_gradients_are_never_called_wrong(family):
    for seed in SEEDS:
        f, gradient, x = case(family, seed)
        report = check_gradients(f, gradient, x)
        assert report.n_wrong == 0, f"seed {seed}\n{report}"
        assert report.n_checked + report.n_kinks + report.n_undecided == x.size
        if report.n_checked:
            assert report.worst_error < 1e-4


@by_family
def test_what_counts_as_checked_would_have_failed_if_off_by_1e_4(family):
    n_wrong = n_undecided = 0
    for seed in SEEDS:
        f, gradient, x = case(family, seed)
        report = check_gradients(f, lambda x, g=gradient: g(x) * (1 + 1e-4), x)
        array = report.arrays["x"]
        passed = (array.verdict == "right") & (array.analytic != 0)
        assert not passed.any(), f"seed {seed}\n{report}"
        n_wrong += report.n_wrong
        n_undecided += report.n_undecided
    if family not in (single_precision, cancellation, offset):  # these hide it in their rounding
        assert n_wrong > 5 * n_undecided


def test_noise_of_a_function_that_takes_only_multiples_of_something():
    """As the loss of a sure answer, log(1 + small), does; whatever the steps happen to move it."""
    unit, levels = 2.0**-52, []
    for slope in np.random.default_rng(0).uniform(1e-3, 1e-2, 400):

        def value(t, slope=slope):
            return 1.4e-3 + unit * np.round((slope * t + t**2) / unit)

        levels.append(noise.measure_noise(value, value(0.0)).level)
    assert max(levels) < unit
    assert np.quantile(levels, 0.02) > 0.05 * unit


def test_waves_shorter_than_the_first_steps():
    """Differences over whole waves, at steps that are powers of two, can agree by chance."""
    n_found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        c, x = 1e5 * rng.uniform(0.5, 2, 4), rng.normal(size=4) * 10 ** rng.uniform(-1, 1.2)

        def f(x, c=c):
            return float(np.sin(c * x).sum())

        def wrong(x, c=c):
            return c * np.cos(c * x) * [1, 1.001, 1, 1]

        report = check_gradients(f, c * np.cos(c * x), x)
        assert report.n_wrong == 0, f"seed {seed}\n{report}"
        n_found += check_gradients(f, wrong, x).worst_location == ("x", (1,))
    assert n_found >= 55


@by_family
def test_one_wrong_entry_is_found(family):
    found = 0
    for seed in SEEDS:
        f, gradient, x = case(family, seed)
        judged = check_gradients(f, gradient, x).arrays["x"]
        good = np.flatnonzero((judged.verdict == "right") & (judged.analytic != 0))
        if not good.size:
            continue
        at = judged.index[good[seed % good.size]]

        def wrong(x, gradient=gradient, at=at):
            g = np.array(gradient(x), dtype=float)
            g[at] *= 1 + 1e-3
            return g

        report = check_gradients(f, wrong, x)
        assert not report.ok
        assert report.worst_location == ("x", at)
        assert report.worst_error == pytest.approx(1e-3, rel=0.05)
        found += 1
    assert found >= 5


@pytest.mark.parametrize("exponent", [-300, -100, -12, 0, 12, 100, 300])
def test_the_scale_of_the_function_does_not_matter(exponent):
    scale = 10.0**exponent
    x = np.array([[0.3, -1.2], [0.7, 2.0]])

    def f(x):
        return scale * np.sum(np.tanh(x))

    def gradient(x):
        return scale * (1 - np.tanh(x) ** 2)

    report = check_gradients(f, gradient, x)
    assert report.ok, report
    assert report.n_checked == 4
    assert not check_gradients(f, lambda x: 1.0001 * gradient(x), x).ok


@pytest.mark.parametrize("exponent", [-200, -8, 0, 8, 200])
def test_the_scale_of_the_point_does_not_matter(exponent):
    scale = 10.0**exponent
    x = scale * np.array([0.3, -1.2, 0.7])
    report = check_gradients(
        lambda x: np.sum(np.sin(x / scale)), lambda x: np.cos(x / scale) / scale, x
    )
    assert report.ok, report
    assert report.n_checked == 3


@pytest.mark.parametrize("slopes", [(1.0, 0.0), (1.0, -1.0), (1.0, 0.99), (3.0, 1.0)])
def test_kinks_at_the_point_are_counted_and_left_out(slopes):
    right, left = slopes
    x = np.array([0.0, 0.5, -0.5])

    def f(x):
        return np.sum(np.where(x > 0, right * x, left * x) + x**2)

    report = check_gradients(f, lambda x: np.where(x > 0, right, left) + 2 * x, x)
    assert report.ok, report
    assert (report.n_checked, report.n_kinks) == (2, 1)
    assert report.arrays["x"].verdict[0] == "kink"


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5, 1e-7])
def test_kinks_beside_the_point_only_shorten_the_step(distance):
    x = np.array([distance, -distance, 1.0])
    report = check_gradients(lambda x: np.sum(np.abs(x)), np.sign, x)
    assert report.ok, report
    assert report.n_checked == 3
    assert not check_gradients(lambda x: np.sum(np.abs(x)), lambda x: 1.0001 * np.sign(x), x).ok


def test_kinks_that_hide_one_another_are_kinks():
    """relu(x) - relu(-x) is x, but by convention its gradient at 0 is 0."""

    def f(x):
        return np.maximum(x[0], 0) - np.maximum(-x[0], 0) + x[1] ** 2

    def gradient(x):
        return np.array([float(x[0] > 0) + float(x[0] < 0), 2 * x[1]])

    report = check_gradients(f, gradient, [0.0, 1.0])
    assert report.ok
    assert report.n_kinks == 1
    assert not check_gradients(f, lambda x: np.array([0.0, 2 * x[1]]), [0.5, 1.0]).ok


def test_a_slope_below_the_noise_is_undecided_and_not_wrong():
    def f(x):
        return 1e8 + np.sum(x[:3] ** 2) + 1e-12 * x[3]

    x = np.array([1e3, 2e3, 3e3, 4.0])
    report = check_gradients(f, lambda x: np.append(2 * x[:3], 1e-12), x)
    assert report.ok
    assert report.n_undecided == 1
    assert report.arrays["x"].verdict[3] == "too small to judge"
    # Even a small slope that is claimed to be large can be judged.
    assert not check_gradients(f, lambda x: np.append(2 * x[:3], 1e-2), x).ok


def test_the_edge_of_the_domain_is_stepped_around():
    report = check_gradients(lambda x: np.sum(np.log(x)), lambda x: 1 / x, [1e-9, 1e-3, 1.0])
    assert report.ok
    assert report.n_checked == 3


def test_large_arrays_by_sample_and_by_projections():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 60))

    def f(x):
        return np.sum(np.tanh(x) ** 2)

    def gradient(x):
        return 2 * np.tanh(x) * (1 - np.tanh(x) ** 2)

    def one_sign_wrong(x):
        g = gradient(x)
        g[17, 5] *= -1
        return g

    report = check_gradients(f, gradient, x, parameters=50)
    assert report.ok
    assert report.n_checked == 50
    report = check_gradients(f, gradient, x, parameters="projections")
    assert report.ok
    assert report.arrays["x"].index == ["direction 0", "direction 1", "direction 2"]
    assert not check_gradients(f, one_sign_wrong, x, parameters="projections").ok
    assert check_gradients(f, lambda x: -gradient(x), x, parameters="projections").hint.startswith(
        "sign"
    )


def test_samples_are_repeatable():
    x = np.random.default_rng(4).normal(size=100)
    index = [
        check_gradients(lambda x: np.sum(x**2), lambda x: 2 * x, x, parameters=5, rng=rng)
        .arrays["x"]
        .index
        for rng in (1, 1, 2, np.random.default_rng(1))
    ]
    assert index[0] == index[1] == index[3] != index[2]


def test_hint_for_signs_that_are_lost():
    weight = np.array([[1.0, -2.0], [-3.0, 4.0]])
    report = check_gradients(lambda x: float((weight * x).sum()), np.abs(weight), weight)
    assert report.hint.startswith("sign: right but for the sign of 2 entries")


def test_hint_for_what_is_not_finite():
    gradient = np.array([2.0, np.nan, 4.0])
    report = check_gradients(lambda x: float((x**2).sum()), gradient, np.array([1.0, 3.0, 2.0]))
    assert not report.ok and report.hint.startswith("not finite: one entry")


def test_nan_is_counted_in_entries_and_not_in_directions():
    x = np.linspace(1, 2, 50)
    given = 2 * x
    given[7] = np.nan
    report = check_gradients(lambda x: float((x**2).sum()), given, x, parameters="projections")
    assert not report.ok and "one entry of what was given" in report.hint
