"""Versions compared, reverted and branched; the file that explains itself; cards, frames and data sets."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digital_twins import InputError, MissingExtraError, NotFoundError
from digital_twins.patient_modeling import MIGRATIONS, PatientTwin, TumorTwinPipeline, TwinRegistry
from digital_twins.storage import BlobStore, Database
from tumour_phantom import RADIATION, ball, follow_up, new_twin

TRUTH = {"proliferation_per_day": 0.03, "diffusion_mm2_per_day": 0.1}


@pytest.fixture(scope="module")
def scans() -> list:
    return follow_up(new_twin(), TRUTH, [28.0, 56.0, 84.0]).scans


@pytest.fixture(scope="module")
def lived(scans: list) -> PatientTwin:
    """A twin of three versions: new, calibrated on two scans, and on a third with radiation."""
    twin = new_twin()
    twin.calibrate(scans[:2])
    twin.calibrate(scans[2:], [RADIATION])
    return twin


def copy(twin: PatientTwin, tmp_path: Path) -> PatientTwin:
    twin.save(tmp_path / "copy.twin")
    return PatientTwin.open(tmp_path / "copy.twin")


def test_changes_say_what_was_learnt(lived: PatientTwin) -> None:
    first = lived.changes(1, 2)
    assert (first.before, first.after) == (1, 2)
    assert first.visits_added == (28.0, 56.0)
    assert not first.visits_removed
    by_name = {change.name: change for change in first.parameters}
    growth = by_name["proliferation_per_day"]
    assert growth.after.value / growth.before.value == pytest.approx(growth.ratio)
    # 0.02 is the prior's median, 0.03 the truth: it moved up and its interval narrowed
    assert growth.ratio > 1.0
    assert growth.interval_ratio < 1.0
    assert "alpha_beta_gy" not in by_name
    second = lived.changes()
    assert (second.before, second.after) == (2, 3)
    assert second.visits_added == (84.0,)
    assert len(second.treatments_added) == 1
    assert lived.changes(3, 2).treatments_removed == second.treatments_added
    assert lived.changes(2, 2).parameters == ()
    with pytest.raises(NotFoundError, match="no version 9"):
        lived.changes(9)


def test_revert_makes_a_new_version_and_loses_nothing(
    lived: PatientTwin, scans: list, tmp_path: Path
) -> None:
    twin = copy(lived, tmp_path)
    before = twin.predict(28, samples=8)
    assert twin.revert(2, reason="the third scan was another patient's") == 4
    assert [s.version for s in twin.history] == [1, 2, 3, 4]
    assert twin.provenance.parent_version == 2
    assert "another patient's" in twin.provenance.notes[-1]
    assert twin.parameters == lived.history[1].belief.estimates()
    assert twin.origin_day == 56.0
    assert lived.version == 3
    again = copy(twin, tmp_path)
    assert again.content_digest == twin.content_digest
    # a scan of the abandoned version can be given again, and leads to the same place
    twin.calibrate(scans[2:], [RADIATION])
    assert twin.predict(28, samples=8).volume_cm3 == pytest.approx(before.volume_cm3)
    with pytest.raises(NotFoundError):
        twin.revert(17)


def test_a_branch_is_a_twin_of_its_own(lived: PatientTwin) -> None:
    other = lived.branch(2, "without radiation")
    assert other.twin_id != lived.twin_id
    assert other.twin_id == lived.branch(2, "without radiation").twin_id != lived.branch(2, "x").twin_id
    assert [s.version for s in other.history] == [1, 2, 3]
    assert lived.twin_id in other.provenance.notes[-1]
    assert other.parameters == lived.history[1].belief.estimates()
    assert not other.treatment_history
    other.revert(1)
    assert lived.version == 3


def test_registry_keeps_reverted_versions_and_branches(lived: PatientTwin, tmp_path: Path) -> None:
    twin = copy(lived, tmp_path)
    with Database(tmp_path / "node.sqlite", migrations=MIGRATIONS) as database:
        registry = TwinRegistry(database, BlobStore(tmp_path / "blobs"))
        registry.save(twin)
        twin.revert(1)
        registry.save(twin)
        registry.save(twin.branch(2, "b"))
        assert [row.version for row in registry.versions(twin.twin_id)] == [3, 4]
        assert len(registry.list("PHANTOM")) == 2
        assert registry.load(twin.twin_id).provenance.parent_version == 1


KILLED = """
import sys
sys.path[:0] = {paths!r}
from digital_twins.patient_modeling import MIGRATIONS, TwinRegistry
from digital_twins.storage import BlobStore, Database
from tumour_phantom import new_twin
twin = new_twin()
with Database({root!r} + "/node.sqlite", migrations=MIGRATIONS) as database:
    registry = TwinRegistry(database, BlobStore({root!r} + "/blobs"))
    while True:
        registry.save(twin)
        sys.stdout.write(f"{{twin.twin_id}} {{twin.version}} {{twin.content_digest}}\\n")
        sys.stdout.flush()
        twin.revert(1)
"""


def test_what_the_registry_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    code = KILLED.format(paths=[str(Path(__file__).parents[1])], root=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        acknowledged = [process.stdout.readline().split() for _ in range(7)]
    finally:
        process.kill()
        rest = process.communicate(timeout=30)[0]
    acknowledged += [line.split() for line in rest.splitlines() if len(line.split()) == 3]
    with Database(tmp_path / "node.sqlite", migrations=MIGRATIONS) as database:
        registry = TwinRegistry(database, BlobStore(tmp_path / "blobs"))
        stored = registry.versions(acknowledged[0][0])
        assert len(acknowledged) <= len(stored) <= len(acknowledged) + 1
        for twin_id, version, digest in acknowledged:
            assert registry.load(twin_id, int(version)).content_digest == digest
        twin = registry.load(acknowledged[0][0])  # it can go on from there
        twin.revert(1)
        registry.save(twin)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_explains_and_checks_itself(lived: PatientTwin, tmp_path: Path) -> None:
    lived.save(tmp_path / "a.twin")
    inside = members(tmp_path / "a.twin")
    for name, content in inside.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(": OK") == len(inside) - 1
    page = inside["README.txt"].decode()
    for name in inside.keys() - {"README.txt"}:
        plain = re.sub(r"visit-[0-9a-f]+", "visit-DIGEST", name)
        assert re.sub(r"(particles|weights)-\d+", r"\1-VERSION", plain) in page, name
    domain = json.loads(inside["twin.json"])["domain"]
    packed = np.load(io.BytesIO(inside["domain.npy"]), allow_pickle=False)
    unpacked = np.unpackbits(packed)[: np.prod(domain["shape"])].reshape(domain["shape"]).astype(bool)
    assert (unpacked == lived.domain.array).all()


def undescribed(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """Paths of fields that the schema does not name, or that have another type than it says."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    numbers = {"number": (int, float), "integer": int}
    fits = [isinstance(value, {**types, **numbers}[kind]) for kind in kinds]
    wrong = [] if not kinds or any(fits) else [f"{where}: {type(value).__name__} is not {kinds}"]
    if "const" in schema and value != schema["const"]:
        wrong.append(f"{where}: not {schema['const']}")
    if isinstance(value, dict):
        known, rest = schema.get("properties"), schema.get("additionalProperties")
        wrong += [f"{where}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        for name, each in value.items():
            if known and name in known:
                wrong += undescribed(each, known[name], f"{where}.{name}")
            elif rest:
                wrong += undescribed(each, rest, f"{where}.{name}")
            elif known and not where:
                wrong.append(f"{where}.{name}: not described")
    if isinstance(value, list):
        for number, each in enumerate(value):
            wrong += undescribed(each, schema.get("items", {}), f"{where}[{number}]")
    return wrong


def test_the_schema_describes_the_document(lived: PatientTwin, tmp_path: Path) -> None:
    lived.save(tmp_path / "a.twin")
    inside = members(tmp_path / "a.twin")
    document, schema = (json.loads(inside[name]) for name in ("twin.json", "twin.schema.json"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert undescribed(document, schema) == []
    snapshot = schema["properties"]["history"]["items"]["properties"]
    assert set(document["history"][-1]) == set(snapshot)
    assert undescribed({**document, "twin_id": 7, "more": 1}, schema) == [
        ".twin_id: int is not ['string']",
        ".more: not described",
    ]
    document.pop("baseline")
    assert undescribed(document, schema) == [".baseline: missing"]


def test_a_changed_file_is_refused_and_an_older_one_read(lived: PatientTwin, tmp_path: Path) -> None:
    path = tmp_path / "a.twin"
    lived.save(path)
    inside = members(path)

    def written(changed: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in changed.items():
                archive.writestr(name, content)
        return path

    tampered = inside["twin.json"].replace(b'"PHANTOM"', b'"SOMEONE"')
    assert tampered != inside["twin.json"]
    with pytest.raises(InputError, match="checksums"):
        PatientTwin.open(written({**inside, "twin.json": tampered}))
    with pytest.raises(InputError, match="checksums"):
        PatientTwin.open(written({**inside, "extra.npy": inside["domain.npy"]}))
    with pytest.raises(InputError, match="checksums"):
        PatientTwin.open(written({name: c for name, c in inside.items() if name != "SHA256SUMS"}))
    # format 1 had no checksums and no explanations
    older = {name: c for name, c in inside.items() if name == "twin.json" or name.endswith(".npy")}
    older["twin.json"] = inside["twin.json"].replace(b'"format_version": 2', b'"format_version": 1')
    assert PatientTwin.open(written(older)).content_digest == lived.content_digest


def test_no_flipped_byte_changes_a_twin_in_silence(lived: PatientTwin, tmp_path: Path) -> None:
    path = tmp_path / "a.twin"
    lived.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        try:
            again = PatientTwin.open(path)
        except InputError:
            refused += 1
        else:  # a byte that zip readers pass over, such as a time stamp
            assert again.content_digest == lived.content_digest
            assert (again.domain.array == lived.domain.array).all()
    assert refused > 30


class Page(HTMLParser):
    """Tags and text of a piece of HTML; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert all(name == "style" for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_cards_show_numbers_and_escape_everything(lived: PatientTwin) -> None:
    card = Page(lived._repr_html_())
    estimate = lived.parameters["proliferation_per_day"]
    assert f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})" in card.text
    assert "PHANTOM" in card.text
    assert "day 28, day 56, day 84" in card.text
    assert "not a medical device" in card.text
    evil = "<script>alert(1)</script>&\"'"
    image, mask = ball()
    hostile = TumorTwinPipeline().create_twin(evil, {evil: image}, mask)
    hostile.history = (
        replace(hostile.snapshot, current_volume_cm3=replace(hostile.current_volume, source=evil)),
    )
    page = Page(hostile._repr_html_())
    assert page.tags == {"div", "b", "table", "tr", "td"}
    assert page.text.count(evil) == 2
    forecast = Page(lived.predict(28, samples=8)._repr_html_())
    assert f"day {lived.origin_day + 28:g}" in forecast.text


def test_representations_name_no_patient(lived: PatientTwin) -> None:
    """They end up in logs and tracebacks."""
    for thing in (lived, lived.predict(7, samples=8)):
        assert "PHANTOM" not in repr(thing)
        assert "cm3" in repr(thing)
    assert "3 follow-up scans, 1 treatment>" in repr(lived)


def test_frames_hold_the_numbers(lived: PatientTwin) -> None:
    pytest.importorskip("pandas")
    frame = lived.to_dataframe()
    assert list(frame["version"].unique()) == [1, 2, 3]
    row = frame[(frame.version == 3) & (frame.parameter == "proliferation_per_day")].iloc[0]
    assert (row.value, row.low, row.high) == (lived.proliferation_rate, *lived.proliferation_rate_interval)
    forecast = lived.predict(28, samples=8)
    days = forecast.to_dataframe()
    assert (days.volume_cm3.to_numpy() == forecast.volume_cm3).all()
    assert days.predicted.sum() == 4
    every = forecast.to_dataframe(samples=True)
    assert (every.pivot_table(index="sample", columns="day", values="volume_cm3").to_numpy()
            == forecast.samples_cm3).all()  # fmt: skip


def test_data_sets_have_units_and_places(lived: PatientTwin, tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    forecast = lived.predict(28, samples=8)
    data = forecast.to_xarray()
    assert data.tumour_volume.sel(time=84.0).item() == forecast.volume_cm3[list(forecast.days).index(84.0)]
    assert data.tumour_probability.dims == ("time", "slice", "row", "column")
    assert (data.tumour_density.to_numpy() == forecast.mean_density).all()
    for name in (*data.data_vars, "time", "slice", "row", "column"):
        assert data[name].attrs["units"], name
        assert data[name].attrs["long_name"], name
    where = np.argwhere(lived.lesion.array)[0]
    placed = data.affine.to_numpy() @ [*where, 1]
    assert placed[:3] == pytest.approx(lived.domain.index_to_mm(where))
    assert data["row"].to_numpy()[3] == pytest.approx(3 * lived.domain.spacing_mm[1])
    state = lived.to_xarray()
    assert (state.lesion.to_numpy() == lived.lesion.array).all()
    assert state.segmented_volume.to_numpy() == pytest.approx([v.volume_cm3 for v in lived.visits])
    assert "PHANTOM" not in str(data.attrs) + str(state.attrs)


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_dataframe"), ("xarray", "to_xarray")])
def test_a_missing_library_is_named_with_its_extra(
    lived: PatientTwin, monkeypatch: pytest.MonkeyPatch, package: str, call: str
) -> None:
    class Nowhere:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [each for each in sys.modules if each.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'digital-twins\["):
        getattr(lived, call)()
