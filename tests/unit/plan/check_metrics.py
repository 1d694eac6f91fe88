"""Recomputes the values written by metrics_test with scikit-learn."""
import json
import sys

import numpy as np
from sklearn import metrics

for case in json.load(open(sys.argv[1])):
    prediction = np.array(case["prediction"]).reshape(-1, case["width"])
    target = np.array(case["target"])
    if case["loss"] == "mse":
        target = target.reshape(prediction.shape)
        mse = metrics.mean_squared_error(target, prediction)
        expected = {
            "mse": mse,
            "rmse": np.sqrt(mse),
            "mae": metrics.mean_absolute_error(target, prediction),
        }
    else:
        if case["loss"] == "bce":
            logits = prediction[:, 0]
            guess = (logits > 0).astype(float)
            p = 1 / (1 + np.exp(-logits))
            expected = {"auc": metrics.roc_auc_score(target, logits)}
        else:
            guess = prediction.argmax(axis=1)
            p = np.exp(prediction - prediction.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            expected = {}
        labels = list(range(max(2, case["width"])))
        expected["accuracy"] = metrics.accuracy_score(target, guess)
        expected["macro_f1"] = metrics.f1_score(target, guess, average="macro", zero_division=0)
        expected["log_loss"] = metrics.log_loss(target, p, labels=labels)
    assert len(expected) >= 3
    for name, value in expected.items():
        assert abs(case[name] - value) <= 1e-12 * max(1, abs(value)), (case["loss"], name)
