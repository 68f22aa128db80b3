"""Reads single values as DICOM writes them: texts, dates, times, moments, numbers; what does not fit is None."""

import math
from collections.abc import Iterable
from datetime import date, datetime, timedelta

GB_2312_DESIGNATION = "\x1b$)A"
"""Escape sequence that begins a text in ISO 2022 IR 58. Source: PS3.3 table C.12-4."""


def drop_designations(text: str) -> str:
    """Returns a decoded text without the escape sequences that pydicom leaves in it for ISO 2022 IR 58 (Chinese)."""
    return text.replace(GB_2312_DESIGNATION, "")


def parse_date(text: str) -> date | None:
    """Returns a DA value (``YYYYMMDD`` or the older ``YYYY.MM.DD``), None when it is no date.

    Source: PS3.5 Table 6.2-1.
    """
    digits = text.replace(".", "").replace("-", "").strip()
    if len(digits) != 8 or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def parse_time(text: str) -> float | None:
    """Returns a TM value (``HH``, ``HHMM``, ``HHMMSS[.F]``, or the older form with colons) as seconds after midnight.

    Source: PS3.5 Table 6.2-1 (second 60 is a leap second).
    """
    whole, _, fraction = text.replace(":", "").strip().partition(".")
    if len(whole) not in (2, 4, 6) or not whole.isdigit() or (fraction and not fraction.isdigit()):
        return None
    hours, minutes, seconds = (int(whole[start : start + 2] or 0) for start in (0, 2, 4))
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return hours * 3600 + minutes * 60 + seconds + (float(f"0.{fraction}") if fraction else 0.0)


def parse_datetime(text: str) -> datetime | None:
    """Returns a DT value on the scanner's clock (an offset from UTC is dropped), None unless it holds date and time.

    Source: PS3.5 Table 6.2-1.
    """
    for sign in "+-":
        text = text.partition(sign)[0]
    day, seconds = parse_date(text[:8]), parse_time(text[8:])
    if day is None or seconds is None:
        return None
    return datetime.combine(day, datetime.min.time()) + timedelta(seconds=seconds)


def parse_numbers(texts: Iterable[str]) -> tuple[float, ...] | None:
    """Returns decimal strings as finite numbers, None when one is not."""
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
