"""Marble diagrams of the documentation, replayed in virtual time.

A diagram is a fenced block of rows ``label > cells``. A cell is a hundredth of a second: ``-`` when
nothing happens, else what happens in it, in order. The first row is what goes in: ``source`` an
observable of events, ``queries`` and ``lessons`` what a memory's pipeline is given, ``ask`` one
interaction. Rows with a ``!`` do what their label says, at that time. The others are what comes
out of the operators, or the expression, in their label.

Events are letters of the grammar, small ones for a second interaction. Further ``a b c`` text,
``2`` a token with the text of two, ``B`` bytes, ``G`` a gap, ``I i`` streams of interactions,
``|`` the end and ``#`` an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reactivex.scheduler import VirtualTimeScheduler
from reactivex.subject import Subject

import rxstream
from rxstream import AnswerCompleted, CompletedInteraction, Gap, Timeouts, Token, operators
from rxstream.events import LETTERS
from rxstream.testing import FakeModel, Lab, spell

FRAME = 0.01
NAMES = {name: getattr(operators, name) for name in operators.__all__}
NAMES |= {"AnswerCompleted": AnswerCompleted, "Timeouts": Timeouts, "rxstream": rxstream}


@dataclass
class Diagram:
    """The rows of one block, and what really happens."""

    rows: list[tuple[str, list[str]]]
    names: dict[str, Any] = field(default_factory=lambda: dict(NAMES))

    @classmethod
    def parse(cls, block: str) -> Diagram:
        rows = [line.split(" > ", 1) for line in block.splitlines() if line.strip()]
        return cls([(label.strip(), cells.split()) for label, cells in rows])

    def replay(self) -> list[tuple[str, list[str]]]:
        """The same rows as they come out of the real operators."""
        (kind, given), *others = self.rows
        actions = [row for row in others if "!" in row[1]]
        wanted = [label for label, cells in others if "!" not in cells]
        run = _Events if kind == "source" else _Memory
        width = max(len(cells) for _, cells in self.rows)
        timeline = run(self, kind, wanted).play(given, actions, width)
        shown = iter(timeline)
        return [
            (label, cells if (label, cells) in [(kind, given), *actions] else next(shown))
            for label, cells in self.rows
        ]


class _Timeline:
    """Cells that fill as time goes by."""

    def __init__(self, now) -> None:
        self.cells: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self._now = now

    def put(self, shown: str) -> None:
        frame = round(self._now() / FRAME)
        self.cells[frame] = self.cells.get(frame, "") + shown

    def watch(self, stream: Any, **options: Any) -> Any:
        return stream.subscribe(
            lambda item: self.put(self.show(item)),
            lambda error: self.put("#"),
            lambda: self.put("|"),
            **options,
        )

    def show(self, item: Any) -> str:
        if isinstance(item, str | bytes | Gap):
            return item if isinstance(item, str) else "G" if isinstance(item, Gap) else "B"
        if not hasattr(item, "interaction"):
            return "Ii"[self.ids.setdefault(str(id(item)), len(self.ids))]
        number = self.ids.setdefault(item.interaction, len(self.ids))
        letter = LETTERS[item.kind] if hasattr(item, "kind") else "A"
        if isinstance(item, Token) and len(item.text) > 1:
            return str(len(item.text))
        return letter.lower() if number else letter

    def row(self, width: int) -> list[str]:
        return [self.cells.get(frame, "-") for frame in range(width)]


class _Events:
    """Operators on a stream of events that are spelled."""

    def __init__(self, diagram: Diagram, kind: str, wanted: list[str]) -> None:
        self.clock = VirtualTimeScheduler()
        self.subject: Subject[Any] = Subject()
        self.lines = [_Timeline(lambda: self.clock.clock) for _ in wanted]
        self.readers = []
        for label, line in zip(wanted, self.lines, strict=True):
            if label in ("I", "i"):
                continue
            out = self.subject.pipe(*eval(f"({label},)", diagram.names))
            if any(cells.count("!") for _, cells in diagram.rows):
                self.readers.append((out.blocking(), line))
            elif "per_interaction" in label:
                line.watch(out)
                inner = iter(self.lines[1:])
                out.subscribe(lambda stream, inner=inner: self._inner(stream, next(inner)))
            else:
                line.watch(out, scheduler=self.clock)

    def _inner(self, stream: Any, line: _Timeline) -> None:
        line.ids = {"i1": 0, "i2": 1}
        line.watch(stream)

    def play(self, given: list[str], actions: list[Any], width: int) -> list[list[str]]:
        events = _Speller()
        for frame, cell in enumerate(given):
            for mark in cell.replace("-", ""):
                self._at(frame, lambda mark=mark: self._emit(events, mark))
        for _, cells in actions:
            for frame, cell in enumerate(cells):
                if cell == "!":
                    self._at(frame, self._read)
        self.clock.advance_to(width * FRAME)
        return [line.row(width) for line in self.lines]

    def _at(self, frame: int, action: Any) -> None:
        self.clock.schedule_absolute(frame * FRAME, lambda *_: action())

    def _emit(self, events: _Speller, mark: str) -> None:
        if mark == "|":
            self.subject.on_completed()
        elif mark == "#":
            self.subject.on_error(RuntimeError("over"))
        else:
            self.subject.on_next(events.spell(mark))

    def _read(self) -> None:
        for reader, line in self.readers:
            try:
                line.put(line.show(next(reader)))
            except StopIteration:
                line.put("|")
            except rxstream.errors.SlowSubscriberError:
                line.put("#")


class _Speller:
    """Events of at most two interactions, letter by letter."""

    def __init__(self) -> None:
        self.words, self.seq = {"i1": "", "i2": ""}, 0

    def spell(self, mark: str) -> Any:
        name = "i1" if mark.isupper() else "i2"
        self.words[name] += mark.upper()
        self.seq += 1
        return spell(self.words[name], name, seq=self.seq - len(self.words[name]) + 1)[-1]


class _Memory:
    """A memory behind a fake model: a token takes a frame, an update as well."""

    def __init__(self, diagram: Diagram, kind: str, wanted: list[str]) -> None:
        self.kind = kind
        self.lab = Lab(choose=lambda ready: ready - 1)  # clock and store before the next token
        model = FakeModel(answer=lambda query, memory: list("abcd" if query == "more" else "ab"))
        model.cost("step", FRAME)
        model.cost("encode", FRAME)
        self.runtime = self.lab.runtime(model)
        isolation = "snapshot" if any("parallel" in label for label in wanted) else "serial"
        memory = self.runtime.memory("m", isolation=isolation)
        self.names = diagram.names | {"memory": memory, "chat": memory.conversation("chat")}
        self.line, self.subject = _Timeline(lambda: self.lab.time), Subject()
        [self.label] = wanted
        if kind != "ask":
            self.line.watch(self.subject.pipe(*eval(f"({self.label},)", self.names)))

    def play(self, given: list[str], actions: list[Any], width: int) -> list[list[str]]:
        due = [(frame, mark, None) for frame, cell in enumerate(given) for mark in cell]
        due += [(n, c, label) for label, cells in actions for n, c in enumerate(cells)]
        due = sorted((item for item in due if item[1] != "-"), key=lambda item: item[0])
        while due or self.lab.time < width * FRAME:
            if due and self.lab.time >= due[0][0] * FRAME - 1e-9:
                self._give(*due.pop(0)[1:])
            elif not self.lab.step():
                self.lab.advance(FRAME)
        self.runtime.close()
        return [self.line.row(width)]

    def _give(self, mark: str, action: str | None) -> None:
        if action is not None:
            eval(action, self.names)
        elif mark == "|":
            self.subject.on_completed()
        elif self.kind == "ask":
            self.names["it"] = eval(self.label, self.names)
            self.names["subscription"] = self.line.watch(self.names["it"])
        elif self.kind == "lessons":
            self.subject.on_next(CompletedInteraction(query=mark, answer="yes"))
        else:
            self.subject.on_next(mark)
