"""CPU of fhir.resources (R4B models) to validate resources, in a process of its own.

Its import name is that of the benchmark beside it. Usage: python -P _fhir_resources_peer.py, a JSON array of
resources on stdin; prints the microseconds of one resource, the least of three rounds, as a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module


def main() -> None:
    resources = json.load(sys.stdin)
    kinds = {resource["resourceType"] for resource in resources}
    models = {kind: getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind) for kind in kinds}
    best = float("inf")
    for number in range(4):  # the first is to warm up
        start = time.process_time()
        for resource in resources:
            models[resource["resourceType"]].model_validate(resource)
        if number:
            best = min(best, time.process_time() - start)
    print(json.dumps({"validate": best / len(resources) * 1e6}))


if __name__ == "__main__":
    main()
