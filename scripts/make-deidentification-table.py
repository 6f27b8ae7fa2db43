"""Write our table of PS3.15 Table E.1-1 from a JSON form of the standard.

Usage: ``python scripts/make-deidentification-table.py confidentiality_profile_attributes.json EDITION``

The JSON is that of innolitics/dicom-standard (MIT); the rows are facts of DICOM PS3.15, (c) NEMA. The
edition, e.g. 2024e, goes into the first line and from there into DeidentificationMethod of every object.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/digital_twins/governance/deidentification/ps3_15_table_e_1_1.csv"
OPTIONS = {
    "rtnSafePrivOpt": "safe_private",
    "rtnUIDsOpt": "uids",
    "rtnDevIdOpt": "device",
    "rtnInstIdOpt": "institution",
    "rtnPatCharsOpt": "patient_characteristics",
    "rtnLongFullDatesOpt": "full_dates",
    "rtnLongModifDatesOpt": "modified_dates",
    "cleanDescOpt": "descriptors",
    "cleanStructContOpt": "structured_content",
    "cleanGraphOpt": "graphics",
}
PATTERNS = {"ggggeeee-where-gggg-is-odd": "private"}


def main(source: str, edition: str) -> None:
    """Write the table of one edition."""
    rows = json.loads(Path(source).read_text(encoding="utf-8"))
    with TARGET.open("w", encoding="utf-8", newline="") as out:
        out.write(f"# DICOM PS3.15 {edition}, Table E.1-1\n")
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["tag", "name", "basic", "options"])
        for row in sorted(rows, key=lambda each: each["id"]):
            options = " ".join(f"{name}={row[key]}" for key, name in OPTIONS.items() if row.get(key))
            tag = PATTERNS.get(row["id"], row["id"].lower())
            table.writerow([tag, row["name"].replace("’", "'"), row["basicProfile"], options])


if __name__ == "__main__":
    main(*sys.argv[1:])
