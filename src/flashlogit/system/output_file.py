"""The same as `flashlogit.system.files.require_output`."""  # until merged

from .files import require_output as require_output
