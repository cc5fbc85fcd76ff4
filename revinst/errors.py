"""The one error that a user can cause and fix."""


class UserError(ValueError):
    """A mistake in a config, file or command line: one line that says what, where and what to do.

    The `revinst` command prints it without a traceback and exits with status 2.
    """


class NotInstalled(UserError):
    """A file needs an optional library: nothing else of the input is worth reading before that is there."""

    def __init__(self, path: object, library: str):
        super().__init__(f"{path}: reading it needs {library}: pip install 'revinst[own]'")
