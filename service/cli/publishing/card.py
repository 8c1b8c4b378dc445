"""`batchproof card`: a bundle's model card, in Markdown with the metadata that the Hugging Face Hub reads.

  batchproof card models/penguins --intended-use "Teaching" --license apache-2.0 --output README.md

It states the task, the metrics with their intervals, uncertainty, limits, training data and features, all from bundle.json.
Intended use, out-of-scope use, licence and contact are the author's: flags here, or of batchproof-train, which stores them in the
bundle. Equal bundles and flags give equal cards.

Exit status: 0 written; 2 the bundle cannot be read, or the file not written.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.documents.statement import Statement
from batchproof.service.cli.parts.parser import root
from batchproof.service.errors import USAGE, BundleError, printable, reason
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("card", help="write a bundle's model card", description=__doc__)
    parser.add_argument("bundle", type=root, metavar="BUNDLE", help="models/NAME, models/NAME/VERSION, or an address")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the card to a file; replaces one that is there"
    )
    add_statement(parser)
    parser.set_defaults(run=run)


def add_statement(parser: argparse.ArgumentParser) -> None:
    """Add the flags for what only the author knows."""
    group = parser.add_argument_group("what only you know", "a flag has precedence over what the bundle says")
    group.add_argument("--intended-use", metavar="TEXT", default="", help="what the model is for, and for whom")
    group.add_argument("--out-of-scope-use", metavar="TEXT", default="", help="what it must not be used for")
    group.add_argument(
        "--license", "--licence", metavar="LICENSE", default="", help="an identifier such as apache-2.0, or a name"
    )
    group.add_argument("--contact", metavar="TEXT", default="", help="who answers questions about the model")


def statement_of(options: argparse.Namespace) -> Statement:
    """Return what those flags say."""
    return Statement(**{entry.name: getattr(options, entry.name) for entry in fields(Statement)})


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        folder = roots.newest(options.bundle)
        with naming(folder):
            card = model_card(reader.read(folder).manifest, statement_of(options))
        if options.output is None:
            sys.stdout.write(card)
        else:
            options.output.write_text(card, encoding="utf-8", newline="\n")
    except (BundleError, OSError) as error:
        sentence = reason(error)
        print(f"batchproof card: {printable(sentence)}", file=sys.stderr)
        return USAGE
    return 0
