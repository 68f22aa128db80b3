"""The operational log: one JSON object a line on standard error, or plain lines for a person at a terminal."""

import logging
import sys
import warnings
from typing import Literal

import structlog

HANDLER_NAME = "mmf-node"
"""Of what writes the lines of libraries."""


def configure_log(style: Literal["json", "plain"] = "json", level: int = logging.INFO) -> None:
    """Sets the form of the log for this process, that of the libraries too.

    pydicom is silenced: its warnings quote the value that they are about, which may be a birth date or a name.

    Args:
        style: ``json`` for a service, ``plain`` for a person.
        level: lowest level that is written, of ``logging``.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    common: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _adopt_libraries(common, renderer)


def _adopt_libraries(common: list[structlog.types.Processor], renderer: structlog.types.Processor) -> None:
    """Gives what libraries log and warn of the same form, so that every line of the log can be read by a program."""
    root = logging.getLogger()
    for handler in [one for one in root.handlers if one.name == HANDLER_NAME]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(HANDLER_NAME)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
