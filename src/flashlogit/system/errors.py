"""The one exception that means "the user can mend this", and its exit code."""

from __future__ import annotations


class UserError(Exception):
    """A setting, file or value that cannot be used.

    Its message is one sentence that names the setting or file, the value, the bound and the remedy. The command line
    prints it without a traceback (unless asked with ``--debug``) and exits with code 2.
    """
