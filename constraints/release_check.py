"""Use an installed Batchproof as a user does; release.py runs this in a fresh environment, away from the checkout.

    python release_check.py CHECKOUT EXTRA...

The checkout gives a model and a table, and nothing that is imported.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from importlib.metadata import version
from pathlib import Path

ROW = {"island": "Dream", "bill_length_mm": 44.1, "bill_depth_mm": 19.7, "flipper_length_mm": 196, "body_mass_g": 4400}
ROWS = [{**ROW, "sex": "male"}]


def main() -> None:
    """Import, predict, serve and, with the extra `training`, train; raises where something is not as it should be."""
    checkout, extras = Path(sys.argv[1]), sys.argv[2:]
    import batchproof

    found = Path(batchproof.__file__)
    assert found.is_relative_to(sys.prefix), f"{found} is not the installed package"
    assert found.with_name("py.typed").exists(), "py.typed is missing"
    assert command("batchproof", "--version") == f"batchproof {version('batchproof')}"
    with tempfile.TemporaryDirectory() as folder:
        use(checkout / "models", "Adelie")
        if "training" in extras:
            table, fast = (
                str(checkout / "examples" / "penguins.csv"),
                ("--epochs", "2", "--widths", "8", "--ensemble", "1"),
            )
            command(
                "batchproof-train", table, "--target", "species", "--models", folder, "--arithmetic", "exact", *fast
            )
            use(Path(folder), None)


def use(models: Path, label: str | None) -> None:
    """Predict in this process, by the service and from a file: one answer."""
    from batchproof import load_model

    (local,) = load_model(models / "penguins").predict(ROWS)
    assert label in (None, local["label"]), local
    served = serve(models)
    assert served == local, f"{served} is served, {local} is predicted"
    with tempfile.TemporaryDirectory() as folder:
        rows, answers = Path(folder, "rows.jsonl"), Path(folder, "answers.jsonl")
        rows.write_text(json.dumps(ROWS[0]) + "\n")
        command("batchproof", "predict", str(models / "penguins"), str(rows), str(answers))
        assert json.loads(answers.read_text())["prediction"] == local, answers.read_text()


def serve(models: Path) -> dict[str, object]:
    """Start the service, ask it for one prediction, stop it."""
    words = [program("batchproof"), "serve", "--models", str(models), "--port", "0", "--log-format", "json"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            events = (json.loads(line) for line in process.stderr or ())
            port = next(event["port"] for event in events if event["event"] == "ready")
            body = json.dumps({"rows": ROWS}).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", body, timeout=30) as answer:
                (prediction,) = json.load(answer)["predictions"]
        finally:
            process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0, f"the service ended with {process.returncode}"
    return dict(prediction)


def command(name: str, *words: str) -> str:
    """Run a command of the environment; returns what it prints."""
    done = subprocess.run([program(name), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{name} {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def program(name: str) -> str:
    """Return the path of a program beside this Python."""
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main()
