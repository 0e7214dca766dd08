"""Who is believed to be the endpoint that was adopted?"""

from __future__ import annotations

import ssl


def trust(ca_file: str) -> ssl.SSLContext:
    """What checks certificate and name: by the machine's authorities, or only by those of a file.

    OSError (of which ssl.SSLError is one) where the file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
