"""Synthetic dialogues: free wording in the queries, canonical sentences in the answers."""

from .attributes import Attribute
from .catalogue import ATTRIBUTES
from .facts import Fact, Turn, is_held_out
from .generator import Dialogue, Mix, probe, sample_dialogue
from .owners import SELF, Owner, named, related
from .smalltalk import Intent, intents
from .world import World

__all__ = [
    "ATTRIBUTES",
    "SELF",
    "Attribute",
    "Dialogue",
    "Fact",
    "Intent",
    "Mix",
    "Owner",
    "Turn",
    "World",
    "intents",
    "is_held_out",
    "named",
    "probe",
    "related",
    "sample_dialogue",
]
