"""Mistakes that the tests must notice: changes of the source, and the tests that notice them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in ``file``; each of ``tests`` must fail then, and none before."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, old, new, tests)


TURNS = "guarantees/test_turns.py::test_"
MEMORY = "guarantees/test_memory.py::test_"
WINDOWS = "test_windows.py::test_"
READERS = "reactive_streams/test_"

SPECIFIED = (
    _mutant(
        "cancel keeps the lease",
        "_answering.py",
        "        if turn.leased:\n",
        "        if turn.leased and not isinstance(outcome, InteractionCancelled):\n",
        f"{MEMORY}g7_a_key_that_was_not_applied_may_be_used_again[prefill-C]",
    ),
    _mutant(
        "last come, first served",
        "_line.py",
        "return best.pending.popleft()",
        "return best.pending.pop()",
        f"{TURNS}g5_first_come_first_served_within_a_conversation",
    ),
    _mutant(
        "the next starts before memory is updated",
        "_machine.py",
        'return self.isolation == "serial" and bool(self.active)',
        'return self.isolation == "serial" and any(not t.answer for t in self.active)',
        f"{TURNS}g3_a_query_that_comes_during_an_update_waits_for_its_end",
    ),
    _mutant(
        "a failed update is committed",
        "_memorize.py",
        "        turn.value = _UNSET\n        if turn.committing:",
        "        self.value = turn.completed\n        if turn.committing:",
        f"{MEMORY}g6_what_ends_without_update_leaves_value_and_version[update fails]",
        "test_cancel.py::test_abort_update",
    ),
    _mutant(
        "a step that was fenced off still tells its token",
        "_generating.py",
        "            if turn.phase is not Phase.STARTED:\n"
        "                return False\n            token = ",
        "            if turn.answer is not None:\n"
        "                return False\n            token = ",
        f"{WINDOWS}in_every_window[bookkeeping-cancel-one lane]",
        f"{WINDOWS}in_every_window[step-dispose-memory lane]",
    ),
    _mutant(
        "a timeout keeps the lease",
        "_answering.py",
        "        self.finish(turn, wrapped, wrapped)\n",
        '        turn.leased = turn.leased and stage != "timeout"\n'
        "        self.finish(turn, wrapped, wrapped)\n",
        "test_cancel.py::test_timeouts[decoding-limits7-QSTTF-timeout]",
    ),
    _mutant(
        "stop and the end of the answer update twice",
        "_generating.py",
        "            if turn.phase is not Phase.STARTED:\n"
        "                return False\n            finish = ",
        "            if turn.phase is not Phase.STARTED and draft.finish is None:\n"
        "                return False\n            finish = ",
        f"{WINDOWS}the_last_step_has_returned_when_somebody_else_ends_it[stop]",
    ),
    _mutant(
        "a decoding that was opened while its interaction was cancelled is never released",
        "_decode_loop.py",
        "                self._running.append(turn)\n",
        "                if turn.phase is Phase.STARTED:\n"
        "                    self._running.append(turn)\n",
        f"{WINDOWS}in_every_window[start:after-cancel-one lane]",
        f"{WINDOWS}in_every_window[start-close-one lane]",
    ),
    _mutant(
        "no replay",
        "interaction.py",
        "super().__init__(turn.log, start=0)",
        "super().__init__(turn.log, start=None)",
        "guarantees/test_streams.py::"
        "test_g9_whenever_a_subscriber_comes_it_sees_everything_once_in_order[mute]",
    ),
)
"""The nine of the specification."""

OWN = (
    _mutant(
        "keys are not kept in snapshots",
        "_memorize.py",
        "applied_keys=keys[-KEYS_KEPT:],",
        "applied_keys=(),",
        f"{MEMORY}g7_a_key_is_known_after_reopening_the_store[memory-async]",
    ),
    _mutant(
        "the key of a cancelled query is never free again",
        "_answering.py",
        "            self.keys_under_way.discard(turn.key)\n",
        "            pass\n",
        f"{MEMORY}g7_a_key_that_was_not_applied_may_be_used_again[queued-C]",
    ),
    _mutant(
        "events are delivered under the lock",
        "_frame.py",
        "        turn.log.push(event)\n",
        "        turn.log.append(event)\n",
        "guarantees/test_callbacks.py::"
        "test_g12_no_lock_is_held_while_the_events_of_an_answer_are_told",
    ),
    _mutant(
        "every reader gates the producer",
        "_readership.py",
        '        self._readers.add(cursor)\n        if cursor.overflow == "block":\n',
        "        self._readers.add(cursor)\n        if cursor.overflow:\n",
        f"{READERS}subscription.py::"
        "test_rule_317_a_reader_with_unbounded_demand_never_gates[blocking-error]",
    ),
    _mutant(
        "a gap is off by one",
        "_cursor.py",
        "return Gap(skipped=behind - 1)",
        "return Gap(skipped=behind)",
        f"{READERS}subscriber.py::"
        "test_rule_202_a_reader_that_stands_still_holds_nobody_up[blocking-latest]",
    ),
    _mutant(
        "detach='keep' is ignored",
        "_machine.py",
        'if left or turn.detach != "cancel" or turn.phase > Phase.STARTED:',
        "if left or turn.phase > Phase.STARTED:",
        f"{READERS}subscription.py::"
        "test_rule_314_the_last_one_to_cancel_may_stop_the_publisher[keep-inline-error]",
    ),
    _mutant(
        "conversations do not take turns",
        "_line.py",
        "return self.served, self.pending[0].ticket",
        "return 0, self.pending[0].ticket",
        f"{TURNS}g5_conversations_take_turns_however_many_queries_one_has",
    ),
    _mutant(
        "a failed update is tried three times",
        "_memorize.py",
        "if turn.tries > 1 or isinstance",
        "if turn.tries > 2 or isinstance",
        "test_memory.py::test_update_is_tried_twice[encode]",
    ),
    _mutant(
        "a failed update is redone at the next start",
        "_memorize.py",
        "        self.recorder.forget(turn)\n        turn.value = _UNSET\n",
        "        turn.value = _UNSET\n",
        "test_cancel.py::test_abort_update_after_the_record_was_written",
    ),
    _mutant(
        "a restore does not wait for who runs",
        "_machine.py",
        "if turn is None and restorer.next < math.inf and not self.active:",
        "if turn is None and restorer.next < math.inf:",
        f"{TURNS}g3_with_snapshot_isolation_a_restore_waits_for_all_who_run",
    ),
    _mutant(
        "closing with drain forgets the queries that wait",
        "_machine.py",
        "if not drain or turn.phase is Phase.QUEUED:",
        "if not drain:",
        "guarantees/test_endings.py::test_g11_shutdown_ends_what_was_accepted[decoding-True]",
    ),
    _mutant(
        "a log that was closed takes events",
        "log.py",
        "            if self.closed:\n                return False\n            head = self.head\n",
        "            head = self.head\n",
        f"{READERS}publisher.py::test_rule_107_nothing_comes_after_the_end[None-inline-error]",
    ),
)
"""And more, one for each thing that a careless change would break."""

MUTANTS = (*SPECIFIED, *OWN)
