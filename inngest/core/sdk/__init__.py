"""What SDKs say, and what is said to them."""

from __future__ import annotations
