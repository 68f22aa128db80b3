"""The operational log: one JSON object a line on standard error, or plain lines for a person at a terminal."""

import logging
import sys
from typing import Literal

import structlog


def configure_log(style: Literal["json", "plain"] = "json", level: int = logging.INFO) -> None:
    """Sets the form of the log for this process.

    Args:
        style: ``json`` for a service, ``plain`` for a person.
        level: lowest level that is written, of ``logging``.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
