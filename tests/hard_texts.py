"""Features with text rules, and cells that are easily read otherwise: what every reader of bundles is held to the service with."""

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

from batchproof.service.bundle.signature import Feature, Signature, TextRule
from batchproof.service.features.row_encoder import Encoder

Rule = dict[str, Any]
NUMBER_RULES: list[Rule] = [
    {},
    {"missing": ["unknown", "-999", "inf", " 7 "]},
    {"decimal": ","},
    {"decimal": ",", "thousands": "."},
    {"decimal": ",", "thousands": " ", "affixes": ["€", "EUR"]},
    {"decimal": ",", "thousands": "'", "missing": ["-999,5", "k.A.", "0x10"], "usual_missing": False},
    {"thousands": ",", "affixes": ["$", "%"], "missing": ["9007199254740992"]},
    {"thousands": "'", "affixes": ["CHF", "Fr."]},
    {"thousands": "_", "affixes": ["-", "e", "kg"]},
    {"thousands": ".", "decimal": ",", "affixes": ["\U0001f4b0", "+"]},
]
DATE_RULES: list[Rule] = [
    {},
    {"missing": ["0000-00-00", "1900-01-01", "n.d."]},
    {"date_format": "%d.%m.%Y", "missing": ["31.12.9999", "-999"], "usual_missing": False},
    {"date_format": "%d/%m/%y %H:%M"},
    {"date_format": "%b %d, %Y %I:%M:%S.%f %p %z"},
    {"date_format": "%Y%m%d"},
    {"date_format": "%A %d. %B %Y %% é.K"},
    {"date_format": "%m-%Y %Z"},
    {"date_format": "%Y %y %b %m %I %H"},
]
CATEGORY_RULES: list[tuple[str, list[str], Rule]] = [
    ("string", ["Oslo", "Ærø", "NA", " x "], {"missing": ["unknown", "-999", " y"]}),
    ("string", ["Oslo", "Ærø", "3"], {"missing": ["unknown", ""], "strip": True}),
    ("integer", ["1", "2", "-3", "9007199254740992"], {"missing": ["-1", "9007199254740993", "5.0", "inf", "1e3"]}),
    ("integer", ["1", "1000"], {"missing": ["1.000", "k"], "decimal": ",", "thousands": ".", "strip": True}),
    ("boolean", ["false", "true"], {"missing": ["7", "unknown"]}),
]
CELLS: list[str] = [
    cell for cells in json.loads(Path(__file__).with_suffix(".json").read_text()).values() for cell in cells
]
VALUES = (
    None,
    True,
    False,
    0,
    1,
    2,
    7,
    7.0,
    -1,
    -999,
    -999.0,
    -999.5,
    16,
    2.5,
    5,
    5.0,
    1000,
    1e3,
    1e300,
    2**53 - 1,
    -2208988800,
    [],
    {},
    [1],
)
LONG_VALUES = (2**53, 2**53 + 1, -(2**53) - 1, 2**63, 10**30, 10**400)
ALPHABETS = (
    "0123456789",
    "0123",
    ",.'_ ",
    ",.",
    "+-",
    "eE",
    "$€% kg",
    "\u00a0\u202f\t ",
    "xX",
    "nNaAiIfF",
    "\u0661\u0130",
)
RANDOM_CELLS = 250  # for each feature


def signature() -> Signature:
    """Return a signature with a feature for each rule and type, for each of the rules of numbers also one that is never missing."""
    inputs: list[dict[str, Any]] = []
    for rule in NUMBER_RULES:
        inputs += [
            {"kind": "numeric", "value_type": value_type, "missing": True, "text_rule": rule}
            for value_type in ("float", "boolean")
        ]
        inputs.append({"kind": "numeric", "value_type": "integer", "missing": False, "text_rule": rule})
    inputs += [{"kind": "date", "value_type": "date", "missing": True, "text_rule": rule} for rule in DATE_RULES]
    inputs.append({"kind": "date", "value_type": "date", "missing": False, "text_rule": DATE_RULES[2]})
    for value_type, categories, rule in CATEGORY_RULES:
        feature = {"kind": "categorical", "value_type": value_type, "categories": categories}
        inputs += [{**feature, "missing": missing, "text_rule": rule} for missing in (True, False)]
    inputs += [
        {"kind": "numeric", "value_type": "float", "missing": True},
        {"kind": "date", "value_type": "date", "missing": True},
        {"kind": "categorical", "value_type": "string", "missing": True, "categories": ["NA", ""]},
        {"kind": "categorical", "value_type": "integer", "missing": True, "categories": ["9007199254740993"]},
    ]
    return Signature.model_validate(
        {"inputs": [{"name": f"f{place}", **each} for place, each in enumerate(inputs)], "target": "y"}
    )


def values_of(place: int) -> list[Any]:
    """Return the values that the feature at this place is asked for: the hard ones, random texts, and numbers as its rule has them."""
    draw, rule = random.Random(place), signature().inputs[place].text_rule or TextRule()
    texts = [
        "".join(draw.choice(draw.choice(ALPHABETS)) for _ in range(draw.randint(1, 9))) for _ in range(RANDOM_CELLS)
    ]
    return [*CELLS, *texts, *(_number(draw, rule) for _ in range(RANDOM_CELLS)), *VALUES, *LONG_VALUES]


def _number(draw: random.Random, rule: TextRule) -> str:
    """Return digits with separators, a sign, a fraction, an exponent and an affix, mostly as the rule has them."""
    thousands = rule.thousands if draw.random() < 0.8 else draw.choice(",.'_ ")
    decimal = rule.decimal if draw.random() < 0.9 else draw.choice(",.")
    whole = f"{draw.randrange(10 ** draw.randint(1, 12)):,}".replace(",", thousands)
    fraction = draw.choice(["", "", decimal, f"{decimal}{draw.randrange(10**6)}"])
    exponent = draw.choice(["", "", "", f"e{draw.randint(-40, 40)}"])
    affixes = [draw.choice(["", "", draw.choice(rule.affixes or ("$",)), " "]) for _ in range(2)]
    return f"{draw.choice(['', '-', '+'])}{affixes[0]}{whole}{fraction}{exponent}{affixes[1]}"


class ServiceReader:
    """The service's reading of the values of one feature."""

    def __init__(self, feature: Feature) -> None:
        """Prepare the encoder of a row with this feature alone."""
        self._is_code = feature.kind == "categorical"
        self._encoder = Encoder(Signature(inputs=(feature,), target="y"))

    def result(self, value: Any) -> str:
        """Return the bits of the float64, or the code; or `refused: ` and the sentence."""
        encoded = self._encoder.encode_rows([[value]])
        if encoded.errors:
            return f"refused: {encoded.errors[0].message}"
        numeric, codes = encoded.arrays
        return str(int(codes[0, 0])) if self._is_code else bits_of(float(numeric[0, 0]))  # type: ignore[index]


def bits_of(number: float) -> str:
    """Return the 16 hex digits of a float64; all NaN are one."""
    return "7ff8000000000000" if math.isnan(number) else struct.pack(">d", number).hex()
