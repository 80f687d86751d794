"""Made-up words, codes and numbers, so that strings never seen before are copied too."""

from random import Random

_ONSETS = (
    "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j",
    "k", "kl", "kr", "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sh", "sk", "sl", "sm", "sn",
    "sp", "st", "str", "t", "th", "tr", "v", "w", "x", "y", "z", "zh", "",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u") * 2 + ("ai", "ea", "ee", "oo", "ou", "y", "ia")
_CODAS = (
    "", "", "", "", "b", "ck", "d", "f", "g", "k", "l", "ll", "m", "n", "nd", "ng", "nk", "nt", "p",
    "r", "rd", "rk", "rm", "rn", "rt", "t", "th", "v", "x", "z",
)  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MIXED = _LETTERS + _LETTERS.upper() + "0123456789"
_UPPER = _LETTERS.upper() + "0123456789"


def made_up_word(rng: Random) -> str:
    """A pronounceable lower-case word of three to nine letters that never ends in s."""
    while not 3 <= len(word := _syllables(rng)) <= 9:
        pass
    return word


def _syllables(rng: Random) -> str:
    random = rng.random
    count = 2 if (draw := random()) < 0.6 else 3 if draw < 0.85 else 1
    parts = []
    for index in range(count):
        parts.append(_ONSETS[int(random() * len(_ONSETS))])
        parts.append(_VOWELS[int(random() * len(_VOWELS))])
        if index == count - 1 or random() < 0.3:
            parts.append(_CODAS[int(random() * len(_CODAS))])
    return "".join(parts)


def made_up_name(rng: Random) -> str:
    """A made-up word with a capital, such as "Zorvik"."""
    return made_up_word(rng).capitalize()


def code(rng: Random) -> str:
    """A short random string of letters, or of letters and digits."""
    draw = rng.random()
    alphabet = _LETTERS if draw < 0.3 else _UPPER if draw < 0.7 else _MIXED
    return "".join([alphabet[int(rng.random() * len(alphabet))] for _ in range(rng.randint(3, 7))])


def number(rng: Random, digits: int = 0) -> str:
    """A number of the given count of digits, or of one to six; no leading zero."""
    digits = digits or 1 + int(rng.random() * 6)
    low = 10 ** (digits - 1)
    return str(low + int(rng.random() * 9 * low))
