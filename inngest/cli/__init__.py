from __future__ import annotations

def main() -> None:
    raise SystemExit("inngest: the command is not built yet")
