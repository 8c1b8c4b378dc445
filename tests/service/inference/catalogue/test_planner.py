"""What is served next follows from the folder, from what is wanted and from what is served; no look takes a model down."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from batchproof.service.errors import BundleError
from batchproof.service.inference import model
from batchproof.service.inference.catalogue import plan as plans
from batchproof.service.inference.catalogue import registry
from batchproof.service.inference.catalogue.plan import Plan
from batchproof.service.inference.catalogue.planner import Planner, Wish
from batchproof.service.inference.catalogue.repository import Refusal
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.inference.engine import EngineOptions
from tests.bundles import make_bundle, reseal

NOTHING = Plan(0, ())
ALL = Wish(Selection("all"), 0.1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), "a", 1)


class Folder:
    """A models folder, and a planner that looks at it."""

    def __init__(self, sound: Path, root: Path) -> None:
        self.sound = sound
        self.root = root
        self.planner = Planner(root, Shelf())
        for name, version in (("a", 1), ("a", 2), ("b", 1)):
            self.put(name, version)

    def put(self, name: str, version: int) -> Path:
        """Put a version into the folder."""
        folder = Path(shutil.copytree(self.sound, self.root / name / str(version)))
        reseal(folder, lambda content: content.update(name=name, version=version))
        return folder

    def damage(self, name: str, version: int) -> None:
        """Have a version that cannot be read."""
        (self.root / name / str(version) / "model.onnx").write_bytes(b"damaged")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Folder:
    return Folder(sound, tmp_path / "models")


def versions(plan: Plan) -> list[tuple[str, int]]:
    return [entry[:2] for entry in plan.entries]


def test_what_did_not_change_keeps_its_plan(folder: Folder) -> None:
    """A look that finds nothing new returns an equal plan of the same generation; a new version makes the next one."""
    first = folder.planner.plan(Wish(Selection(), 0.1), NOTHING)
    assert (first.generation, versions(first), first.defaults) == (1, [("a", 2), ("b", 1)], {"a": 2, "b": 1})
    assert folder.planner.plan(Wish(Selection(), 0.1), first) == first
    folder.put("a", 3)
    then = folder.planner.plan(Wish(Selection(), 0.1), first)
    assert (then.generation, versions(then), then.defaults) == (2, [("a", 3), ("b", 1)], {"a": 3, "b": 1})
    assert folder.planner.folder_of(then.entries[0]) == folder.root / "a" / "3"


def test_a_plan_reads_back_from_its_json(folder: Folder) -> None:
    """What a worker is sent is the whole plan, refusals, labels and challengers included."""
    folder.damage("b", 1)
    wish = Wish(Selection("all", labels={"a": {"stable": 1}}, shadows={"a": 2}), 0.25)
    plan = folder.planner.plan(wish, NOTHING)
    assert plan.refusals
    assert (plan.shadows, plan.shadow_share, plan.labels) == ({"a": 2}, 0.25, {"a": {"stable": 1}})
    assert Plan.from_json(plan.as_json()) == plan


@pytest.mark.parametrize("change", ["damaged", "overwritten by another version"])
def test_what_is_served_stays_while_its_folder_is_there(folder: Folder, change: str) -> None:
    """A version whose files are being overwritten stays as it is, and is no reason to fall back; the refusal is said."""
    served = folder.planner.plan(Wish(Selection(), 0.1), NOTHING)
    if change == "damaged":
        folder.damage("a", 2)
    else:
        reseal(folder.root / "a" / "2", lambda content: content.update(version=9))
    after = folder.planner.plan(Wish(Selection(), 0.1), served)
    assert (after.generation, after.entries, after.defaults) == (served.generation, served.entries, served.defaults)
    assert [(refusal.name, refusal.version) for refusal in after.refusals] == [("a", 2)]
    shutil.rmtree(folder.root / "a" / "2")
    assert versions(folder.planner.plan(Wish(Selection(), 0.1), after)) == [("a", 1), ("b", 1)]


def test_a_version_that_cannot_be_read_is_passed_over(folder: Folder) -> None:
    """A newest version that was never served and cannot be read leaves the one before it."""
    folder.put("a", 3)
    folder.damage("a", 3)
    plan = folder.planner.plan(Wish(Selection(), 0.1), NOTHING)
    assert (plan.defaults, [refusal.version for refusal in plan.refusals]) == ({"a": 2, "b": 1}, [3])


def test_a_folder_that_lost_everything_takes_nothing_down(folder: Folder) -> None:
    """A folder without bundles, or with none that can be served, is refused while something is served."""
    served = folder.planner.plan(ALL, NOTHING)
    (folder.root / "a").rename(folder.root / "c")
    shutil.rmtree(folder.root / "b")
    for version in (1, 2):
        folder.damage("c", version)
    with pytest.raises(BundleError, match=r"nothing in .* can be served"):
        folder.planner.plan(ALL, served)
    shutil.rmtree(folder.root / "c")
    with pytest.raises(BundleError, match="holds no bundle any more"):
        folder.planner.plan(ALL, served)
    assert folder.planner.plan(ALL, NOTHING).entries == ()


def test_a_pin_without_a_folder_is_refused(folder: Folder) -> None:
    """A pinned version must be there, unless its model was unloaded or is not the one that may change."""
    wish = Wish(Selection(pins={"a": 7}), 0.1)
    with pytest.raises(BundleError, match="version 7 is pinned"):
        folder.planner.plan(wish, NOTHING)
    assert versions(folder.planner.plan(replace(wish, unloaded=frozenset({"a"})), NOTHING)) == [("b", 1)]
    assert versions(folder.planner.plan(replace(wish, only="b"), NOTHING)) == [("b", 1)]


def test_unloaded_models_leave(folder: Folder) -> None:
    """A model that a caller has unloaded is not in the plan, whatever its folder holds, not even as the last one."""
    served = folder.planner.plan(ALL, NOTHING)
    wish = replace(ALL, unloaded=frozenset({"a", "b"}))
    labelled = replace(wish, selection=replace(wish.selection, labels={"a": {"stable": 1}}))
    after = folder.planner.plan(labelled, served)
    assert (after.entries, after.labels) == ((), {})


def test_one_model_changes_without_the_others(folder: Folder) -> None:
    """Where only one model may change, all that concerns the others stays as it is served, refusals included."""
    served = replace(
        folder.planner.plan(Wish(Selection("all", shadows={"b": 1}, labels={"b": {"x": 1}}), 0.1), NOTHING),
        refusals=(Refusal("b", 2, "damaged"),),
    )
    folder.put("a", 3)
    shutil.rmtree(folder.root / "b" / "1")
    wish = Wish(Selection("all", shadows={"a": 3}, labels={"a": {"y": 3}, "b": {"x": 9}}), 0.1, only="a")
    after = folder.planner.plan(wish, served)
    assert versions(after) == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
    assert (after.shadows, after.labels) == ({"a": 3, "b": 1}, {"a": {"y": 3}, "b": {"x": 1}})
    assert after.refusals == served.refusals


def test_a_label_moves_only_to_what_is_served(folder: Folder) -> None:
    """A label whose version cannot be served stays where it was, or is not there; the reason is said once."""

    def wish(**labels: int) -> Wish:
        return Wish(Selection(labels={"a": labels}), 0.1)

    served = folder.planner.plan(wish(stable=1), NOTHING)
    assert served.labels == {"a": {"stable": 1}}
    after = folder.planner.plan(wish(stable=9, new=9), served)
    assert after.labels == {"a": {"stable": 1}}
    assert versions(after) == [("a", 1), ("a", 2), ("b", 1)]
    (refusal,) = after.refusals
    assert refusal.message == "label 'stable' cannot move to version 9, which is not served"


def test_a_plan_knows_its_entries(folder: Folder) -> None:
    """An entry is found by its version or by its folder; what is not served has none."""
    plan = folder.planner.plan(ALL, NOTHING)
    entry = plan.entry("a", 2)
    assert entry is not None
    assert plan.at(folder.root / "a" / "2") == entry
    assert (plan.entry("a", 9), plan.at(folder.root)) == (None, None)
    assert f"a/2/{entry.sha256}".encode() in plan.seals()
    assert plans.Fault("why", entry).entry == entry


def test_the_plan_of_the_start_is_what_was_loaded(folder: Folder) -> None:
    """What the start loaded is the first plan: a look at the unchanged folder changes nothing."""
    folder.damage("b", 1)
    selection = Selection("all", labels={"a": {"stable": 1}}, shadows={"a": 2})
    loaded = registry.load(folder.root, lambda bundle: model.load(bundle, EngineOptions("cpu"), 64), selection)
    first = Plan.of(loaded, 0.1)
    assert (first.generation, versions(first), first.labels) == (1, [("a", 1), ("a", 2)], {"a": {"stable": 1}})
    assert folder.planner.plan(Wish(selection, 0.1), first) == first
