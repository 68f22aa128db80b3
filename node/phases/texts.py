"""Reads what texts in many languages say about the contrast phase."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from engines.phase import Phase
from node.phases.rules import OTHER, STATES, PhaseRules, Says, Strength, Words
from node.phases.timing import injection_likelihood

_SEPARATOR = r"[\s\-_/.,:;()\[\]]+"
_LETTERS = {"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"}
"""Latin letters that Unicode does not decompose."""
_JOINED_WORDS = re.compile(r"(?<=[a-zà-öø-ÿ])(?=[A-ZÀ-ÖØ-Ý][^\W\d_]{2})")
"""Where scanners join words by a capital: ``PortVenPhase``; three letters must follow, so that kV, keV, MinIP stay whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReading:
    """What one text says.

    Attributes:
        likelihood: by state, the largest is 1; all 1 when the text says nothing.
        phase: the phase that the text names, None when none or several.
        seconds: the only scan delay that the text names, s.
        words: what was read, for the reasons.
        several: the text names several phases and therefore says nothing.
        both: it says native and enhanced at once.
        reconstruction: the text calls itself a reconstruction.
        source: which text it was.
    """

    likelihood: tuple[float, ...]
    phase: Phase | None = None
    seconds: float | None = None
    words: tuple[str, ...] = ()
    several: bool = False
    both: bool = False
    reconstruction: bool = False
    source: str = "text"

    @property
    def speaks(self) -> bool:
        """Whether the text favours any state."""
        return min(self.likelihood) < 1.0

    @property
    def bare(self) -> bool:
        """Whether the text has no word about phases at all."""
        return not self.speaks and not self.several


SILENT = TextReading(likelihood=(1.0,) * len(STATES))
"""The reading of an empty text."""


def repair_text(text: str) -> str:
    """Returns a text whose bytes are GBK though labelled ISO_IR 100, decoded as GBK; any other text as it is.

    Only for matching: records and results keep the text as it came. Two Chinese characters side by side are asked for, from
    the GB 2312 part of GBK, and no single byte beyond ASCII: umlauts and accents stand alone among Latin letters.
    """
    try:
        raw = text.encode("latin-1")
        repaired = raw.decode("gb2312")
    except UnicodeError:
        return text
    runs = re.findall(rb"[\x80-\xff]+", raw)
    paired = all(len(run) % 2 == 0 for run in runs) and any(len(run) >= 4 for run in runs)
    return repaired if paired else text


def fold_text(text: str) -> str:
    """Returns a text ready for matching: repaired, NFKC, joined words parted, casefolded, no accents, single blanks."""
    text = _JOINED_WORDS.sub(" ", unicodedata.normalize("NFKC", repair_text(text))).casefold()
    text = "".join(
        letter for letter in unicodedata.normalize("NFD", text) if unicodedata.category(letter) != "Mn"
    )
    text = unicodedata.normalize("NFC", "".join(_LETTERS.get(letter, letter) for letter in text))
    return re.sub(r"[\s_^]+", " ", text).strip()


def read_text(text: str, rules: PhaseRules) -> TextReading:
    """Returns what a description says about its phase.

    Args:
        text: Series Description, Protocol Name or the like, as decoded from the header.
        rules: the words and their strengths.
    """
    return _read_folded(fold_text(text), _Lexicon(rules)) if text.strip() else SILENT


def read_study_text(text: str, rules: PhaseRules) -> TextReading:
    """Returns what the description of a whole study says of a pass whose own texts say nothing; ``both``: of the first alone.

    Args:
        text: Study Description.
        rules: the words, and how far they are believed.
    """
    reading = read_text(text, rules)
    if reading.phase != Phase.PRE_CONTRAST and not reading.both:
        return SILENT
    likelihood = tuple(1.0 if state == Phase.PRE_CONTRAST.value else rules.study.doubt for state in STATES)
    return replace(
        reading, likelihood=likelihood, phase=Phase.PRE_CONTRAST, several=False, source="study description"
    )


def matches_words(folded: str, words: Words) -> bool:
    """Returns whether any word, part or pattern occurs in a folded text."""
    expression = _compile(words)
    return expression is not None and expression.search(folded) is not None


class _Lexicon:
    """A set of rules as a key of caches: the same object is the same lexicon."""

    __slots__ = ("rules",)

    def __init__(self, rules: PhaseRules) -> None:
        self.rules = rules

    def __hash__(self) -> int:
        return id(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Lexicon) and other.rules is self.rules


class _Kind(StrEnum):
    """What the words of an entry do."""

    SAYS = "says"
    ENHANCED = "enhanced"
    BOTH = "both"
    SEVERAL = "several"
    SILENT = "silent"


@lru_cache(maxsize=8)
def _entries(lexicon: _Lexicon) -> tuple[tuple[re.Pattern[str], _Kind, Words], ...]:
    """Expressions, what they do, and their entries.

    Group 1 is what was found; the expressions look ahead, so that a long word is found that begins inside a short one.
    """
    text = lexicon.rules.text
    every: list[tuple[_Kind, Words]] = [(_Kind.SAYS, entry) for entry in text.says]
    every += [(_Kind.ENHANCED, entry) for entry in text.enhanced]
    every += [(_Kind.BOTH, entry) for entry in text.both]
    every += [(_Kind.SEVERAL, entry) for entry in text.several]
    every += [(_Kind.SILENT, entry) for entry in text.silent]
    return tuple(
        (re.compile(f"(?=({choice}))"), kind, entry) for kind, entry in every if (choice := _choices(entry))
    )


@lru_cache(maxsize=8)
def _numbers(lexicon: _Lexicon) -> re.Pattern[str]:
    """The expression of numbers followed by a word of time: ``70s``, ``3 min``, ``30 70 120 sec``, ``35"``."""
    text = lexicon.rules.text
    seconds = "|".join(sorted(map(re.escape, text.second_words), key=len, reverse=True))
    minutes = "|".join(sorted(map(re.escape, text.minute_words), key=len, reverse=True))
    return re.compile(
        rf"(?<![a-z0-9_.])(?P<numbers>\d{{1,4}}(?:[\s,/+&-]+\d{{1,4}})*)\s*-?\s*(?:(?P<second>{seconds}|\")|(?P<minute>{minutes}|'))"
        r"(?![a-z0-9а-я])"
    )


@lru_cache(maxsize=512)
def _compile(words: Words) -> re.Pattern[str] | None:
    """Returns one expression for whole words, parts of words and patterns; None when there are none."""
    choices = _choices(words)
    return re.compile(choices) if choices else None


def _choices(words: Words) -> str:
    """The alternatives of an expression: whole words, the longest first, parts of words, patterns; "" when there are none."""
    choices = [rf"(?<![a-z0-9]){_flexible(word)}(?![a-z0-9])" for word in _longest_first(words.words)]
    choices += [_flexible(part) for part in _longest_first(words.parts)]
    choices += list(words.patterns)
    return "|".join(f"(?:{choice})" for choice in choices)


def _longest_first(words: Iterable[str]) -> list[str]:
    """Words folded and sorted so that the longest is tried first."""
    return sorted({fold_text(word) for word in words}, key=lambda word: (-len(word), word))


def _flexible(word: str) -> str:
    """A word in which a blank stands for any separators."""
    return _SEPARATOR.join(re.escape(part) for part in word.split(" "))


@dataclass(slots=True)
class _Found:
    """What the words of one text said so far."""

    says: list[Says] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    others: dict[_Kind, list[str]] = field(default_factory=lambda: defaultdict(list))
    seconds: set[float] = field(default_factory=set)


@lru_cache(maxsize=4096)
def _read_folded(folded: str, lexicon: _Lexicon) -> TextReading:
    """Reads a folded text: times first, then the longest words, each place once."""
    rules = lexicon.rules
    found = _Found()
    rest = _take_times(folded, lexicon, found)
    spans = [
        (*match.span(1), kind, entry)
        for expression, kind, entry in _entries(lexicon)
        for match in expression.finditer(rest)
        if match.end(1) > match.start(1)
    ]
    taken: list[tuple[int, int]] = []
    for start, end, kind, entry in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if any(start < other_end and end > other_start for other_start, other_end in taken):
            continue
        taken.append((start, end))
        if isinstance(entry, Says):
            found.says.append(entry)
            found.words.append(rest[start:end].strip())
        else:
            found.others[kind].append(rest[start:end].strip())
    reconstruction = matches_words(folded, Words(words=rules.text.reconstruction_words))
    return _conclude(found, rules, reconstruction=reconstruction)


def _take_times(folded: str, lexicon: _Lexicon, found: _Found) -> str:
    """Collects scan delays and returns the text with them blanked."""
    text = lexicon.rules.text
    pieces = []
    end = 0
    for match in _numbers(lexicon).finditer(folded):
        factor = 60.0 if match.group("minute") else 1.0
        numbers = [factor * int(number) for number in re.findall(r"\d+", match.group("numbers"))]
        values = [number for number in numbers if text.shortest_seconds <= number <= text.longest_seconds]
        if not values:
            continue
        found.seconds.update(values)
        found.words.append(match.group(0).strip())
        pieces += [folded[end : match.start()], " " * (match.end() - match.start())]
        end = match.end()
    return "".join(pieces) + folded[end:]


def _conclude(found: _Found, rules: PhaseRules, *, reconstruction: bool) -> TextReading:
    """Weighs what was found."""
    words = tuple(dict.fromkeys(found.words))
    if len(found.seconds) > 1:
        return TextReading(
            likelihood=SILENT.likelihood, words=words, several=True, reconstruction=reconstruction
        )
    if found.seconds:
        (seconds,) = found.seconds
        return _conclude_seconds(seconds, found, rules, words, reconstruction)
    strengths = {phase: _strength(found.says, phase) for phase in {entry.phase for entry in found.says}}
    strongest = min(strengths.values(), default=Strength.HINT, key=list(Strength).index)
    phases = [
        phase for phase, strength in strengths.items() if strength == strongest or strength != Strength.HINT
    ]
    native_and_more = Phase.PRE_CONTRAST in phases and (len(phases) > 1 or bool(found.others[_Kind.ENHANCED]))
    if len(phases) > 1 or native_and_more:
        named = words if len(phases) > 1 else words + tuple(dict.fromkeys(found.others[_Kind.ENHANCED]))
        return TextReading(
            likelihood=SILENT.likelihood,
            words=named,
            several=True,
            both=native_and_more,
            reconstruction=reconstruction,
        )
    if phases:
        doubt = {
            Strength.PLAIN: rules.text.plain,
            Strength.DOUBTFUL: rules.text.doubtful,
            Strength.HINT: rules.text.hint,
        }
        never = {phase for entry in found.says if entry.phase == phases[0] for phase in entry.against}
        floors = {OTHER: max(doubt[strongest], rules.text.other)} | dict.fromkeys(never, rules.text.plain)
        likelihood = tuple(
            1.0 if state == phases[0].value else floors.get(state, doubt[strongest]) for state in STATES
        )
        return TextReading(likelihood=likelihood, phase=phases[0], words=words, reconstruction=reconstruction)
    if found.others[_Kind.ENHANCED]:
        against = tuple(rules.text.doubtful if state == Phase.PRE_CONTRAST.value else 1.0 for state in STATES)
        return TextReading(likelihood=against, words=("enhanced",), reconstruction=reconstruction)
    many = (*found.others[_Kind.BOTH], *found.others[_Kind.SEVERAL])
    return TextReading(
        likelihood=SILENT.likelihood,
        words=tuple(dict.fromkeys(many)),
        several=bool(many),
        both=bool(found.others[_Kind.BOTH]),
        reconstruction=reconstruction,
    )


def _conclude_seconds(
    seconds: float, found: _Found, rules: PhaseRules, words: tuple[str, ...], reconstruction: bool
) -> TextReading:
    """Weighs one named scan delay; a phase word beside it must not contradict."""
    raw = injection_likelihood(seconds, rules.injection)
    top = max(raw[:-1])
    likelihood = [max(value / top, rules.text.plain) for value in raw[:-1]] + [
        max(rules.text.plain, rules.text.other)
    ]
    phase = Phase(STATES[max(range(len(likelihood)), key=likelihood.__getitem__)])
    named = {
        entry.phase
        for entry in found.says
        if entry.strength == Strength.PLAIN and entry.phase != Phase.DELAYED
    }
    if named - {phase}:
        return TextReading(
            likelihood=SILENT.likelihood, words=words, several=True, reconstruction=reconstruction
        )
    return TextReading(
        likelihood=tuple(likelihood), phase=phase, seconds=seconds, words=words, reconstruction=reconstruction
    )


def _strength(says: list[Says], phase: Phase) -> Strength:
    """The greatest strength with which a phase is named."""
    return min((entry.strength for entry in says if entry.phase == phase), key=list(Strength).index)
