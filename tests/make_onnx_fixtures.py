"""Make tests/onnx: models that PyTorch and skl2onnx write, with the outputs of their originals.

PyTorch is too large to install for every run of the tests, so what it writes is kept here. Run it
in an environment that also has torch (2.13.0), onnxscript (0.7.2) and skl2onnx (1.20.0)::

    python tests/make_onnx_fixtures.py

``expected.json`` holds, for each model, inputs and what the original computed for them (not what an
ONNX runtime does). tests/test_onnx_load.py reads all of it.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

FOLDER = Path(__file__).parent / "onnx"


def every_activation():
    return nn.Sequential(
        *(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 4)),
        *(nn.LeakyReLU(0.2), nn.Linear(4, 3), nn.ELU(0.7), nn.Linear(3, 3)),
        *(nn.GELU(approximate="tanh"), nn.Linear(3, 3, bias=False), nn.Softplus(), nn.Linear(3, 3)),
        *(nn.Tanh(), nn.Dropout(0.2), nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 3)),
        *(nn.ReLU(), nn.Linear(3, 3), nn.Softmax(-1)),
    )


def torch_models():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid())
    wide = nn.Sequential(
        nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1)
    )
    return {
        "torch_script_11": (every_activation(), (4,), {"dynamo": False, "opset_version": 11}),
        "torch_script_20": (every_activation(), (4,), {"dynamo": False, "opset_version": 20}),
        "torch_script_double": (
            nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.GELU()).double(),
            (4,),
            {"dynamo": False, "opset_version": 17},
        ),
        "torch_18": (every_activation(), (4,), {"opset_version": 18, "external_data": False}),
        "torch_20": (every_activation(), (4,), {"external_data": False}),
        "torch_external": (wide, (4,), {}),  # weights of 1 kB or more go into a file beside it
        "torch_flatten": (flat, (2, 2), {"external_data": False}),
    }


def write_torch(name, net, shape, keywords):
    net.eval()
    dtype = next(net.parameters()).dtype
    x = torch.randn(6, *shape, dtype=dtype)
    path = FOLDER / f"{name}.onnx"
    if keywords.get("dynamo") is False:
        keywords = keywords | {"dynamic_axes": {"input": {0: "n"}}}
    else:
        keywords = keywords | {"dynamic_shapes": ({0: torch.export.Dim("n")},)}
    torch.onnx.export(net, (x,), str(path), input_names=["input"], verbose=False, **keywords)
    strip(path)
    return x.reshape(6, -1).tolist(), net(x).tolist()


def sklearn_models(rng):
    X = rng.normal(2, 3, (80, 4))
    two, three = (X[:, 0] > 2).astype(int), np.digitize(X[:, 0], [0.5, 3.5])
    names = np.array(["a", "b", "c"])[three]
    classifier = MLPClassifier(hidden_layer_sizes=(5, 4), activation="tanh", max_iter=5)
    both = np.c_[X[:, 0] > 2, X[:, 1] > 2].astype(int)
    single = X.astype(np.float32)
    return {
        "sklearn_two_classes": (MLPClassifier((5,), max_iter=5).fit(X, two), single, {}),
        "sklearn_pipeline": (make_pipeline(StandardScaler(), classifier).fit(X, names), single, {}),
        "sklearn_double": (
            make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=5)).fit(X, three),
            X,
            {"zipmap": False},
        ),
        "sklearn_multilabel": (MLPClassifier((5,), max_iter=5).fit(X, both), single, {}),
        "sklearn_regressor": (
            make_pipeline(
                StandardScaler(),
                MLPRegressor(hidden_layer_sizes=(5,), activation="logistic", max_iter=5),
            ).fit(X, X[:, 0]),
            single,
            {},
        ),
        "sklearn_two_outputs": (
            MLPRegressor(hidden_layer_sizes=(5,), activation="identity", max_iter=5).fit(
                X, X[:, :2]
            ),
            single,
            {},
        ),
    }


def write_sklearn(name, model, X, options):
    final = model[-1] if hasattr(model, "steps") else model
    options = {id(final): options} if options else None
    onnx.save(to_onnx(model, X[:1], options=options), FOLDER / f"{name}.onnx")
    strip(FOLDER / f"{name}.onnx")
    x = X[:6]
    if not hasattr(model, "predict_proba"):
        return x.tolist(), model.predict(x).reshape(6, -1).tolist()
    y = model.predict_proba(x)
    return x.tolist(), (y[:, 1:] if name == "sklearn_two_classes" else y).tolist()


def strip(path):
    """Take out what only says where in which source a node comes from, such as paths."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    path.write_bytes(model.SerializeToString())


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    expected = {}
    for name, (net, shape, keywords) in torch_models().items():
        x, y = write_torch(name, net, shape, keywords)
        expected[name] = {"input": x, "output": y}
    np.random.seed(0)
    for name, (model, X, options) in sklearn_models(np.random.default_rng(0)).items():
        x, y = write_sklearn(name, model, X, options)
        expected[name] = {"input": x, "output": y}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in expected.items()]
    (FOLDER / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
