"""Writes the small models that the tests of this crate run. Needs `pip install onnx numpy`.

    python build.py            # writes *.onnx beside this file

Weights are fixed by a seed, so the same versions of the two packages write the same bytes.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto as T, checker, helper as h, numpy_helper, save

HERE = Path(__file__).parent
RNG = np.random.default_rng(20)


def tensor(name, kind, *dims):
    return h.make_tensor_value_info(name, kind, list(dims))


def const(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def write(name, nodes, inputs, outputs, consts=(), extra=()):
    graph = h.make_graph(nodes, name, inputs, outputs, list(consts))
    opsets = [h.make_opsetid("", 17), *[h.make_opsetid(domain, 3) for domain in extra]]
    model = h.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="twinlane-tests")
    checker.check_model(model)
    save(model, HERE / f"{name}.onnx")


N = h.make_node

# y = x · [1, 2, 3] + 0.5
write("linear",
      [N("MatMul", ["x", "w"], ["xw"]), N("Add", ["xw", "b"], ["y"])],
      [tensor("x", T.FLOAT, "batch", 3)], [tensor("y", T.FLOAT, "batch", 1)],
      [const("w", [[1], [2], [3]]), const("b", [0.5])])

# A masked mean over steps between two dense layers: padding must not change a score.
write("sequence",
      [N("MatMul", ["history", "w1"], ["h1"]), N("Tanh", ["h1"], ["h"]),
       N("Cast", ["history_mask"], ["m"], to=T.FLOAT), N("Unsqueeze", ["m", "last"], ["m3"]),
       N("Mul", ["h", "m3"], ["hm"]), N("ReduceSum", ["hm", "one"], ["sum"], keepdims=0),
       N("ReduceSum", ["m", "one"], ["count"], keepdims=1), N("Max", ["count", "least"], ["divisor"]),
       N("Div", ["sum", "divisor"], ["mean"]), N("MatMul", ["mean", "w2"], ["score"])],
      [tensor("history", T.FLOAT, "batch", "steps", 2), tensor("history_mask", T.BOOL, "batch", "steps")],
      [tensor("score", T.FLOAT, "batch", 1)],
      [const("w1", RNG.normal(size=(2, 16))), const("w2", RNG.normal(size=(16, 1))),
       const("last", [-1], np.int64), const("one", [1], np.int64), const("least", [1.0])])

# Two outputs at once: three logits and an embedding.
write("classes",
      [N("MatMul", ["x", "w"], ["logits"]), N("MatMul", ["x", "v"], ["pooled"])],
      [tensor("x", T.FLOAT, "batch", 3)],
      [tensor("logits", T.FLOAT, "batch", 3), tensor("pooled", T.FLOAT, "batch", 2)],
      [const("w", np.eye(3)), const("v", [[1, 0], [0, 1], [0, 0]])])

# Not a number for a negative input.
write("root", [N("Sqrt", ["x"], ["y"])],
      [tensor("x", T.FLOAT, "batch")], [tensor("y", T.FLOAT, "batch")])

# Fails for an index outside 0..4, and with it the batch that the index is in.
write("lookup", [N("Gather", ["table", "index"], ["y"], axis=0)],
      [tensor("index", T.INT64, "batch")], [tensor("y", T.FLOAT, "batch", 2)],
      [const("table", [[0, 0.5], [1, 1.5], [2, 2.5], [3, 3.5]])])

# Fails for every input, as a session does after its device has gone.
write("broken", [N("Mul", ["index", "zero"], ["z"]), N("Add", ["z", "far"], ["i"]),
                 N("Gather", ["table", "i"], ["y"], axis=0)],
      [tensor("index", T.INT64, "batch")], [tensor("y", T.FLOAT, "batch")],
      [const("table", [0, 1]), const("zero", 0, np.int64), const("far", 9, np.int64)])

# Epoch seconds need double precision.
write("double", [N("Sub", ["x", "start"], ["y"])],
      [tensor("x", T.DOUBLE, "batch", 1)], [tensor("y", T.DOUBLE, "batch", 1)],
      [const("start", [1.7e9], np.float64)])

write("half", [N("MatMul", ["x", "w"], ["y"])],
      [tensor("x", T.FLOAT16, "batch", 2)], [tensor("y", T.FLOAT16, "batch", 1)],
      [const("w", [[0.5], [2]], np.float16)])

# Whole numbers of both widths and a truth value, one column each as scikit-learn exports have them.
write("mixed",
      [N("Cast", ["count"], ["c"], to=T.FLOAT), N("Cast", ["day"], ["d"], to=T.FLOAT),
       N("Cast", ["member"], ["m"], to=T.FLOAT), N("Mul", ["d", "ten"], ["d10"]),
       N("Mul", ["m", "hundred"], ["m100"]), N("Sum", ["c", "d10", "m100"], ["y"])],
      [tensor("count", T.INT64, "batch", 1), tensor("day", T.INT32, "batch", 1),
       tensor("member", T.BOOL, "batch", 1)],
      [tensor("y", T.FLOAT, "batch", 1)], [const("ten", 10), const("hundred", 100)])

# One logit for two classes.
write("one_logit", [N("Identity", ["x"], ["logit"])],
      [tensor("x", T.FLOAT, "batch", 1)], [tensor("logit", T.FLOAT, "batch", 1)])

# A fixed number of steps.
write("four_steps", [N("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
      [tensor("x", T.FLOAT, "batch", 4, 1)], [tensor("y", T.FLOAT, "batch")],
      [const("axes", [1, 2], np.int64)])

# A mean over steps without a mask: padding changes the score.
write("mean", [N("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)],
      [tensor("x", T.FLOAT, "batch", "steps", 1)], [tensor("y", T.FLOAT, "batch")])

# A vector per step instead of one per row.
write("per_step", [N("Tanh", ["x"], ["hidden"])],
      [tensor("x", T.FLOAT, "batch", "steps", 2)], [tensor("hidden", T.FLOAT, "batch", "steps", 2)])

# Answers only what is not negative: how many rows come out depends on the data.
write("compress", [N("GreaterOrEqual", ["x", "zero"], ["kept"]), N("Compress", ["x", "kept"], ["y"], axis=0)],
      [tensor("x", T.FLOAT, "batch")], [tensor("y", T.FLOAT, "kept_rows")], [const("zero", 0)])

# A batch of exactly one.
write("one_row", [N("MatMul", ["x", "w"], ["y"])],
      [tensor("x", T.FLOAT, 1, 2)], [tensor("y", T.FLOAT, 1, 1)], [const("w", [[1], [1]])])

# The three shapes of a scikit-learn classifier's export: numbers or texts as labels, probabilities as a matrix
# (`zipmap: False`) or as a list of maps.
PROBABILITIES = [N("Softmax", ["x"], ["probabilities"], axis=1),
                 N("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0)]
NAMES = dict(keys_int64s=[0, 1], values_strings=["ham", "spam"], default_string="?")
write("classifier",
      [*PROBABILITIES, N("Mul", ["index", "ten"], ["label"]),
       N("LabelEncoder", ["index"], ["name"], domain="ai.onnx.ml", **NAMES)],
      [tensor("x", T.FLOAT, "batch", 2)],
      [tensor("label", T.INT64, "batch"), tensor("name", T.STRING, "batch"), tensor("index", T.INT64, "batch"),
       tensor("probabilities", T.FLOAT, "batch", 2)],
      [const("ten", 10, np.int64)], ["ai.onnx.ml"])

maps = h.make_value_info("maps", h.make_sequence_type_proto(
    h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(T.FLOAT, []))))
write("zipmap",
      [*PROBABILITIES, N("ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
      [tensor("x", T.FLOAT, "batch", 2)], [tensor("index", T.INT64, "batch"), maps], (), ["ai.onnx.ml"])

# As linear, but it goes around a loop as often as the largest first column says: for a large number it hangs.
body = h.make_graph(
    [N("Identity", ["going"], ["goes_on"]), N("Tanh", ["state"], ["next"])], "around",
    [tensor("turn", T.INT64), tensor("going", T.BOOL), tensor("state", T.FLOAT, 1)],
    [tensor("goes_on", T.BOOL), tensor("next", T.FLOAT, 1)])
write("slow",
      [N("MatMul", ["x", "w"], ["xw"]), N("Add", ["xw", "b"], ["xwb"]),
       N("Gather", ["x", "first"], ["times"], axis=1), N("ReduceMax", ["times"], ["most"], keepdims=0),
       N("Cast", ["most"], ["turns"], to=T.INT64), N("Loop", ["turns", "yes", "state"], ["left"], body=body),
       N("Mul", ["left", "nothing"], ["zero"]), N("Add", ["xwb", "zero"], ["y"])],
      [tensor("x", T.FLOAT, "batch", 3)], [tensor("y", T.FLOAT, "batch", 1)],
      [const("w", [[1], [2], [3]]), const("b", [0.5]), const("first", [0], np.int64), const("yes", True, np.bool_),
       const("state", [0.5]), const("nothing", [0.0])])

# A text: the sum of what its tokens weigh, in two logits. What the mask leaves out weighs nothing.
write("words",
      [N("Gather", ["table", "ids"], ["each"]), N("Cast", ["mask"], ["kept"], to=T.FLOAT),
       N("Unsqueeze", ["kept", "two"], ["kept3"]), N("Mul", ["each", "kept3"], ["counted"]),
       N("ReduceSum", ["counted", "one"], ["logits"], keepdims=0)],
      [tensor("ids", T.INT64, "batch", "tokens"), tensor("mask", T.INT64, "batch", "tokens")],
      [tensor("logits", T.FLOAT, "batch", 2)],
      [const("table", [[9, 9], [9, 9], [0, 0], [1, 0], [0, 2], [0, 0.25], [0, 0.5], [0, 0]]),
       const("one", [1], np.int64), const("two", [2], np.int64)])
