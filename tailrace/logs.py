"""Logging of long-running workers: structlog, one line an event, JSON when standard error is no terminal.

Records of the libraries (Faust, aiokafka, botocore, ...) go through the same formatter. Row values and secrets are
never logged by us; the libraries are kept at WARNING because their INFO lines may quote messages.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(*, verbose: bool = False) -> None:
    """Set up logging of this process, once, from a command that runs a worker."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    last = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tailrace").setLevel(logging.DEBUG if verbose else logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=_Named(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Named:
    """Gives every logger a name under ``tailrace``, whatever module asks."""

    def __call__(self, *_: object) -> logging.Logger:
        return logging.getLogger("tailrace")
