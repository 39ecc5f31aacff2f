"""ONNX Runtime: predictions by a session over a graph of Gemm nodes."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import Calls, Unsupported
from benchmarks.workloads import Problem

TITLE = "ONNX Runtime"

NODES = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}


def version() -> str:
    return onnxruntime.__version__


def model(problem: Problem) -> onnx.ModelProto:
    kind = {4: TensorProto.FLOAT, 8: TensorProto.DOUBLE}[problem.dtype.itemsize]
    nodes, arrays, last = [], [], "x"
    for k, (weight, bias) in enumerate(problem.weights):
        arrays += [
            numpy_helper.from_array(weight, f"weight{k}"),
            numpy_helper.from_array(bias, f"bias{k}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"weight{k}", f"bias{k}"], [f"z{k}"]))
        last = f"z{k}"
        activation = problem.workload.activation(k)
        if activation != "identity":
            nodes.append(helper.make_node(NODES[activation], [last], [f"y{k}"]))
            last = f"y{k}"
    inputs = [helper.make_tensor_value_info("x", kind, [None, problem.X.shape[1]])]
    outputs = [helper.make_tensor_value_info(last, kind, [None, problem.y.shape[1]])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, arrays)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def prepare(problem: Problem, threads: int) -> Calls:
    if problem.workload.kind != "prediction":
        raise Unsupported("only predictions")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        model(problem).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    inputs = {"x": problem.X}

    def predict() -> np.ndarray:
        return session.run(names, inputs)[0]

    return Calls(predict)
