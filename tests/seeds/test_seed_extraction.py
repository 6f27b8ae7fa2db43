"""The extraction finds the documented number of blocks, so that no block is lost by a changed layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seed_blocks import block, blocks

if TYPE_CHECKING:
    from pathlib import Path


def test_every_python_block_is_found(shared_data: Path) -> None:
    seeds = shared_data.parent / "seeds"
    fences = sum(p.read_text(encoding="utf-8").count("```python") for p in seeds.glob("*.txt"))
    assert sum(len(blocks(seeds, f"{n:03d}")) for n in range(5)) == fences > 0
    assert "TumorTwinPipeline" in block(seeds, "001", "1. Patient-Specific Tumor Digital Twin").source
