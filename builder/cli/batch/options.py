"""What the commands ``batch`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BatchArgument = Annotated[Path, typer.Argument(metavar="B", help="The batch's folder, as batch plan made it.")]
