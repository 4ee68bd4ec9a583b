"""The service object that every handler gets: the world, its options, and its observers."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from fake_aihub.controls.coverage import Coverage
from fake_aihub.controls.faults import Faults
from fake_aihub.controls.journal import SIZE as JOURNAL_SIZE
from fake_aihub.controls.journal import Exchange, Journal
from fake_aihub.controls.options import RANGES, check_options
from fake_aihub.extraction import Extraction
from fake_aihub.world.clock import Clock, parse_clock
from fake_aihub.world.entities import ApiError
from fake_aihub.world.world import World

OWN = {"clock"}  # here it is a Clock, not a name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All mutable state as bytes, so that later changes cannot affect it."""

    world: tuple[bytes, int]
    faults: bytes
    offset_s: float
    journal_total: int
    second: tuple[int, int]


@dataclass(slots=True)
class Service:
    """One fake AI Hub. Times are in seconds, sizes in bytes.

    `strict` rejects parameters and properties that the API description does not name. `cors` is the origin that may
    send requests from a browser, and `allowed_hosts` are further names of this machine, for the controls. Each of
    `watchers` is called with every exchange when it ends. Raises OptionError for a value out of range.
    """

    clock: Clock
    world: World
    faults: Faults = field(default_factory=Faults)
    extraction: Extraction = field(default_factory=Extraction)
    run_seconds: float = 0.0
    latency_ms: float = 0.0
    page_files: int = 100
    part_size: int = 10_485_760
    requests_per_s: int = 0
    any_token: bool = False
    journal_size: int = JOURNAL_SIZE
    strict: bool = False
    allow_webhooks: bool = False
    cors: str = ""
    allowed_hosts: tuple[str, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    watchers: list[Callable[[Exchange], None]] = field(default_factory=list)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    journal: Journal = field(init=False)
    webhook_task: asyncio.Task[None] | None = None
    _second: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_options({one.name: getattr(self, one.name) for one in fields(self) if one.name in RANGES.keys() - OWN})
        self.journal = Journal(self.clock, self.journal_size)

    def take_checkpoint(self, name: str = "") -> str:
        """Save a checkpoint of the current state and return its name. The default name is generated."""
        name = name or f"checkpoint-{len(self.checkpoints) + 1}"
        self.checkpoints.pop(name, None)
        self.checkpoints[name] = Checkpoint(
            self.world.snapshot(),
            pickle.dumps(self.faults.scripts),
            self.clock.offset_s,
            self.journal.total,
            self._second,
        )
        return name

    def rewind(self, name: str = "") -> str:
        """Rewind to a checkpoint, by default the last one, and remove later ones. Raises ApiError 404."""
        names = list(self.checkpoints)
        name = name or (names[-1] if names else "")
        if name not in names:
            raise ApiError(404, f"Unknown checkpoint {name!r}; existing: {', '.join(names) or 'none'}.")
        for later in names[names.index(name) + 1 :]:
            del self.checkpoints[later]
        kept = self.checkpoints[name]
        self.world.restore(*kept.world)
        self.faults.scripts[:] = pickle.loads(kept.faults)
        self.faults.late.clear()
        self.clock.offset_s = kept.offset_s
        self.journal.rewind(kept.journal_total)
        self._second = kept.second
        return name

    def check_rate(self) -> None:
        """Count a request. Raises ApiError 429 if it exceeds the rate limit."""
        now = int(self.clock.now_s())
        second, count = self._second
        self._second = (now, count + 1 if second == now else 1)
        if self.requests_per_s and self._second[1] > self.requests_per_s:
            raise ApiError(429, "Too many requests.", {"Retry-After": "1"})


def make_service(
    data_dir: str | Path | None = None,
    clock: str = "real",
    seed: int = 0,
    faults: Path | None = None,
    scenarios: str | Path | None = None,
    fixtures: str | Path | None = None,
    **behaviour: Any,
) -> Service:
    """Return a service with these options. Raises OptionError, ScenarioError, FolderInUseError, and OSError."""
    # Check before opening anything.
    check_options({"data_dir": data_dir, "scenarios": scenarios, "fixtures": fixtures, "clock": clock, **behaviour})
    time = parse_clock(clock)
    folder, *own = (None if path is None else Path(path) for path in (data_dir, scenarios, fixtures))
    extraction = Extraction(*own)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    service = Service(time, World(time, folder), extraction=extraction, **behaviour)
    if seed != service.world.seed:
        service.world.set_seed(seed)
    if faults is not None:
        service.faults.load(faults)
    return service


def answer(status: int, body: Any) -> Response:
    """Return a JSON response."""
    return JSONResponse(body, status)
