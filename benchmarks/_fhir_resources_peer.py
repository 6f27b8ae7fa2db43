"""CPU of fhir.resources (R4B models) to validate resources, in a process of its own.

Its import name is that of the benchmark beside it. Usage: python -P _fhir_resources_peer.py; the first line
on stdin is a JSON array of resources, each further line asks for one round over them: its answer is the
microseconds of CPU of one resource.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module


def main() -> None:
    resources = json.loads(sys.stdin.readline())
    kinds = {resource["resourceType"] for resource in resources}
    models = {kind: getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind) for kind in kinds}
    for _ in sys.stdin:
        start = time.process_time()
        for resource in resources:
            models[resource["resourceType"]].model_validate(resource)
        print((time.process_time() - start) / len(resources) * 1e6, flush=True)


if __name__ == "__main__":
    main()
