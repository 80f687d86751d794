"""The tools for users' own tests do what their page says."""

from __future__ import annotations

import pytest
import reactivex as rx

from rxstream import Timeouts
from rxstream.testing import FakeModel, Lab, Recorder


def test_what_a_call_costs_is_virtual_time_in_a_lab():
    lab, model = Lab(), FakeModel()
    model.cost("start", 2.0)
    model.cost("step", 0.25, each=0.25)
    with lab.runtime(model) as runtime:
        it = runtime.memory("m").conversation().ask("long 4")
        lab.run()
        assert it.result().text == "w0 w1 w2 w3 "
        assert lab.time == 2.0 + 5 * 0.5  # four words and the end


def test_a_batch_costs_each_of_its_items():
    lab, model = Lab(), FakeModel()
    model.cost("step", 0.0, each=1.0)
    with lab.runtime(model) as runtime:
        for name in "ab":
            runtime.memory(name).conversation().ask("one")  # two words, with the count
        lab.run()
        assert lab.time == 2 * 3.0


def test_costs_make_timeouts_fire():
    lab, model = Lab(), FakeModel()
    model.cost("step", 3.0)
    with lab.runtime(model) as runtime:
        limits = Timeouts(answer=10.0, on_timeout="stop")
        it = runtime.memory("m").conversation().ask("long 60", timeouts=limits)
        lab.advance(60)
        assert it.result().finish_reason == "timeout" and 3 <= len(it.result().token_ids) <= 5


def test_a_cost_is_real_time_without_a_lab_and_clear_forgets_it():
    model, slept = FakeModel(), []
    model.sleep = slept.append
    model.cost("encode", 0.5, each=0.25)
    model.encode([])
    model.clear()
    model.encode([])
    assert slept == [0.5]


@pytest.mark.parametrize("cost", [(-1.0, 0.0), (1.0, -0.5)])
def test_time_does_not_go_back(cost):
    with pytest.raises(ValueError, match="cannot cost"):
        FakeModel().cost("step", cost[0], each=cost[1])


def test_a_recorder_says_how_long_it_waited_in_vain():
    with pytest.raises(TimeoutError, match="no end after"):
        Recorder(rx.never()).wait(0.01)
    with pytest.raises(TimeoutError, match="0 of 2 items"):
        Recorder(rx.never()).wait_for(2, 0.01)


def test_time_never_goes_back_when_a_call_took_longer_than_the_test_let_pass():
    lab, model = Lab(), FakeModel()
    model.cost("step", 10.0)
    with lab.runtime(model) as runtime:
        runtime.memory("m").conversation().ask("one")
        lab.advance(1.0)
        assert lab.time == 30.0
        lab.advance(1.0)
        assert lab.time == 31.0
