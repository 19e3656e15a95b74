"""What somebody runs who has onnxruntime and NumPy, and nothing of this project: ask_onnx.py MODEL.onnx LOGITS.npz."""

import importlib.util
import json
import sys

import numpy as np
import onnxruntime

model, stored = sys.argv[1], np.load(sys.argv[2])
for package in ("torch", "timm", "onnx", "lightning", "deitlt"):
    assert importlib.util.find_spec(package) is None, f"{package} can be imported: this is no fresh environment"
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
card = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
furthest = {}
for batch in (1, 3, len(stored["pixels"])):
    found = dict(zip(card["outputs"], session.run(card["outputs"], {"pixels": stored["pixels"][:batch]}), strict=True))
    for name, logits in found.items():
        assert logits.shape == (batch, len(card["class_names"]))
        furthest[name] = max(furthest.get(name, 0.0), float(np.abs(logits - stored[name][:batch]).max()))
decisions = [card["class_names"][c] for c in found["avg"].argmax(axis=1)]
answer = {"furthest": furthest, "decisions": decisions, "mean": card["mean"], "class_names": card["class_names"]}
print(json.dumps(answer | {"onnxruntime": onnxruntime.__version__, "python": sys.executable}))
