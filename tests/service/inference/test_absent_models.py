"""What is said of models that do not answer."""

import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.inference.catalogue.registry import Registry, absent, unknown_model
from batchproof.service.inference.catalogue.repository import Refusal
from batchproof.service.server.serving.app import default_name


@pytest.mark.parametrize(
    ("name", "version", "status", "message"),
    [
        ("bank", None, 503, "bank version 1 was refused: model.onnx is damaged."),
        ("bank", 1, 503, "bank version 1 was refused: model.onnx is damaged."),
        ("penguins", 2, 503, "penguins version 2 was refused: too new."),
        ("penguins", 3, 404, "Model 'penguins' is served only in version 1."),
        ("banks", None, 404, "There is no model 'banks'. Did you mean 'bank'?"),
        ("nix", None, 404, "There is no model 'nix'; there are 'bank', 'penguins'."),
    ],
)
def test_a_refused_model_says_why(name: str, version: int | None, status: int, message: str) -> None:
    """A refused model or version answers 503 with the reason; what is not there, 404 with what is."""
    refusals = (Refusal("bank", 1, "model.onnx is damaged"), Refusal("penguins", 2, "too new."))
    error = absent(Registry({"penguins": {1: None}}, refusals), name, version)  # type: ignore[dict-item]
    assert (error.status, error.message) == (status, message)


def test_what_there_is_is_told_in_few_words() -> None:
    """One model, none, and more than a sentence should list."""
    assert unknown_model("nix", ["bank"]).message == "There is no model 'nix'; there is 'bank'."
    assert unknown_model("nix", []).message == "There is no model 'nix'; none is served."
    many = unknown_model("n" * 1000, [f"model{number:03}" for number in range(500)]).message
    assert many.endswith(" more.")
    assert len(many) < 400


def test_a_refusal_does_not_change_the_default() -> None:
    """Plain /predict answers for the only model that was found: a refused neighbour leaves it without one."""
    models = {"penguins": {1: None}}
    both = Registry(models, (Refusal("bank", 1, "damaged"),))  # type: ignore[arg-type]
    older = Registry(models, (Refusal("penguins", 2, "damaged"),))  # type: ignore[arg-type]
    assert default_name(Settings(), both) is None
    assert default_name(Settings(), older) == "penguins"
