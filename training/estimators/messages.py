"""What the command calls a flag is a parameter of the estimators: their messages say so."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import SettingError, Settings, flag

PARAMETERS = {flag(entry.name): entry.name for entry in fields(Settings)} | {
    "--seed": "random_state",
    **dict.fromkeys(("--increasing", "--decreasing"), "monotonic_cst"),
}
FLAG = re.compile(r"(?<![\w'\"-])--[a-z][a-z-]*")
OF_THE_COMMAND = ("--numeric", "--text", "--missing", "--date-format", "--decimal", "--thousands", "--strip")
CONVERT = " These flags are those of batchproof-train; in a data frame, convert the column instead."
NO_PARAMETER = re.compile(r" with --drop ('[^']*'|\"[^\"]*\")")  # a column is left out of the data frame


@contextmanager
def named() -> Iterator[None]:
    """Raise SettingError and TableError again, with the estimators' parameters in place of the command's flags."""
    try:
        yield
    except (SettingError, TableError) as error:
        raise type(error)(spoken(str(error))) from error


def spoken(message: str) -> str:
    """Return a message about flags as one about parameters; names in quotes stay as they are.

    A message about flags that are no parameters keeps them, and says what to do instead.
    """
    message = NO_PARAMETER.sub("", message)
    if set(FLAG.findall(message)).intersection(OF_THE_COMMAND):
        return message + CONVERT
    return FLAG.sub(lambda match: PARAMETERS.get(match[0], match[0]), message)
