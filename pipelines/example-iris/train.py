"""Trains a small scikit-learn model on the iris flowers and exports it to ONNX.

pip install scikit-learn==1.9.1 skl2onnx==1.20.0
"""

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

flowers = load_iris()
train_x, test_x, train_y, test_y = train_test_split(
    flowers.data.astype(np.float32), flowers.target, random_state=0, stratify=flowers.target
)

# Scaling is part of the model: the pipeline file only says which field goes where.
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train_x, train_y)
print(f"accuracy on {len(test_y)} other flowers: {model.score(test_x, test_y):.3f}")

# zipmap off: probabilities as a tensor, not as a list of dictionaries.
onnx = to_onnx(model, train_x[:1], options={"zipmap": False})
with open("iris.onnx", "wb") as file:
    file.write(onnx.SerializeToString())
for kind, tensors in [("input", onnx.graph.input), ("output", onnx.graph.output)]:
    print(kind + "s:", ", ".join(tensor.name for tensor in tensors))
