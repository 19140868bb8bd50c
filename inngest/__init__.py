"""A self-hosted durable-function platform for the official Inngest SDKs."""

from __future__ import annotations

__version__ = "0.1.0"
