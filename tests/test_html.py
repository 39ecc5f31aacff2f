"""What notebooks show: right, whole, bounded, and harmless whatever names say."""

import itertools
import re

import numpy as np
import pytest
from pages import Page

import bpcore
from bpcore import svg
from bpcore.axis import Scale, tick_texts
from bpcore.htmltext import clipped, escape, number, shortened

NASTY = "<script>x</script>&'\x00\x1b"


def page(thing):
    text = thing._repr_html_()
    text.encode()
    return Page(text)


def data(n_in=2, n_out=1):
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, n_in)), rng.normal(size=(30, n_out))


# ---- networks --------------------------------------------------------------------------------


def test_network_lists_its_layers():
    net = bpcore.mlp([4, 1200, 3], hidden=bpcore.LeakyReLU(slope=0.2), l2=0.001)
    shown = page(net)
    assert shown.rows("name", "layer", "width", "parameters") == [
        ["0", "Dense", "4 → 1,200", "6,000"],
        ["1", "LeakyReLU(slope=0.2)", "1,200 → 1,200", "0"],
        ["2", "Dense", "1,200 → 3", "3,603"],
    ]
    assert "9,603 parameters, float64, loss mse, l2 0.001" in shown.text
    (drawing,) = shown.attributes("svg")
    assert drawing["role"] == "img"
    assert drawing["aria-label"] == "units of each layer: 4, 1,200, 3"


def test_network_draws_units_up_to_a_few():
    assert len(page(bpcore.mlp([2, 3, 1])).attributes("circle")) == 6
    assert len(page(bpcore.mlp([2, 300, 1])).attributes("circle")) == 2 + 6 + 1


def test_labels_say_what_follows_a_layer():
    layers = [bpcore.Dense(2, 3), bpcore.ReLU(), bpcore.Dropout(0.5), bpcore.Dense(3, 1)]
    text = page(bpcore.Network(layers)).text
    assert [word for word in text.split() if word in ("inputs", "ReLU", "Dense")][:3] == [
        "inputs",
        "ReLU",
        "Dense",
    ]


def test_large_networks_and_long_histories_stay_small():
    net = bpcore.mlp([2] * 500, rng=0)
    shown = page(net)
    assert len(shown.rows("name")) == 25
    assert ["…", "973 more layers", "", ""] in shown.rows("name")
    loss = np.exp(-np.arange(200_000) / 1e4)
    columns = {"epoch": range(len(loss)), "loss": loss}
    columns |= {f"figure {k}": loss for k in range(40)}
    for thing in (net, bpcore.History(columns), net.health(np.ones((3, 2)))):
        assert len(thing._repr_html_()) < 20_000


def test_names_are_escaped():
    net = bpcore.Network([(NASTY, bpcore.Dense(2, 1))], rng=0)
    X, y = data()
    history = net.fit(X, y, callbacks=[lambda net, epoch, logs: logs.update({NASTY: 1.0})])
    _, gradient = net.loss_and_gradient(X, y)
    things = [
        net,
        history,
        net.check_gradients(X, y),
        net.health(X, y),
        bpcore.explain_gradients(net, X, y, 2 * gradient),
    ]
    for thing in things:
        shown = page(thing)  # which refuses a script
        assert "<script>x</script>&'" in shown.text, thing
        assert not set(shown.text) & {"\x00", "\x1b"}


# ---- histories and reports -------------------------------------------------------------------


def test_history_tells_first_last_and_lowest():
    columns = {"epoch": range(3), "loss": [4.0, 0.5, 2.0], "seconds": [0.1, 0.2, 0.3]}
    columns["grade"] = [np.nan, 3.0, np.nan]
    columns["word"] = ["a", "b", "c"]
    shown = page(bpcore.History(columns))
    assert shown.rows("figure", "first", "last", "lowest", "in epoch") == [
        ["loss", "4", "2", "0.5", "1"],
        ["grade", "", "", "3", "1"],
        ["word", "", "c", "", ""],
        ["seconds", "", "0.3", "", ""],
    ]
    assert "3 epochs" in shown.text
    assert len(shown.attributes("svg")) == 1


def test_history_that_went_wrong():
    columns = {"epoch": range(3), "loss": [np.nan] * 3, "validation_loss": [np.inf] * 3}
    shown = page(bpcore.History(columns))
    assert "no finite values" in shown.text and not shown.attributes("svg")
    assert shown.rows("figure", "first") == [
        ["loss", "nan", "nan", "", ""],
        ["validation_loss", "inf", "inf", "", ""],
    ]


def test_directions_are_not_called_entries():
    X, y = data()
    net = bpcore.mlp([2, 3, 1], hidden="tanh", rng=0)
    report = net.check_gradients(X, y, parameters="projections")
    assert "Gradients proven: all 15 directions agree" in page(report).text
    assert "entries" not in report.sentence()


def test_history_says_the_best_epoch():
    history = bpcore.History({"epoch": range(2), "loss": [1.0, 2.0]})
    history.best_epoch = 0
    assert "2 epochs; best epoch 0; loss:" in page(history).text


@pytest.mark.parametrize(
    "loss", [[], [1.0], [np.nan], [1.0, np.nan, 3.0], [0.0, 0.0], [-1e308, 1e308], [1e-320, 1e300]]
)
def test_any_history_has_a_picture(loss):
    history = bpcore.History({"epoch": range(len(loss)), "loss": np.array(loss, dtype=float)})
    text = history._repr_html_()
    page(history)
    drawn = " ".join(re.findall(r' d="([^"]*)"', text))
    assert "nan" not in drawn and "inf" not in drawn


def test_gradient_report_names_what_is_wrong():
    x = np.array([0.5, -1.0, 2.0])
    report = bpcore.check_gradients(lambda x: float((x**2).sum()), -2 * x, x)
    shown = page(report)
    (row,) = shown.rows("array", "shape", "checked", "wrong", "left out")
    assert row[:5] == ["x", "3", "3", "3", "0"]
    assert row[5].startswith("2 at [")
    assert "✗" in shown.text and report.sentence() in shown.text and report.hint in shown.text
    right = page(bpcore.check_gradients(lambda x: float((x**2).sum()), 2 * x, x))
    assert "✓" in right.text and "✗" not in right.text


def test_health_report_tells_findings_and_figures():
    X, y = data()
    net = bpcore.mlp([2, 3, 1], rng=0)
    report = net.health(X * [1, 1000], y)
    shown = page(report)
    assert f"{report.findings[0].text}." in shown.text and "✗" in shown.text
    assert "1 of 2 inputs unscaled." in shown.text
    rows = shown.rows("layer", "kind", "units", "dead")
    assert [row[:3] for row in rows] == [
        ["0", "Dense", "3"],
        ["1", "ReLU", "3"],
        ["2", "Dense", "1"],
    ]
    assert rows[1][3] == f"{report.layers['1'].dead:.0%}"


def test_explanation_tells_mistakes_and_verdicts():
    X, y = data()
    net = bpcore.mlp([2, 3, 1], hidden="tanh", rng=0)
    _, gradient = net.loss_and_gradient(X, y)
    found = bpcore.explain_gradients(net, X, y, 30 * gradient)
    shown = page(found)
    assert f"{found.mistakes[0].text}." in shown.text
    assert [row[0] for row in shown.rows("array", "verdict")] == list(found.arrays)
    assert "All gradients are right." in page(bpcore.explain_gradients(net, X, y, gradient)).text


# ---- figures and drawings --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.5, "-0.5"), (12.345678, "12.35"), (450.0, "450"), (99_999.6, "100,000"),
        (1e9, "1e9"), (0.00123456, "0.001235"), (9.99999e-4, "1e-3"), (float("inf"), "inf"),
        (float("nan"), ""), (-1234567, "-1,234,567"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_helpers():
    assert escape("a\x00\ud800b\tc") == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b\tc"
    assert escape("پ\u200cی 5\xa0×\xa03 🙂") == "پ\u200cی 5\xa0×\xa03 🙂"
    assert clipped("x" * 80, 10) == "xxxxxx…xxx"
    assert shortened(range(10), 4) == ([0, 1, 2], 6, [9])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (-3, 7),
        (-3e5, 1e5),
        (0, 4e7),
        (0.1, 0.11),
        (1e-300, 3e-300),
        (-1e308, 1e308),
        (5, 5),
        (999_975, 1_000_012),
        (1e6, 1e6 + 1e-3),
        (0.1234567, 0.1234567 + 1e-9),
        (-1e9 - 20, -1e9 + 20),
        (0.25, 0.25 + 3e-17),
        (0.25, 0.25 + 2e-16),
    ],
)
def test_ticks_are_few_round_and_inside(low, high):
    scale = Scale(low, high, 0.0, 100.0)
    ticks, labels, _ = scale.ticks()
    assert 2 <= len(ticks) <= 7
    assert max(map(len, labels)) <= 10
    assert len(set(labels)) == len(labels)
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert all(0 <= scale(tick) <= 100 for tick in ticks)
    steps = np.diff(ticks) / ticks[-1]
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(1e-3, 10.0), (0.1, 0.9), (3e-12, 2e5)])
def test_logarithmic_ticks_are_few_and_inside(low, high):
    scale = Scale(low, high, 100.0, 0.0, log=True)
    assert 1 <= len(scale.ticks().values) <= 9
    assert all(-1 <= scale(tick) <= 101 for tick in scale.ticks().values)
    assert scale(np.sqrt(low * high)) == pytest.approx(50)


@pytest.mark.parametrize(
    ("values", "labels", "offset"),
    [
        ([999_990, 999_995, 1e6], ["999,990", "999,995", "1,000,000"], ""),
        ([0.0, 0.5, 1.0], ["0", "0.5", "1.0"], ""),
        ([-2e-7, 0.0, 2e-7], ["-2e-7", "0", "2e-7"], ""),
        ([8e8, 9e8, 1e9], ["8e8", "9e8", "1e9"], ""),
        ([5e9, 5e9 + 10], ["0", "10"], " - 5,000,000,000"),
        ([-5e9, -5e9 + 10], ["0", "10"], " + 5,000,000,000"),
        ([0.12345670, 0.123456705, 0.12345671], ["0", "5e-9", "1e-8"], " - 0.123456700"),
        ([3.0], ["3"], ""),
        ([], [], ""),
    ],
)
def test_labels_have_the_digits_of_their_step(values, labels, offset):
    assert tick_texts(values) == (labels, offset)


def labels_of(drawing):
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def test_wide_labels_get_a_wider_margin_and_fewer_ticks():
    far = 1e6 + np.linspace(-20, 20, 30)
    drawing = svg.scatter(far, far, "t", x_label="x", y_label="y")
    assert "1,000,000" in labels_of(drawing)
    (axis,) = re.findall(r'<path d="M([\d.]+) 34V244H466"', drawing)
    assert float(axis) >= 8 * len("1,000,000")
    places = re.findall(r'<text x="([\d.]+)" y="264" text-anchor="middle">', drawing)
    assert np.diff(np.array(places, float)).min() > 8 * len("1,000,000")


def test_what_was_left_off_stands_beside_the_name():
    drawing = svg.curves({"loss": 5e9 + np.arange(30.0)}, "t", mark=12)
    assert "loss - 5,000,000,000" in labels_of(drawing)
    assert 'height="310"' in drawing or 'viewBox="0 0 480 310"' in drawing  # below the legend


def test_epochs_are_whole_and_points_alone_are_seen():
    two = svg.curves({"loss": np.array([1.0, 2.0])}, "t")
    assert labels_of(two).count("0.5") == labels_of(two).count("0.2") == 0
    one = svg.curves({"loss": np.array([3.0])}, "t")
    (dot,) = Page(one).attributes("circle")
    assert 200 < float(dot["cx"]) < 320
    nan, inf = np.nan, np.inf
    gaps = svg.curves({"loss": np.array([1.0, 2.0, inf, 3.0, nan, 8.0])}, "t")
    assert len(Page(gaps).attributes("circle")) == 2


def test_curves_of_nothing_say_so():
    assert "no finite values" in labels_of(svg.curves({"loss": np.full(4, np.nan)}, "t"))
    assert "no finite values" not in labels_of(svg.curves({"loss": np.array([np.nan, 1.0])}, "t"))


def test_points_and_bars_of_nothing_say_so():
    nan = np.full(3, np.nan)
    for drawing in (
        svg.scatter(nan, np.ones(3), "t", x_label="x", y_label="y"),
        svg.histogram(nan, "t", x_label="x"),
    ):
        assert "no finite values" in labels_of(drawing)
        assert not Page(drawing).attributes("rect") and not Page(drawing).attributes("circle")


def test_curves_go_where_the_values_are():
    text = svg.curves({"loss": np.array([4.0, 1.0, 2.0])}, "losses")
    path = next(d for d in re.findall(r'<path d="([^"]*)"[^>]*style', text) if "L" in d)
    ups = [float(pair.split()[1]) for pair in re.split("[ML]", path)[1:]]
    assert ups[0] == min(ups) and ups[1] == max(ups)  # upwards is smaller
    assert ups[2] == pytest.approx(ups[1] + (ups[0] - ups[1]) / 3, abs=0.1)


def test_scatter_puts_right_predictions_on_the_diagonal():
    truth = np.array([1.0, 2.0, 5.0, np.nan])
    shown = Page(svg.scatter(truth, truth, "t", x_label="x", y_label="y"))
    points = [(float(c["cx"]), float(c["cy"])) for c in shown.attributes("circle")]
    assert len(points) == 3
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.01)


def test_histogram_counts():
    shown = Page(svg.histogram(np.array([-1.0, 0.1, 0.1, 0.1, 1.0]), "t", x_label="x"))
    heights = [float(bar["height"]) for bar in shown.attributes("rect")]
    np.testing.assert_allclose(np.array(heights) / min(heights), [1, 3, 1], rtol=0.01)
