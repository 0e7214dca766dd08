"""What does a gateway say itself, where no arm answers?"""

from __future__ import annotations

from pipelines.serving.http1.answer import Refusal

RETRY = b"retry-after: 1\r\n"
NOBODY = Refusal(503, "E_NO_STABLE", "nothing serves yet", headers=RETRY)
BUSY = Refusal(503, "E_BUSY", "the gateway has as many requests in flight as it may", headers=RETRY)
DOWN = Refusal(502, "E_STABLE_DOWN", "stable cannot be reached", headers=RETRY)
ASKED_ONCE = Refusal(502, "E_ASKED_ONCE", "the version failed, and such a request may not be asked twice")
CHOSEN_DOWN = Refusal(502, "E_ARM_DOWN", "the chosen arm cannot be reached")
