"""Whether the paper's claims hold in these runs: computed from their numbers, never taken for granted."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

from deitlt.reports.comparisons import Comparison, value_text
from deitlt.reports.evidence import Evidence
from deitlt.reports.paper_claims import CLAIMS, Claim

HOLDS: Final = "holds"
IN_PART: Final = "holds in part"
FAILS: Final = "does not hold"
UNKNOWN: Final = "not measured"


@dataclass(frozen=True)
class Finding:
    """A claim beside the numbers. verdict: 'holds', 'holds in part', 'does not hold' or 'not measured'.

    notes: sentences on the runs that were compared.
    """

    claim: Claim
    verdict: str
    numbers: Sequence[str]
    notes: Sequence[str] = ()

    @property
    def slug(self) -> str:
        """The verdict as a name in the page's style."""
        return self.verdict.replace(" ", "-")


def findings(runs: Sequence[Evidence]) -> list[Finding]:
    """Each claim beside the runs of one data set; the seeds of one experiment are told as means."""
    return [_finding(claim, runs) for claim in CLAIMS]


def _finding(claim: Claim, runs: Sequence[Evidence]) -> Finding:
    gathered: dict[tuple[str, ...], list[Comparison]] = {}
    several = len({run.name for run in runs}) > 1
    within = [(run, found) for run in runs for found in (claim.within(run) if claim.within else ())]
    across = list(claim.across(runs)) if claim.across else []
    for run, found in within:
        gathered.setdefault((run.name if several else "", found.what, found.name, found.than_name), []).append(found)
    for found in across:
        gathered.setdefault(("", found.what, found.name, found.than_name), []).append(found)
    every = [found for comparisons in gathered.values() for found in comparisons]
    told: dict[tuple[str, str], list[str]] = {}
    for (name, what, *_), comparisons in gathered.items():
        told.setdefault((name, what), []).append(_in_words(comparisons))
    notes = [note for note in dict.fromkeys(found.note for found in every) if note]
    verdict = _verdict(every)
    if claim.halves and every and not (within and across):
        verdict = IN_PART if verdict == HOLDS else verdict
        notes.append(f"Only one half of it was measured; for the other: {claim.needs}.")
    return Finding(claim, verdict, [_line(*about, words) for about, words in told.items()], notes)


def _line(run: str, what: str, words: Sequence[str]) -> str:
    """'digits, tail accuracy: DIST 80.7 %, CLS 40.7 %, as claimed in 3 of 3 runs'; several about the same in one."""
    return f"{f'{run}, ' if run else ''}{what}: {'; '.join(words)}"


def _verdict(found: Sequence[Comparison]) -> str:
    """A tie may be no worse, but where nothing differs as the paper says, no part of the claim was seen."""
    if not found:
        return UNKNOWN
    if not any(comparison.holds and not comparison.ties for comparison in found):
        return FAILS
    return HOLDS if all(comparison.holds for comparison in found) else IN_PART


def _in_words(found: Sequence[Comparison]) -> str:
    """'DIST 80.7 %, CLS 40.7 %, as claimed'; of several runs the means."""
    first = found[0]
    ours, theirs = mean(c.value for c in found), mean(c.than for c in found)
    held = _counted(found) if len(found) > 1 else _held(first)
    return f"{first.name} {value_text(ours)}{first.unit}, {first.than_name} {value_text(theirs)}{first.unit}{held}"


def _counted(found: Sequence[Comparison]) -> str:
    """A tie that is no worse is not counted among those that are as claimed."""
    claimed = sum(c.holds and not c.ties for c in found)
    ties = f", equal in {equal}" if (equal := sum(c.ties for c in found)) else ""
    return f", as claimed in {claimed} of {len(found)} {found[0].of}{ties}"


def _held(found: Comparison) -> str:
    if found.ties:
        return ", equal, so no worse" if found.tie_holds else ", equal, not as claimed"
    return ", as claimed" if found.holds else ", not as claimed"
