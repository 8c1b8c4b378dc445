"""What a user of Windows or macOS does, in an interpreter that looks like theirs: train, predict, verify, card, export, client.

python train_and_predict.py win32 CHECKOUT FOLDER
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])

from tests.systems.elsewhere import become

become(sys.argv[1], training=True)

from batchproof import AsyncClient, BatchNormMLPClassifier, Client, Scorer, load_model
from batchproof.service.__main__ import main
from batchproof.training.__main__ import main as train

ROWS = [
    {"island": "Dream", "bill_length_mm": 44.1, "bill_depth_mm": 19.7, "flipper_length_mm": 196, "body_mass_g": 4400}
]
checkout, folder = Path(sys.argv[2]), Path(sys.argv[3])
models, table = folder / "models", checkout / "examples" / "penguins.csv"
fast = ("--epochs", "2", "--widths", "8", "--ensemble", "1", "--encoding", "plain", "--arithmetic", "exact", "--quiet")
assert train([str(table), "--target", "species", "--models", str(models), *fast]) == 0
rows = folder / "rows.jsonl"
rows.write_text(json.dumps({**ROWS[0], "sex": "male"}) + "\n")
for number, name in enumerate((str(models / "penguins"), str(checkout / "models" / "penguins"))):
    target = folder / f"answers-{number}.jsonl"
    assert main(["predict", name, str(rows), str(target)]) == 0
    assert json.loads(target.read_text())["prediction"] == load_model(name).predict([{**ROWS[0], "sex": "male"}])[0]
    assert main(["verify", name]) == 0
for words in (
    ["card", str(models), "--output", str(folder / "README.md")],
    ["bom", str(models / "penguins" / "1")],
    ["push", str(folder / "pushed"), str(models)],
    ["export", str(models), "--to", "triton", str(folder / "triton")],
):
    assert main(words) == 0, words
assert all((Client, AsyncClient, Scorer, BatchNormMLPClassifier))
print("done", target.read_text())
