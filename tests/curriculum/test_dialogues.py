"""The dialogue generator: canonical answers, correct state, clean split, varied wording."""

import os
import string
import subprocess
import sys
from random import Random

import pytest

from curriculum.dialogues import (
    ATTRIBUTES,
    SELF,
    Dialogue,
    Fact,
    Mix,
    World,
    intents,
    is_held_out,
    named,
    probe,
    related,
    sample_dialogue,
)
from curriculum.dialogues.catalogue import draw_attribute
from curriculum.dialogues.decor import CHATTER_ANSWERS
from curriculum.dialogues.facts import not_known, stated, statement
from curriculum.dialogues.smalltalk import SLOTS

BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}
DOG = BY_NAME["name of the dog"]


def draw(seed: int, turns: int = 16, *, held_out: bool | None = False) -> Dialogue:
    """A dialogue with probes after every fourth turn."""
    after = range(3, turns, 4)
    return sample_dialogue(Random(seed), turns, probe_after=after, probes=4, held_out=held_out)


def all_turns(dialogue: Dialogue) -> list:
    """The turns and the probes of a dialogue."""
    return [*dialogue.turns, *(turn for group in dialogue.probes for turn in group)]


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    """Two thousand dialogues."""
    return [draw(seed) for seed in range(2000)]


def seen_pairs(seed: int, held_out: bool, monkeypatch: pytest.MonkeyPatch) -> set:
    """All pairs of owner and attribute that one dialogue words."""
    pairs = set()
    original = World._subject

    def spy(self, fact, lowered, **options):
        pairs.add((fact.owner, fact.attribute))
        return original(self, fact, lowered, **options)

    with monkeypatch.context() as patch:
        patch.setattr(World, "_subject", spy)
        draw(seed, held_out=held_out)
    return pairs


def test_same_seed_same_dialogue():
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_same_dialogue_whatever_the_hash_seed():
    code = (
        "from random import Random; from curriculum.dialogues import sample_dialogue;"
        "print([sample_dialogue(Random(seed), 16) for seed in range(3)])"
    )
    seen = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True
        )
        seen.add(run.stdout)
    assert len(seen) == 1


def test_shape(dialogues):
    for dialogue in dialogues:
        assert len(dialogue.turns) == 16
        assert dialogue.probe_after == (3, 7, 11, 15)
        assert [len(group) for group in dialogue.probes] == [4] * 4
        assert all(turn.kind in ("ask", "unknown") for group in dialogue.probes for turn in group)


def test_probe_index_is_checked():
    with pytest.raises(ValueError, match="probe_after"):
        sample_dialogue(Random(0), 4, probe_after=(4,), probes=1)


def test_canonical_answers():
    your, anns = SELF.wordings[0], named("Ann").wordings[0]
    assert statement(your, DOG, "Biscuit") == "your dog is called Biscuit"
    assert stated(your, BY_NAME["favourite colour"], "red") == "Your favourite colour is red."
    assert stated(anns, BY_NAME["colour of the car"], "red") == "The colour of Ann's car is red."
    assert not_known(your, DOG) == "I do not know what your dog is called."
    assert not_known(anns, BY_NAME["place of the keys"]) == "I do not know where Ann's keys are."
    sister = related("sister", "Ann")
    assert [wording.said for wording in sister.wordings] == [
        "your sister Ann's", "your sister's", "Ann's",
    ]  # fmt: skip


def test_canonical_sentences_tell_attributes_apart():
    starts = [f"{attribute.statement} " for attribute in ATTRIBUTES]
    assert len({attribute.name for attribute in ATTRIBUTES}) == len(ATTRIBUTES) >= 45
    assert len({attribute.unknown for attribute in ATTRIBUTES}) == len(ATTRIBUTES)
    assert all(attribute.statement.count("{p}") == 1 for attribute in ATTRIBUTES)
    for start in starts:
        assert sum(other.startswith(start) for other in starts) == 1, start


def test_a_named_relation_is_one_owner_with_several_wordings():
    world, rex = World(Random(4), held_out=None), Fact(related("sister", "Ann"), DOG, "Rex")
    first = world.tell(rex)
    assert first.answer.lower() == "okay, your sister ann's dog is called rex."
    answers = {world.ask(rex).answer.lower() for _ in range(60)}
    assert answers == {
        f"{owner} dog is called rex." for owner in ("your sister ann's", "your sister's", "ann's")
    }
    others = [world.invent().owner for _ in range(200)]
    assert all(o == rex.owner or not {"your sister", "Ann"} & set(o.keys) for o in others)


def test_answers_follow_from_the_facts():
    for seed in range(300):
        world = World(Random(seed))
        fact = world.invent()
        told = world.tell(fact)
        current = world.facts[0]
        possible = {said for wording in fact.owner.wordings for said in (wording, wording.lower())}
        assert told.answer in {
            f"Okay, {statement(w, fact.attribute, current.value)}." for w in possible
        }
        asked = world.ask(fact)
        assert asked.value == current.value
        assert asked.answer in {stated(w, fact.attribute, current.value) for w in possible}


def test_two_facts_in_one_message():
    world = World(Random(3))
    first, second = Fact(SELF, DOG, "Rex"), Fact(named("Ann"), BY_NAME["age"], "31")
    assert world.fits(first, second)
    turn = world.tell(first, second)
    assert turn.answer.lower() == "okay, your dog is called rex and ann's age is 31."
    assert [fact.value.lower() for fact in world.facts] == ["rex", "31"]


def test_value_is_last(dialogues):
    for dialogue in dialogues:
        for turn in all_turns(dialogue):
            if turn.kind in ("ask", "tell", "update"):
                assert turn.answer.endswith(f" {turn.value}.")
            else:
                assert turn.value == ""


def test_told_values_are_in_the_query(dialogues):
    for dialogue in dialogues:
        for turn in dialogue.turns:
            if turn.kind in ("tell", "update"):
                assert turn.value.replace(" your ", " my ") in turn.query


def test_held_out_pairs_stay_apart(monkeypatch):
    for seed in range(150):
        assert not any(is_held_out(*pair) for pair in seen_pairs(seed, False, monkeypatch))
        assert all(is_held_out(*pair) for pair in seen_pairs(seed, True, monkeypatch))


def test_held_out_share():
    owners = [named(name) for name in ("Ann", "Tom", "Zoe", "Omar")] + [related("boss")]
    pairs = [is_held_out(owner, attribute) for owner in owners for attribute in ATTRIBUTES]
    assert 0.14 < sum(pairs) / len(pairs) < 0.26


def test_update_changes_the_answer_and_keeps_the_old_value():
    for seed in range(200):
        world = World(Random(seed))
        fact = world.invent()
        world.tell(fact)
        before = world.facts[0].value
        turn = world.update(fact)
        after = world.facts[0].value
        assert before.lower() != after.lower()
        assert world.stale == {(fact.owner, fact.attribute): [before]}
        assert turn.kind == "update"
        assert world.ask(fact).answer.endswith(f" {after}.")


def test_update_to_a_given_value():
    world = World(Random(0), held_out=None)
    world.tell(Fact(SELF, DOG, "Rex"))
    assert world.update(Fact(SELF, DOG, ""), "Max").value.lower() == "max"


def test_told_twice_or_never_told_is_refused():
    world = World(Random(0), held_out=None)
    fact = Fact(SELF, DOG, "Rex")
    with pytest.raises(ValueError, match="never told"):
        world.ask(fact)
    world.tell(fact)
    with pytest.raises(ValueError, match="already told"):
        world.tell(fact)
    with pytest.raises(LookupError):
        world.invent(owner=SELF, attribute=DOG)


def test_values_of_one_attribute_differ():
    world = World(Random(5), held_out=None)
    season = BY_NAME["favourite season"]
    values = [world.invent(attribute=season).value.lower() for _ in range(20)]
    assert len(set(values)) == 20


def test_unknown_never_asks_a_told_fact():
    for seed in range(400):
        rng = Random(seed)
        world = World(rng)
        for _ in range(6):
            world.tell(world.invent())
        told = {
            (wording, fact.attribute)
            for fact in world.facts
            for plain in fact.owner.wordings
            for wording in (plain.said, plain.lower().said)
        }
        answers = {not_known_for(said, attribute) for said, attribute in told}
        for like in (None, rng.choice(world.facts)):
            turn = world.ask_unknown(like)
            assert turn.kind == "unknown"
            assert turn.answer not in answers


def not_known_for(said: str, attribute) -> str:
    """The answer that does not know an attribute of an owner so called."""
    return attribute.unknown.replace("{p}", said)


def test_probes_match_the_state_and_leave_it():
    for seed in range(200):
        rng = Random(seed)
        world = World(rng)
        for _ in range(5):
            fact = world.invent()
            world.tell(fact)
        world.update(fact)
        facts, stale = list(world.facts), dict(world.stale)
        for _ in range(10):
            turn = probe(world, rng)
            if turn.kind == "ask":
                assert turn.value in {fact.value for fact in facts}
        assert world.facts == facts
        assert world.stale == stale


def test_probes_know_only_what_was_told_before(dialogues):
    for dialogue in dialogues:
        for index, group in zip(dialogue.probe_after, dialogue.probes, strict=True):
            told = " ".join(turn.answer for turn in dialogue.turns[: index + 1])
            assert all(turn.value in told for turn in group if turn.kind == "ask")


def test_nothing_left_unfilled_and_lengths(dialogues):
    for dialogue in dialogues:
        for turn in all_turns(dialogue):
            assert not set("{}<>|") & set(turn.query + turn.answer), turn
            assert turn.query == turn.query.strip()
            assert "  " not in turn.query
            assert 1 <= len(turn.query.split()) <= 30, turn
            assert len(turn.answer.split()) <= 16, turn


def test_every_template_is_filled():
    fields = {"P", "S", "O", "q", "s", "o", "h", "v", "old", "a"}
    for attribute in ATTRIBUTES:
        for forms in (
            attribute.tells, attribute.updates, attribute.denials, attribute.asks, attribute.clauses
        ):  # fmt: skip
            for template in (*forms.first, *forms.other):
                parsed = string.Formatter().parse(template.text)
                assert {field for _, field, _, _ in parsed if field} <= fields, template
                assert not set("<>|") & set(template.text), template
        for template in (*attribute.tells.first, *attribute.tells.other):
            assert "{v}" in template.text
        for template in (*attribute.denials.first, *attribute.denials.other):
            assert "{v}" in template.text
            assert "{old}" in template.text


def test_chatter_has_few_answers_and_leaves_facts_alone(dialogues):
    chats = [turn for dialogue in dialogues for turn in dialogue.turns if turn.kind == "chat"]
    share = sum(turn.answer in CHATTER_ANSWERS.values() for turn in chats) / len(chats)
    assert 0.55 < share < 0.8


def test_two_facts_are_told_at_once_often_enough(dialogues):
    tells = [turn for dialogue in dialogues for turn in dialogue.turns if turn.kind == "tell"]
    assert 0.13 < sum(_verbs(turn.answer) > 1 for turn in tells) / len(tells) < 0.25


def _verbs(answer: str) -> int:
    return sum(word in ("is", "are") for word in answer.split())


def test_named_relation_may_stand_apart_or_behind_the_name():
    ann, queries = related("colleague", "Ann"), set()
    for seed in range(400):
        turn = World(Random(seed), held_out=None).tell(Fact(ann, BY_NAME["age"], "31"))
        assert turn.answer.lower() == "okay, your colleague ann's age is 31."
        queries.add(turn.query.lower())
    assert any("ann, my colleague, " in query for query in queries)
    assert any("my colleague, ann, " in query for query in queries)


def test_family_words_and_things_need_no_my():
    mum, keys = related("mum"), BY_NAME["place of the keys"]
    queries = set()
    for seed in range(200):
        world = World(Random(seed), held_out=None)
        turn = world.tell(Fact(mum, BY_NAME["age"], "61"))
        assert turn.answer.lower() == "okay, your mum's age is 61."
        told = world.tell(Fact(SELF, keys, "in your bag"))
        assert told.answer.lower() == "okay, your keys are in your bag."
        assert "in my bag" in told.query.lower()
        queries |= {turn.query.lower(), told.query.lower()}
    assert any("mum" in query and "my mum" not in query for query in queries)
    assert any("the keys" in query for query in queries)


def test_open_attributes_are_the_same_object_each_time():
    drawn: dict[str, object] = {}
    for seed in range(3000):
        attribute = draw_attribute(Random(seed), 1.0)
        assert drawn.setdefault(attribute.name, attribute) is attribute
    assert len(drawn) > 200
    known = [attribute for attribute in ATTRIBUTES if attribute.name in drawn]
    assert all(drawn[attribute.name] is attribute for attribute in known)
    statements = {attribute.statement for attribute in drawn.values()}
    assert len(statements) == len(drawn)


def test_no_first_person_in_answers(dialogues):
    for dialogue in dialogues:
        for turn in all_turns(dialogue):
            if turn.kind == "chat":
                continue
            head = turn.answer[: len(turn.answer) - len(turn.value) - 1]
            words = head.removeprefix("I do not know").lower().replace(",", "").split()
            assert not {"i", "my", "me", "mine"} & set(words), turn


def test_small_talk():
    assert len(intents()) >= 60
    assert len({intent.answer for intent in intents()}) == len(intents())
    for intent in intents():
        assert 5 <= len(intent.phrasings), intent.answer
        assert len(intent.answer.split()) <= 12
    assert all(slot(Random(0)) for slot in SLOTS.values())


def test_mix_of_kinds(dialogues):
    kinds = [turn.kind for dialogue in dialogues for turn in dialogue.turns]
    for kind in ("tell", "update", "ask", "unknown", "chat"):
        assert kinds.count(kind) / len(kinds) > 0.03, kind
    assert sum(d.turns[0].kind == "tell" for d in dialogues) / len(dialogues) > 0.8


def test_mix_limits_the_facts():
    mix = Mix(max_facts=1, update=0.0)
    for seed in range(50):
        dialogue = sample_dialogue(Random(seed), 12, mix)
        assert sum(turn.kind == "tell" for turn in dialogue.turns) <= 1


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
def test_many_phrasings(attribute):
    queries = set()
    for seed in range(300):
        world = World(Random(seed), held_out=None)
        fact = Fact(SELF if seed % 2 else named("Ann"), attribute, "Zuvo")
        queries.add(world.tell(fact).query)
        queries.update(world.ask(fact).query for _ in range(3))
        queries.add(world.update(fact, "Bikel").query)
    assert len(queries) >= 300
    assert len(attribute.tells) >= 24
    assert len(attribute.asks) >= 24
    assert len(attribute.updates) >= 8
