"""Which cases of a large matrix `make test` runs: chosen by their parameters, the same ones each time.

`make test` runs the sample, `make test-all` runs every case. Where the mark says `gate`, `--cases rest`, which the gate
runs, has a larger sample, of at most so many, and `make torture` has the others. A sample is made as follows:

- three parameters or more: each pair of values of any two parameters occurs (pairwise);
- two parameters: each value occurs, with two values of the other one if there are as many;
- one parameter: every value, since there is nothing to pair;
- where that gives more cases than `most`, an even spread of them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

MOST = 1
TWICE = 2

Case = Mapping[str, object]  # the values by the names of their parameters


def choose(cases: Mapping[str, Case], most: int = MOST) -> set[str]:
    """Return the ids of the cases in the sample; `cases` holds all cases of one function by their ids."""
    wanted = _wanted(cases)
    chosen: list[str] = []
    left = dict.fromkeys(sorted(cases, key=_shuffled))
    while left and wanted.total():
        best = max(left, key=lambda name: sum(1 for part in _parts(cases[name]) if wanted[part] > 0))
        del left[best]
        chosen.append(best)
        wanted.subtract(part for part in _parts(cases[best]) if wanted[part] > 0)
    order = {name: index for index, name in enumerate(cases)}
    return set(_spread(sorted(chosen, key=order.__getitem__), most))


def _wanted(cases: Mapping[str, Case]) -> Counter[object]:
    """Count how often each part of a case should occur: a pair of values, or a value."""
    occurring: defaultdict[object, int] = defaultdict(int)
    for case in cases.values():
        for part in _parts(case):
            occurring[part] += 1
    axes = max((len(case) for case in cases.values()), default=0)
    often = TWICE if axes == TWICE else 1
    return Counter({part: min(often, times) for part, times in occurring.items()})


def _parts(case: Case) -> Iterable[object]:
    values = sorted((name, repr(value)) for name, value in case.items())
    return itertools.combinations(values, 2) if len(values) > 2 else values


def _shuffled(name: str) -> str:
    """Return a sort key that shuffles names, the same way each time."""
    return hashlib.sha256(name.encode()).hexdigest()


def _spread(names: list[str], most: int) -> list[str]:
    if len(names) <= most:
        return names
    step = (len(names) - 1) / max(1, most - 1)
    return [names[round(index * step)] for index in range(most)]
