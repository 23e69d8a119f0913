"""Faults that are planted in the real code by replacing some of its text; each must be caught."""

from tests.core.automaton import Code, patched

# name -> the (old, new) texts.
TEXTS = {
    # The second look at the epoch, after TRYING was stored.
    "nocheck": [
        (
            """                words[mine] = self._trying
                if words[EPOCH] != epoch:
                    words[mine] = IDLE
                    continue
""",
            """                words[mine] = self._trying
""",
        )
    ],
    # The look at the epoch after the semaphore was taken, on the short and on the long way.
    "noepochaftertake": [
        (
            """                        if words[0] == epoch:
                            words[mine] = self._holding
                            self._phase = HELD
                            return True
""",
            """                        words[mine] = self._holding
                        self._phase = HELD
                        return True
""",
        ),
        (
            "            if words[EPOCH] != epoch:\n                # What",
            "            if not taken and words[EPOCH] != epoch:\n                # What",
        ),
    ],
    # Clearing what is dead now instead of what was seen dead in the second pass.
    "clearall": [
        (
            "        for number in dead:\n            self._words[1 + number] = IDLE",
            """        for number in range(len(self._words) - 1):
            if self._words[1 + number] and self._is_dead_word(number, self._words[1 + number]):
                self._words[1 + number] = IDLE""",
        )
    ],
    "onepass": [("            self._await_movers(deadline)\n", "")],
    "noinc": [
        ("self._party.is_dead(number, word >> INCARNATION_SHIFT)", "self._party.is_dead(number, -1)"),
    ],
    # Acquire does not look at its own word.
    "overwrite": [("if epoch & 1 or words[mine] != IDLE:", "if epoch & 1:")],
    # The short way is taken after an exception, though the own word is not IDLE.
    "epoch kept after an exception": [
        (
            "                self._epoch = -1\n                self._wait = None\n",
            "                self._wait = None\n",
        )
    ],
    "abandon not stored": [("self._words[self._mine] = self._abandoned", "pass")],
    # What this code once did.
    "odd epoch remembered": [("self._epoch = epoch if not epoch & 1 and self", "self._epoch = epoch if self")],
    "epoch kept beside a predecessor's word": [(" and self._words[self._mine] == IDLE else -1", " else -1")],
    "recovery lock kept": [
        ("        self._recovering = True\n        try:\n", "        try:\n"),
        (
            "                return\n            epoch =",
            "                return\n            self._recovering = True\n            epoch =",
        ),
    ],
    # The look at the epoch between TRYING and the semaphore, on the short way.
    "nocheck on the short way": [
        (
            """                words[mine] = self._trying
                if words[0] == epoch:
""",
            """                words[mine] = self._trying
                if True:
""",
        )
    ],
}


def planted(name):
    """The code under test with one fault; "none" is the correct code."""
    return Code() if name == "none" else patched(*TEXTS[name])
