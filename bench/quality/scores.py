"""What a method's answers for the test rows are worth."""

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score, root_mean_squared_error

from bench.quality.tables import Split

FLOOR = 1e-7  # probabilities below this count as this: one certain mistake must not decide a table


def score(split: Split, answers: np.ndarray) -> dict[str, float]:
    """`loss` (log loss in nats or RMSE in the target's unit) and what people like to read beside it."""
    y = split.y[split.test]
    if split.task == "regression":
        return {"loss": float(root_mean_squared_error(y, answers)), "r2": float(r2_score(y, answers))}
    p = np.clip(answers.astype(np.float64), FLOOR, 1.0)
    p /= p.sum(axis=1, keepdims=True)
    scores = {"loss": float(log_loss(y, p, labels=range(split.classes))), "accuracy": accuracy_score(y, p.argmax(1))}
    if split.task == "binary":
        scores["auc"] = float(roc_auc_score(y, p[:, 1]))
    return {name: float(value) for name, value in scores.items()}
