"""Names in quotes, wherever an objective is read. Imports no torch: configs look at objectives too."""

from __future__ import annotations

import re

# The quotes stand where a name can begin and end, so that an apostrophe within a name is none.
QUOTED = re.compile(r"""(?:(?<=^)|(?<=[\s:;*]))(["'])(.*?)\1(?=\s|;|$)""")
