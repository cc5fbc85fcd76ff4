"""The one error that a user can cause and fix."""


class UserError(ValueError):
    """A mistake in a config, file or command line: one line that says what, where and what to do.

    The `revinst` command prints it without a traceback and exits with status 2.
    """
