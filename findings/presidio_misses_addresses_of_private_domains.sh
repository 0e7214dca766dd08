#!/usr/bin/env bash
# presidio finds an e-mail address only where its ending is one of the public Internet's.
#
# Versions: presidio-analyzer 2.2.366; seen on 2026-12-01, Linux, CPU.
# A good guess: EMAIL_ADDRESS is recognised by its form. Texts inside of a company name people by addresses such as
# ada@corp.internal, and who redacts texts before they are kept expects those to go, too.
# Seen: the pattern matches, and the recogniser then drops what tldextract knows no public suffix for: ada@corp.internal,
# ada@printer.lan and ada@localhost are no findings at any score, whatever context words stand beside them; ada@example.org
# is one with score 1.0. No parameter of the recogniser changes that: an own PatternRecognizer for such addresses does.
# Fails when that changes. Needs python3 (3.10 or newer) and a package index; everything else is in a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'presidio-analyzer==2.2.366'
cd "$folder"
TLDEXTRACT_CACHE="$folder/suffixes" "$folder/venv/bin/python" - <<'PY'
import json
import logging

from presidio_analyzer.predefined_recognizers import EmailRecognizer

logging.disable(logging.CRITICAL)  # without a network it says at length that it uses the list that came with it
recogniser = EmailRecognizer(context=["email", "mail", "address"])
seen = {
    address: [found.score for found in recogniser.analyze(f"Her email address is {address}, write there.", ["EMAIL_ADDRESS"], None)]
    for address in ("ada@example.org", "ada@corp.internal", "ada@printer.lan", "ada@localhost")
}
print(json.dumps(seen))
expected = {"ada@example.org": [1.0], "ada@corp.internal": [], "ada@printer.lan": [], "ada@localhost": []}
assert seen == expected, f"it changed: {expected} was seen before"
PY
