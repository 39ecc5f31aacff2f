"""The page of `bpcore train --report`: parsed, and read and measured in a browser."""

import html
import json
import re
import shlex
import shutil
import subprocess

import numpy as np
import pandas
import pytest
from matplotlib.image import imread
from pages import Page
from sklearn import metrics

import bpcore
from bpcore import svg
from bpcore.cli import main
from bpcore.htmlreport import report_html, save_report
from bpcore.measures import ClassMeasures, quantity_measures
from bpcore.pagestyle import PAGE_STYLE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLASSES = ('<no> & "never"', "yes")
SAID = re.compile(r"(?:accuracy|R\^2):\s+([\d.]+%?)[^\n]*? (\d+) held-out rows \(([^)]*)\)")


class Trained:
    """What a training said, and its page."""

    def __init__(self, folder, monkeypatch, capsys, data, *options):
        monkeypatch.chdir(folder)
        self.folder, self.report = folder, folder / "report.html"
        arguments = ["train", data, "--quiet", "--report", "report.html", "--out", "out", *options]
        assert main(arguments) == 0
        self.said = capsys.readouterr().out
        self.text = self.report.read_text("utf-8")
        self.page = Page(self.text)
        self.history = pandas.read_csv(folder / "out/history.csv")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Write tables of two classes with odd names, of a quantity, and of ten classes."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, 100)
    odd = {"u & <v>": k + 0.4 * rng.normal(size=100), "answer": np.array(CLASSES)[k]}
    pandas.DataFrame(odd).to_csv(folder / "<odd> & names.csv", index=False)
    x = rng.uniform(-3, 3, 150)
    price = 250_000 + 90_000 * np.sin(x) + 5000 * rng.normal(size=150)
    pandas.DataFrame({"x": x, "price": price}).to_csv(folder / "prices.csv", index=False)
    digit = np.arange(300) % 10
    marks = np.eye(10)[digit] + 0.4 * rng.normal(size=(300, 10))
    frame = pandas.DataFrame(marks, columns=[f"mark {i}" for i in range(10)]).assign(digit=digit)
    frame.to_csv(folder / "digits.csv", index=False)
    return folder


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    def train(data, *options):
        return Trained(tmp_path, monkeypatch, capsys, str(data), *options)

    return train


# ---- what the page says ----------------------------------------------------------------------


def test_figures_are_those_that_the_command_printed(tables, train):
    found = train(tables / "<odd> & names.csv", "--target", "answer", "--epochs", "20")
    accuracy, rows, trivial = SAID.search(found.said).groups()
    text = found.page.text
    assert f"Accuracy {accuracy} of {rows} held-out rows ({trivial})." in text
    assert found.page.texts.count("answer from <odd> & names.csv") == 2  # title and heading
    matrix = found.page.rows("class", CLASSES[0], CLASSES[1])
    counts = np.array([row[1:] for row in matrix], dtype=int)
    assert counts.sum() == int(rows) and [row[0] for row in matrix] == list(CLASSES)
    assert f"{counts.trace() / counts.sum():.1%}" == accuracy
    each = found.page.rows("class", "precision", "recall", "F1", "rows")
    assert each[1][2] == f"{counts[1, 1] / counts[1].sum():.1%}"
    assert each[1][1] == f"{counts[1, 1] / counts[:, 1].sum():.1%}"
    losses = {row[0]: row for row in found.page.rows("figure", "first", "last")}
    for name in ("loss", "validation_loss"):
        assert losses[name][2] == f"{found.history[name].iloc[-1]:.4g}"
    assert ["numbers, standardised", "u & <v>"] in found.page.rows("data")
    settings = dict(found.page.rows("settings"))
    assert (settings["epochs"], settings["seed"], settings["hidden"]) == ("20", "0", "16,16")
    assert "Gradients proven: " in text and "Healthy on 80 rows." in text
    assert f"bpcore {bpcore.__version__}" in text and f"NumPy {np.__version__}" in text
    assert "report:   report.html" in found.said


def test_a_quantity_is_told_in_its_own_units(tables, train):
    found = train(tables / "prices.csv", "--target", "price", "--epochs", "30", "--patience", "5")
    r2, rows, _ = SAID.search(found.said).groups()
    assert f"R² {r2} on {rows} held-out rows" in found.page.text
    rms = re.search(r"error ([\d.e+]+) \(always the mean: ([\d.e+]+)\)", found.said)
    table = found.page.rows("quantity", "R²", "root mean squared error")
    for row, figure in zip(table, rms.groups(), strict=True):
        assert abs(float(row[2].replace(",", "")) - float(figure)) <= 0.51
    assert len(found.page.attributes("circle")) >= 30
    labels = [drawing["aria-label"] for drawing in found.page.attributes("svg")]
    assert labels[:2] == ["price: predicted against true", "price: errors of the predictions"]
    best = 1 + int(found.history["validation_loss"].argmin())
    assert f"best epoch {best - 1}" in found.page.text


def test_what_it_says_to_run_does_run(tables, train, monkeypatch, capsys):
    odd = tables / "<odd> & names.csv"
    found = train(odd, "--target", "answer", "--epochs", "3", "--hidden", "none",
                  "--batch-size", "all", "--drop", "", "--l2", "0.5")  # fmt: skip
    model = bpcore.load(found.folder / "out/model.safetensors")
    again, predict, python = re.findall(r"<code>(.*?)</code>", found.text, re.DOTALL)
    words = shlex.split(html.unescape(again))
    assert words[0] == "bpcore"
    assert main([*words[1:], "--out", "again", "--quiet"]) == 0
    same = bpcore.load(found.folder / "again/model.safetensors")
    assert np.array_equal(same.parameters, model.parameters)
    del same.metadata["training"]["report"], model.metadata["training"]["report"]
    assert same.metadata == model.metadata
    capsys.readouterr()
    assert main(shlex.split(html.unescape(predict))[1:]) == 0
    assert "predicted_answer,probability" in capsys.readouterr().out
    exec(html.unescape(python), {"X": np.zeros((1, 1))})


def test_a_report_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path, message in (
        ("", "expected a file, found ''"),
        ("none/r.html", "there is no folder 'none'"),
        (".", "a file, found '.'"),
    ):
        assert main(["train", "--report", path]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- from Python -----------------------------------------------------------------------------


def data(n_out=1, rows=40):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, 3)), rng.normal(size=(rows, n_out))


def test_several_quantities():
    X, y = data(n_out=3)
    net = bpcore.mlp([3, 4, 3], hidden="tanh", rng=0)
    shown = Page(report_html(net, X, y, offset=10.0, scale=2.0, target="wind"))
    rows = shown.rows("quantity", "R²")
    assert [row[0] for row in rows[::2]] == ["wind 0", "wind 1", "wind 2"]
    error = 2 * np.sqrt(np.mean((net.predict(X)[:, 1] - y[:, 1]) ** 2))
    assert rows[2][2] == f"{error:.4g}"
    assert "Training" not in shown.texts  # it was not trained


def test_yes_or_no_and_several_of_them():
    X, y = data(n_out=2)
    y = (y > 0).astype(float)
    net = bpcore.mlp([3, 4, 2], output="sigmoid", loss="bce", rng=0)
    shown = Page(report_html(net, X, y, class_names=["rain", "wind"]))
    right = (net.predict(X) > 0.5) == y
    assert f"{right.mean():.1%} of the answers" in shown.text
    rows = shown.rows("output", "accuracy")
    assert [row[:2] for row in rows] == [
        ["rain", f"{right[:, 0].mean():.1%}"],
        ["wind", f"{right[:, 1].mean():.1%}"],
    ]
    one = bpcore.mlp([3, 4, 1], loss="bce_logits", rng=0)
    right = (one.predict(X)[:, 0] > 0) == y[:, 0]
    shown = Page(report_html(one, X, y[:, 0]))
    assert f"Accuracy {right.mean():.1%} of 40 given rows" in shown.text
    assert [row[0] for row in shown.rows("class", "no", "yes")] == ["no", "yes"]


def test_many_classes_are_told_by_their_commonest_confusions():
    X, _ = data(rows=200)
    labels = np.arange(200) % 50
    net = bpcore.mlp([3, 50], output="softmax", loss="cross_entropy", rng=0)
    shown = Page(report_html(net, X, labels))
    answer = net.predict(X).argmax(axis=1)
    pairs = [(t, a) for t, a in zip(labels, answer, strict=True) if t != a]
    name, predicted, count = shown.rows("class", "predicted", "rows")[0]
    assert int(count) == max(pairs.count(pair) for pair in pairs)
    assert pairs.count((int(name), int(predicted))) == int(count)
    assert len(shown.rows("class", "precision")) == 40


def test_the_baseline_is_what_training_rows_tell():
    X, _ = data(rows=4)
    net = bpcore.mlp([3, 2], output="softmax", loss="cross_entropy", rng=0)
    text = report_html(net, X, [0, 0, 0, 1], training_data=(X, [1, 1, 1, 0]))
    assert "always &#x27;1&#x27;: 25.0%" in text


def test_saving_changes_nothing_else_and_bad_data_leave_the_file(tmp_path):
    X, y = data()
    net = bpcore.mlp([3, 4, 1], rng=0)
    parameters, state = net.parameters.copy(), net.rng.bit_generator.state
    save_report(net, tmp_path / "r.html", X, y, title="T \ud800 <b>")
    np.testing.assert_array_equal(net.parameters, parameters)
    assert net.rng.bit_generator.state == state
    before = (tmp_path / "r.html").read_bytes()
    with pytest.raises(bpcore.ShapeError):
        save_report(net, tmp_path / "r.html", X[:, :2], y)
    with pytest.raises(ValueError, match="class_names must name 2 classes, got 1"):
        save_report(bpcore.mlp([3, 2], output="softmax", loss="cross_entropy"),
                    tmp_path / "r.html", X, np.zeros(40, int), class_names=["a"])  # fmt: skip
    assert (tmp_path / "r.html").read_bytes() == before


@pytest.mark.parametrize(
    ("widths", "rows", "said"),
    [
        ([3, 4, 1], 32, "on 32 rows, for each of the 21 parameters."),
        ([64, 64, 3], 32, "on 32 rows, for 1,192 of the 4,355 parameters, drawn at random."),
        ([300, 300, 2], 32, "on 32 rows, along random directions, three in each array"),
        ([900, 900, 2], 18, "on 18 rows, along random directions, three in each array"),
        ([20] * 80 + [1], 20, "on 20 rows, along random directions, three in each array"),
    ],
)
def test_the_gradient_check_has_a_budget(widths, rows, said, monkeypatch):
    """Multiply-adds of forward passes; the search may go on for longer where kinks are near."""
    cost = []
    plain = bpcore.Network.loss_value

    def counted(net, X, y, **keywords):
        cost.append(len(X) * net.parameters.size)
        return plain(net, X, y, **keywords)

    monkeypatch.setattr(bpcore.Network, "loss_value", counted)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, widths[0])), rng.normal(size=(40, widths[-1]))
    net = bpcore.mlp(widths, hidden="tanh", rng=0)
    text = Page(report_html(net, X, y)).text
    assert said in text and "Gradients proven" in text
    assert sum(cost) < 2.5e9
    assert max(cost) <= rows * net.parameters.size or max(cost) == 40 * net.parameters.size


def test_measures_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    truth, answer = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    found = ClassMeasures(truth, answer, 5)
    np.testing.assert_array_equal(found.confusion(), metrics.confusion_matrix(truth, answer))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, answer, zero_division=np.nan
    )
    for ours, theirs in (
        (found.precision, precision), (found.recall, recall), (found.support, support),
    ):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    np.testing.assert_allclose(found.f1[:4], f1[:4], rtol=1e-14)
    truth, answer = rng.normal(size=(2, 100)) * 1e3
    ours = quantity_measures(truth, answer)
    theirs = (
        metrics.root_mean_squared_error(truth, answer),
        metrics.mean_absolute_error(truth, answer),
        metrics.r2_score(truth, answer),
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert np.isnan(quantity_measures(np.ones(3), np.zeros(3)).r2)
    assert quantity_measures(np.array([0, 1e200]), np.array([0, -1e200])).rmse < np.inf


def luminance(colour):
    """Return the relative luminance of "#rrggbb" or "#rgb" (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first, second):
    dark, bright = sorted(map(luminance, (first, second)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "paper"])
def test_colours_stand_out(theme):
    """Text by 4.5 to 1 and drawings by 3 to 1, as WCAG's level AA asks."""
    themes = re.findall(r":root\{(.*?)\}", PAGE_STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+):(#\w+)", themes[theme].replace("\n", "")))
    for name, colour in colours.items():
        least = 4.5 if name in ("ink", "soft", "good", "bad") else 3.0
        if name not in ("paper", "box", "line"):
            assert contrast(colour, colours["paper"]) >= least, name
            assert contrast(colour, colours["box"]) >= least, name
    assert len(colours) == 13
    for fallback in svg.FALLBACKS:
        assert min(contrast(fallback, "#fff"), contrast(fallback, "#111")) >= 3


# ---- in a browser ----------------------------------------------------------------------------

MEASURE = """
<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow;
    const scrolls = node => node.closest(".wide, pre") !== null;
    const right = Math.max(...[...page.querySelectorAll("body *")].filter(node => !scrolls(node))
      .map(node => node.getBoundingClientRect().right));
    const texts = [...page.querySelectorAll("svg")].map(svg => {
      const boxes = [...svg.querySelectorAll("text")].map(text => text.getBoundingClientRect());
      const within = svg.getBoundingClientRect();
      let overlaps = 0, outside = 0;
      boxes.forEach((a, i) => {
        outside += a.left < within.left - 1 || a.right > within.right + 1;
        boxes.slice(i + 1).forEach(b => {
          overlaps += a.left < b.right && b.left < a.right
            && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
        });
      });
      return [overlaps, outside];
    });
    const cut = [...page.querySelectorAll(".wide")].filter(
      box => box.scrollWidth > box.clientWidth + 1).map(box => box.querySelector("th").innerText);
    return {width: view.innerWidth, cut: cut,
            scroll: page.documentElement.scrollWidth, right: right,
            texts: texts, text: page.body.innerText,
            paper: view.getComputedStyle(page.body).backgroundColor,
            size: parseFloat(view.getComputedStyle(page.querySelector("td")).fontSize)};
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


def browse(*options, folder):
    """Run Chromium on a profile of its own; returns the output."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--disable-background-networking", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", *map(str, options)],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    errors = done.stderr.decode(errors="replace")
    assert "CONSOLE" not in errors, errors
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_pages_in_a_browser(tables, train, tmp_path, monkeypatch):
    """Two starts of the browser: one to measure three pages at three widths, one for a picture."""
    widths = (400, 900, 1000)
    runs = [
        train(tables / "<odd> & names.csv", "--target", "answer", "--epochs", "20"),
        train(tables / "prices.csv", "--target", "price", "--epochs", "20"),
        train(tables / "digits.csv", "--target", "digit", "--epochs", "5"),
    ]
    frames = [
        f'<iframe srcdoc="{html.escape(run.text)}" style="width:{width}px;height:900px;border:0">'
        "</iframe>"
        for run in runs
        for width in widths
    ]
    wrapper = tmp_path / "wrapper.html"
    page = f'<!DOCTYPE html><meta charset="utf-8">{MEASURE}<pre id="found"></pre>{"".join(frames)}'
    wrapper.write_text(page, "utf-8")
    dumped = browse("--dump-dom", wrapper.as_uri(), folder=tmp_path)
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dumped)[1]))
    assert len(found) == len(frames)
    for i, seen in enumerate(found):
        run, width = runs[i // 3], widths[i % 3]
        # health, and the confusion matrix of ten classes, are wider than a telephone
        assert set(seen["cut"]) <= ({"layer", "class"} if width == 400 else set())
        assert seen["width"] == width
        assert seen["scroll"] <= width and seen["right"] <= width, "it overflows"
        assert not np.array(seen["texts"]).any(), "labels overlap, or are cut off"
        figure, rows, _ = SAID.search(run.said).groups()
        assert re.search(rf"{re.escape(figure)} (of|on) {rows} held-out rows", seen["text"])
        assert f"{len(run.history)}" in seen["text"].split("epochs")[1]
        assert seen["size"] >= 13
    assert found[0]["text"].count(CLASSES[0]) == 3

    picture = tmp_path / "page.png"
    browse("--window-size=400,1200", "--blink-settings=preferredColorScheme=0",
           f"--screenshot={picture}", runs[2].report.as_uri(), folder=tmp_path)  # fmt: skip
    image = imread(picture)
    assert image.shape[:2] == (1200, 400)
    pixels = (255 * image[..., :3]).round().astype(int)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    paper = colours[counts.argmax()]
    assert paper.max() < 60, "the dark theme has dark paper"
    assert 0.02 < (np.abs(pixels - paper).sum(axis=-1) > 60).mean() < 0.5, "neither blank nor full"
    assert np.abs(pixels[1000:] - paper).sum() > 0
