"""The one exception that means "the user can mend this"."""

from __future__ import annotations

from typing import Any, Final

UNSAID: Final = object()
"""The value of an error that is about no value."""


class UserError(Exception):
    """A setting, file or value that cannot be used.

    Its fields say what is wrong; its text is one sentence made from them. The command line prints it without a
    traceback (unless asked with ``--debug``) and exits with code 2.

    Attributes:
        problem: what is wrong or the bound, such as "must be at least 0"; a whole sentence where nothing is named.
        setting: the setting, option, column or file at fault, such as "loss.l2"; "" where the problem names it.
        value: what it is, as it was given (text appears in quotes); `UNSAID` where there is no one value.
        remedy: what to do, such as "choose another file"; "" where the problem says it.
    """

    def __init__(self, problem: str, *, setting: object = "", value: Any = UNSAID, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.setting, self.value, self.remedy = problem, str(setting), value, remedy

    def __str__(self) -> str:
        """Return `SETTING is VALUE; PROBLEM; REMEDY`, or `SETTING: PROBLEM; REMEDY` where there is no value."""
        value = f'"{self.value}"' if isinstance(self.value, str) else self.value
        said = self.value is not UNSAID
        head = f"{self.setting} is {value}; " if said else f"{self.setting}: " if self.setting else ""
        return head + self.problem + (f"; {self.remedy}" if self.remedy else "")
