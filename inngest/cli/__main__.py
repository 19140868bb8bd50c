"""``python -m inngest.cli``."""

from __future__ import annotations

from inngest.cli import main

main()
