"""The chat in a terminal: a prompt that stays usable while an answer streams above it.

One worker takes the typed lines in order, so that a query or command typed meanwhile waits its
turn. What is over goes to the scrollback as a plain transcript; only the answer under way, the
waiting lines and the status are redrawn.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from rxstream.errors import RxStreamError

from .failure import CommandError, one_line
from .session import LEAVING
from .terminal_text import open_history, printable, wrapped

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples

    from rxstream import Interaction

    from .session import Session

PROMPT = "> "
ANSWERING = "answering… (Ctrl-C stops)"
REMEMBERING = "remembering…"


class Leave(Exception):
    """The prompt was left by /quit, Ctrl-D or a second Ctrl-C."""


def run(chat: Session) -> int:
    """Talk until the user leaves; returns the exit status."""
    print(f"conversation {chat.name!r}, version {chat.memory.version} · /help lists the commands")
    asyncio.run(Terminal(chat).run())
    return 0


class Terminal:
    """The state of the screen, and the two tasks that change it: prompt and worker."""

    def __init__(self, chat: Session) -> None:
        self._chat = chat
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: list[str] = []
        self._current: Interaction | None = None
        self._partial = ""
        self._status = ""
        self._interrupted = False
        self._left = False
        self._prompt: PromptSession[str] = PromptSession(
            self._above_and_prompt,
            key_bindings=self._keys(),
            history=open_history(),
            erase_when_done=True,
        )
        self._prompt.default_buffer.on_text_changed += self._disarm

    async def run(self) -> None:
        """Prompt until left; then wait until what was answered so far is remembered."""
        worker = asyncio.create_task(self._work())
        worker.add_done_callback(self._worker_ended)
        with suppress(Leave):
            while not self._left:
                try:
                    line = await self._prompt.prompt_async()
                except EOFError:
                    line = "/quit"
                self._disarm()
                if line.strip():
                    self._waiting.append(line)
                    self._lines.put_nowait(line)
        self._stop()
        if self._current is None:
            worker.cancel()
        await asyncio.wait({worker}, timeout=LEAVING)
        if worker.done() and not worker.cancelled():
            worker.result()  # a bug in it shows

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        """A bug in the worker must end the chat, not leave a prompt that nobody answers."""
        if not worker.cancelled() and worker.exception() is not None:
            self._leave()

    def _leave(self) -> None:
        self._left = True
        if self._prompt.app.is_running:
            self._prompt.app.exit(exception=Leave())

    async def _work(self) -> None:
        while not self._left:
            line = await self._lines.get()
            self._waiting.pop(0)
            try:
                if line.startswith("/"):
                    await self._command(line)
                else:
                    await self._answer(line)
            except (CommandError, RxStreamError) as error:
                await self._show(f"! {one_line(error)}")
            finally:
                self._current = None
                self._partial = self._status = ""
                self._prompt.app.invalidate()

    async def _command(self, line: str) -> None:
        note = await asyncio.to_thread(self._chat.command, line)
        if note.leave:
            self._leave()
        else:
            await self._show(f"{PROMPT}{line}\n{note.text}")

    async def _answer(self, query: str) -> None:
        self._status = ANSWERING
        await self._show(f"{PROMPT}{printable(query)}")
        self._current = self._chat.ask(query)
        async for event in self._current:
            if event.kind == "token" and event.channel == "answer":
                self._partial += event.text
                self._prompt.app.invalidate()
            elif event.kind == "answer_completed":
                self._partial, self._status = "", REMEMBERING
                stopped = " [stopped]" if event.finish_reason == "stopped" else ""
                columns, _ = shutil.get_terminal_size()
                lines = wrapped(printable(event.text.rstrip()) + stopped, columns)
                await self._show("\n".join([*lines, REMEMBERING] if self._left else lines))
            elif event.kind == "cancelled":
                await self._show("[stopped]")

    def _disarm(self, *_: object) -> None:
        self._interrupted = False

    def _stop(self) -> None:
        """Be content with what was answered so far; give up what was not begun."""
        if self._current is not None and not self._current.stop():
            self._current.cancel()

    async def _show(self, text: str) -> None:
        """Add to the transcript, above what is redrawn."""
        await run_in_terminal(lambda: print(text, flush=True))

    def _above_and_prompt(self) -> StyleAndTextTuples:
        """What is redrawn. Not in a toolbar: one shows only where the terminal tells its cursor."""
        columns, rows = shutil.get_terminal_size()
        answer = wrapped(printable(self._partial), columns) if self._partial else []
        waiting = [f"{PROMPT}{printable(line)}"[: columns - 12] for line in self._waiting]
        status = " ".join(filter(None, [self._status, self._interrupted * "Ctrl-C again leaves"]))
        dim = [f"{line} (waiting)" for line in waiting] + ([status] if status else [])
        return [
            ("", "".join(f"{line}\n" for line in answer[-max(1, rows - 3 - len(dim)) :])),
            ("fg:ansibrightblack", "".join(f"{line}\n" for line in dim)),
            ("bold", PROMPT),
        ]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def interrupt(event: KeyPressEvent) -> None:
            typed = event.app.current_buffer
            if self._interrupted:
                self._leave()
            elif typed.text and self._current is None:
                typed.reset()
            else:
                self._interrupted = True
                self._stop()
                event.app.invalidate()

        return keys
