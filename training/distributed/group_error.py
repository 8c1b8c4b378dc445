"""The one error of the processes of a run, apart from what loads torch."""


class GroupError(Exception):
    """The processes cannot go on together; the message is one sentence."""
