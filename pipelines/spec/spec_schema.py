"""What does an editor need to help with a release.yaml?"""

from __future__ import annotations

import json

from pipelines.spec.release_spec import ReleaseSpec


def schema_text() -> str:
    """The JSON Schema of `release.yaml`, as text that ends with a newline."""
    schema = ReleaseSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Shipway release"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
