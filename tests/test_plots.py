"""What plots show, read back from matplotlib's objects."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bpcore
from bpcore import plotnetwork
from bpcore.curves import thin


@pytest.fixture
def pyplot(monkeypatch):
    """Return pyplot without a display, closed again afterwards."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda *_: pytest.fail("nobody asked to show it"))
    yield pyplot
    pyplot.close("all")


@pytest.fixture
def ax():
    """Return axes that pyplot knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.subplots()
    figure.canvas.draw()  # nothing that was drawn may fail, or warn
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def curve(ax, label):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def fitted(**keywords):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 2))
    net = bpcore.mlp([2, 6, 1], hidden="tanh", rng=0)
    return net, X, X[:, 0] * X[:, 1], net.fit(X, X[:, 0] * X[:, 1], **keywords)


def test_history_without_finite_values_says_so(ax):
    history = bpcore.History({"epoch": range(3), "loss": [np.nan] * 3})
    history.plot(ax)
    assert [text.get_text() for text in ax.texts] == ["no finite values"]


def test_history_marks_points_alone(ax):
    losses = [1.0, 2.0, np.inf, 3.0, np.nan, 8.0]
    bpcore.History({"epoch": range(6), "loss": losses}).plot(ax)
    assert curve(ax, "loss").get_markevery() == [3, 5]
    assert curve(ax, "loss").get_marker() == "o" and not ax.texts


@pytest.mark.parametrize("n", [1, 2, 5])
def test_epochs_are_whole_numbers(ax, n):
    bpcore.History({"epoch": range(n), "loss": np.arange(1.0, n + 1)}).plot(ax)
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == int(tick) for tick in ticks)


def test_answers_that_are_not_finite_are_left_white(ax):
    net = bpcore.mlp([2, 3, 1], rng=0)
    net.parameters[:] = np.nan
    X = np.random.default_rng(0).normal(size=(20, 2))
    net.plot_decision_boundary(X, X[:, 0], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["no finite values"]


def test_weights_that_are_not_finite_are_grey(pyplot):
    net = bpcore.mlp([2, 3, 1], rng=0)
    net.layers[0].weight[0, 1] = np.inf
    net.layers[2].weight[:] = np.nan
    first, second, *others = net.plot(np.ones((4, 2)))
    (image,) = first.get_images()
    assert image.norm.vmax == np.abs(net.layers[0].weight[np.isfinite(net.layers[0].weight)]).max()
    assert image.get_array().mask.sum() == 1
    assert first.get_xlabel() == second.get_xlabel() == "unit (grey: not finite)"
    assert [text.get_text() for text in others[-1].texts] == ["no finite values"]
    first.figure.canvas.draw()


# ---- histories -------------------------------------------------------------------------------


def test_history_draws_both_losses(ax):
    *_, history = fitted(epochs=5, validation_fraction=0.2)
    assert history.plot(ax) is ax
    for name in ("loss", "validation_loss"):
        line = curve(ax, name.replace("_", " "))
        np.testing.assert_array_equal(line.get_xdata(), history["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), history[name])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert len(ax.figure.axes) == 1, "a constant learning rate is not worth a scale"


def test_history_is_logarithmic_where_the_loss_spans_more_than_a_decade(ax):
    columns = {"epoch": range(3), "loss": [1.0, 0.5, 0.05]}
    assert bpcore.History(columns).plot(ax).get_yscale() == "log"
    ax.clear()
    assert bpcore.History(columns | {"loss": [1.0, 0.5, 0.2]}).plot(ax).get_yscale() == "linear"
    ax.clear()
    assert bpcore.History(columns | {"loss": [1.0, 0.5, 0.0]}).plot(ax).get_yscale() == "linear"


def test_history_marks_the_best_epoch(ax):
    stopping = bpcore.EarlyStopping(patience=2)
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    figure = [lambda net, epoch, logs: logs.update(figure=next(values))]
    stopping.monitor = "figure"
    *_, history = fitted(epochs=9, callbacks=figure, early_stopping=stopping)
    assert (len(history), history.best_epoch) == (4, 1)
    history.plot(ax)
    assert set(curve(ax, "best epoch 1").get_xdata()) == {1}


def test_history_marks_nothing_where_the_last_weights_stay(ax):
    stopping = bpcore.EarlyStopping(patience=2, restore_best=False)
    *_, history = fitted(epochs=9, early_stopping=stopping)
    assert history.best_epoch is None
    history.plot(ax)
    assert [line.get_label() for line in ax.get_lines()] == ["loss"]


def test_history_draws_the_learning_rate_where_it_changes(ax):
    rate = bpcore.StepDecay(0.1, 0.5, 2)
    *_, history = fitted(epochs=4, optimizer=bpcore.SGD(learning_rate=rate))
    history.plot(ax)
    _, right = ax.figure.axes
    assert right.get_ylabel() == "learning rate"
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), [0.1, 0.1, 0.05, 0.05])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["loss", "learning rate"]
    ax.figure.clear()
    history.plot(ax.figure.subplots(), learning_rate=False)
    assert len(ax.figure.axes) == 1


def test_history_draws_what_callbacks_recorded(ax):
    *_, history = fitted(epochs=3, callbacks=bpcore.GradientNorms())
    history.plot(ax, names=["gradient_norm.0"])
    assert ax.get_ylabel() == "gradient norm.0"
    line = curve(ax, "gradient norm.0")
    np.testing.assert_array_equal(line.get_ydata(), history["gradient_norm.0"])
    with pytest.raises(ValueError, match=r"names: 'accuracy' is not recorded; there are epoch, l"):
        history.plot(ax, names=["accuracy"])


def test_long_curves_are_thinned_and_keep_their_peaks(ax):
    loss = 2 + np.sin(np.arange(1_000_000) / 1e5)
    loss[123_456], loss[654_321] = 9.0, np.nan
    history = bpcore.History({"epoch": range(len(loss)), "loss": loss})
    history.plot(ax)
    line = ax.get_lines()[0]
    assert len(line.get_xdata()) <= 4000
    at = list(line.get_xdata()).index(123_456)
    assert line.get_ydata()[at] == 9.0
    assert line.get_xdata()[-1] == len(loss) - 1


@pytest.mark.parametrize("values", [np.arange(7.0), np.full(5000, np.nan), np.zeros(4001)])
def test_thinned_positions_are_in_order(values):
    kept = thin(values, 100)
    assert len(kept) <= 100 and (np.diff(kept) > 0).all()
    assert kept[0] == 0 and kept[-1] == len(values) - 1


def test_a_new_figure_is_pyplots(pyplot):
    *_, history = fitted(epochs=2)
    assert history.plot().figure is pyplot.figure(pyplot.get_fignums()[0])


# ---- reports ---------------------------------------------------------------------------------


def wrong_report():
    """The entries 1 and 3 of x are wrong, by a sign and by a factor of two."""
    x = np.array([0.5, -1.0, 2.0, 3.0])
    gradient = 2 * x * [1, -1, 1, 2]
    return bpcore.check_gradients(lambda x: float((x**2).sum()), gradient, x), gradient


def test_gradients_are_drawn_against_differences(ax):
    report, gradient = wrong_report()
    assert report.plot(ax) is ax
    points = curve(ax, "x")
    np.testing.assert_array_equal(points.get_ydata(), gradient)
    np.testing.assert_allclose(points.get_xdata(), [1.0, -2.0, 4.0, 6.0], rtol=1e-6)
    assert ax.get_xscale() == ax.get_yscale() == "symlog"
    diagonal = ax.get_lines()[0]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert "analytic" in ax.get_ylabel() and "numeric" in ax.get_xlabel()


def test_wrong_entries_are_named_worst_first(ax):
    report, _ = wrong_report()
    report.plot(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["x", "x[1], relative error 2.0e+00", "x[3], relative error 5.0e-01"]
    places = {note.get_text(): tuple(note.xy) for note in ax.texts}
    assert set(places) == {"1", "2"}
    np.testing.assert_allclose(places["1"], (-2.0, 2.0), rtol=1e-6)
    assert "2 WRONG" in ax.get_title()


def test_entries_that_are_not_finite_are_named_though_they_cannot_be_drawn(ax):
    x = np.array([1.0, 2.0])
    report = bpcore.check_gradients(lambda x: float((x**2).sum()), np.array([2.0, np.nan]), x)
    report.plot(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[-1] == "x[1], nan (not drawn)"


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-12, 1.0, 1e155])
def test_derivatives_of_any_size_are_drawn(size, ax):
    x = np.array([0.5, -1.0, 2.0])
    report = bpcore.check_gradients(lambda x: size * float((x**2).sum()), 2 * size * x, x)
    report.plot(ax)
    for ticks in (ax.get_xticks(), ax.get_yticks()):
        assert 1 <= len(ticks) <= 9 and 0.0 in ticks


def test_a_scalar_has_no_index(ax):
    bpcore.check_gradients(lambda x: float(x**2), np.array(-6.0), np.array(3.0)).plot(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["x", "x, relative error 2.0e+00"]


def test_directions_of_large_networks_are_drawn(ax):
    net, X, y, _ = fitted(epochs=1)
    report = net.check_gradients(X, y, parameters="projections")
    report.plot(ax)
    drawn = sum(len(line.get_ydata()) for line in ax.get_lines()[1:])
    assert drawn == report.n_entries


def test_arrays_have_colours_of_their_own(ax):
    net, X, y, _ = fitted(epochs=1)
    net.check_gradients(X, y).plot(ax)
    names = [*net.parameter_arrays(), "input"]
    styles = {(curve(ax, name).get_color(), curve(ax, name).get_marker()) for name in names}
    assert len(styles) == len(names)
    assert "gradients proven" in ax.get_title()


def test_entries_left_out_are_hollow(ax):
    x = np.array([0.5, 0.0, -1.5])
    bpcore.check_gradients(lambda x: np.abs(x).sum(), np.sign, x).plot(ax)
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow if len(line.get_ydata())] == [[0.0]]
    assert "1 left out" in ax.get_title()


def test_health_shows_shares(ax):
    layers = [bpcore.Dense(1, 2, weight_init=[[1.0, 1.0]], bias_init=[0.0, -9.0]), bpcore.ReLU()]
    report = bpcore.Network(layers).health([[-1.0], [0.0], [1.0]])
    assert report.plot(ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1 ReLU"]
    assert [bar.get_width() for bar in ax.patches] == [50.0, 0.0]


# ---- networks --------------------------------------------------------------------------------


def test_weights_are_heat_maps_and_activations_histograms(pyplot):
    net, X, *_ = fitted(epochs=1)
    axes = net.plot(X)
    titles = ["0: 2 to 6", "2: 6 to 1"]
    outputs = ["0: output of Dense", "1: output of Tanh", "2: output of Dense"]
    assert [ax.get_title() for ax in axes] == titles + outputs
    for ax, layer in zip(axes, (net[0], net[2]), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array(), layer.weight)
        low, high = ax.images[0].get_clim()
        assert low == -high == -np.abs(layer.weight).max()
    heights = [bar.get_height() for bar in axes[3].patches]
    assert sum(heights) == pytest.approx(100)
    values = net[1].forward(net[0].forward(X))
    edges = [bar.get_x() for bar in axes[3].patches]
    assert min(edges) == pytest.approx(values.min())
    assert [ax.get_title() for ax in net.plot()] == titles


def test_a_figure_given_is_drawn_on():
    from matplotlib.figure import Figure

    net, *_ = fitted(epochs=1)
    figure = Figure()
    axes = net.plot(figure=figure)
    assert all(ax.figure is figure for ax in axes)


def test_wide_and_deep_networks_are_drawn_in_part(monkeypatch):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    rows, sizes = [], []
    values_of, hist = plotnetwork.values_of, Axes.hist
    monkeypatch.setattr(
        plotnetwork, "values_of", lambda net, X: rows.append(len(X)) or values_of(net, X)
    )
    monkeypatch.setattr(
        Axes, "hist", lambda ax, x, **style: sizes.append(x.size) or hist(ax, x, **style)
    )
    wide = bpcore.mlp([4096, 2048, 1], dtype="float32", rng=0)
    wide.parameters[...] = 0.5  # no time for random numbers
    axes = wide.plot(np.ones((4000, 4096), np.float32), figure=Figure())
    assert not axes[0].images and axes[0].patches
    assert len(sizes) == 5 and max(sizes) <= 100_000
    assert rows == [int(1e9 // wide.parameters.size)]
    deep = bpcore.mlp([2] * 60, rng=0)
    assert len(deep.plot(figure=Figure())) == 16


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "logits", "sigmoid with mse"])
def test_boundary_lies_where_the_answer_changes(head, ax):
    """The class is 1 where the first feature is above 0.5."""
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    y = np.array([0, 1, 0, 1])
    one = bpcore.Dense(2, 1, weight_init=[[8.0], [0.0]], bias_init=[-4.0])
    two = bpcore.Dense(2, 2, weight_init=[[-4.0, 4.0], [0.0, 0.0]], bias_init=[2.0, -2.0])
    layers, loss = {
        "softmax": ([two, bpcore.Softmax()], "cross_entropy"),
        "sigmoid": ([one, bpcore.Sigmoid()], "bce"),
        "logits": ([one], "bce_logits"),
        "sigmoid with mse": ([one, bpcore.Sigmoid()], "mse"),
    }[head]
    net = bpcore.Network(layers, loss=loss)
    assert net.plot_decision_boundary(X, y, ax=ax, class_names=["left", "right"]) is ax
    paths = [path for found in ax.collections for path in found.get_paths()]
    lines = [
        path.vertices for path in paths if len(path.vertices) and np.ptp(path.vertices[:, 0]) < 0.01
    ]
    assert lines and all(np.allclose(line[:, 0], 0.5, atol=0.01) for line in lines)
    for name, points in (("left", X[[0, 2]]), ("right", X[[1, 3]])):
        np.testing.assert_array_equal(np.c_[curve(ax, name).get_data()], points)


def test_quantities_are_filled_contours(ax):
    net = bpcore.Network([bpcore.Dense(2, 2, weight_init=[[1.0, 0.0], [0.0, 3.0]])])
    X = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.2]])
    names = ("wind", "sun")
    net.plot_decision_boundary(X, X * [1, 3], ax=ax, output=1, feature_names=names)
    assert (ax.get_xlabel(), ax.get_ylabel()) == names
    filled, points = ax.collections
    np.testing.assert_array_equal(points.get_array(), 3 * X[:, 1])
    assert points.get_clim() == pytest.approx((-0.24, 3.24))  # the plane reaches past the data
    assert filled.levels[0] == pytest.approx(-0.24)


@pytest.mark.parametrize(
    ("widths", "keywords", "error", "message"),
    [
        ([3, 2], {}, ValueError, "needs a network of 2 inputs, this one has 3"),
        ([2, 2], {"output": 2}, ValueError, "output must be below the network's 2 outputs, got 2"),
        ([2, 2], {"output": True}, TypeError, "output must be an integer"),
        ([2, 2], {"resolution": 1}, ValueError, "resolution must be >= 2, got 1"),
    ],
)
def test_boundaries_that_cannot_be(widths, keywords, error, message):
    X = np.ones((4, widths[0]))
    with pytest.raises(error, match=message):
        bpcore.mlp(widths).plot_decision_boundary(X, np.ones((4, 2)), **keywords)


def test_class_names_are_counted():
    net = bpcore.mlp([2, 3], output="softmax", loss="cross_entropy")
    with pytest.raises(ValueError, match="class_names must name 3 classes, got 2"):
        net.plot_decision_boundary(np.eye(2), [0, 1], class_names=["a", "b"])


def test_dollars_in_names_are_no_formulas(ax, pyplot):
    """Drawing would fail, or show something else."""
    nasty = "$^{5$ to $\\frac$"
    net = bpcore.Network([(nasty, bpcore.Dense(2, 2)), bpcore.Softmax()], loss="cross_entropy")
    X, y = np.eye(2), [0, 1]
    net.plot_decision_boundary(X, y, ax=ax, class_names=[nasty, "other"])
    assert ax.get_legend().get_texts()[0].get_text() == nasty
    net.plot(X)[0].figure.canvas.draw()
    net.check_gradients(X, y).plot().figure.canvas.draw()
    pyplot.close("all")


def test_without_matplotlib_the_extra_is_named():
    code = """
import sys
sys.modules["matplotlib"] = None
import bpcore
net = bpcore.mlp([2, 1], rng=0)
X = [[0.0, 1.0], [1.0, 0.0]]
history = net.fit(X, [0.0, 1.0])
for draw in (history.plot, net.plot, net.health(X).plot, net.check_gradients(X, [0.0, 1.0]).plot,
             lambda: net.plot_decision_boundary(X, [0.0, 1.0])):
    try:
        draw()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.endswith("needs matplotlib: pip install 'bpcore[plot]'") for line in lines)


def test_the_examples_of_the_page_run(pyplot, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs/plots.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert names["history"].best_epoch is not None
    assert len(pyplot.get_fignums()) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"history.png", "circle.html"}
