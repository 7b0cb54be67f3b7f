"""``python -m backend.cli``: the same as ``tanhui``."""

from backend.cli import main

main()
