"""A person's name as a reader expects it, from DICOM's component groups."""

_SEPARATOR = "^"
_GROUP = "="


def name_groups(patient_name: str) -> tuple[str, ...]:
    """Returns the component groups of a name as they are read: alphabetic, ideographic, phonetic.

    Args:
        patient_name: e.g. ``Wang^XiaoDong=王^小东``; may be empty.

    Returns:
        ``("Wang, XiaoDong", "王 小东")``; empty groups are left out, no letter is lost.

    Source: PS3.5 section 6.2.1 (Person Name value representation).
    """
    groups = patient_name.split(_GROUP)
    shown = [_alphabetic(groups[0]), *(" ".join(_components(group)) for group in groups[1:])]
    return tuple(words for words in shown if words)


def _alphabetic(group: str) -> str:
    """Family, prefix given middle suffix."""
    parts = [part.strip() for part in group.split(_SEPARATOR)] + [""] * 5
    family, given, middle, prefix, suffix, *rest = parts
    others = " ".join(part for part in (prefix, given, middle, suffix, *rest) if part)
    return ", ".join(part for part in (family, others) if part)


def _components(group: str) -> list[str]:
    return [part.strip() for part in group.split(_SEPARATOR) if part.strip()]
