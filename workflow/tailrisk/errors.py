"""The one exception that stands for a user's mistake or a broken input."""


class UserError(Exception):
    """One clear sentence: what is wrong, where, and what to do. The CLI prints it without a traceback."""
