"""From a models folder to what is served: versions, pins, half-copied folders, and refusals that harm no one else."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from batchproof.service.bundle.reader import Bundle, Limits
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.inference import model
from batchproof.service.inference.catalogue import registry
from batchproof.service.inference.catalogue.repository import Refusal, naming
from batchproof.service.inference.catalogue.roots import newest
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from tests.bundles import make_bundle, reseal


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), "a", 1)


@pytest.fixture
def models(sound: Path, tmp_path: Path) -> Path:
    """Return a models folder with a/1, a/2, a/10 and b/1."""
    root = tmp_path / "models"
    for name, version in (("a", 1), ("a", 2), ("a", 10), ("b", 1)):
        folder = Path(shutil.copytree(sound, root / name / str(version)))
        reseal(folder, lambda content, name=name, version=version: content.update(name=name, version=version))
    return root


def load_one(bundle: Bundle) -> Model:
    return model.load(bundle, EngineOptions(device="cpu"), run_rows=64)


def served(loaded: registry.Registry) -> dict[str, list[int]]:
    return {name: list(versions) for name, versions in loaded.models.items()}


def test_newest_version_is_served(models: Path) -> None:
    """The newest version of each model is served: 10 is newer than 2."""
    loaded = registry.load(models, load_one)
    assert served(loaded) == {"a": [10], "b": [1]}
    assert loaded.refusals == ()
    assert loaded.newest("a").manifest.version == 10


def test_all_versions_are_served_where_asked(models: Path) -> None:
    """With `all`, each version answers, and the newest is the default one."""
    loaded = registry.load(models, load_one, Selection("all"))
    assert served(loaded) == {"a": [10, 2, 1], "b": [1]}
    assert loaded.newest("a").manifest.version == 10


def test_pinned_version_is_served_alone(models: Path) -> None:
    """A pin serves just that version and leaves other models as they were."""
    assert served(registry.load(models, load_one, Selection(pins={"a": 2}))) == {"a": [2], "b": [1]}
    assert served(registry.load(models, load_one, Selection("all", {"a": 1}))) == {"a": [1], "b": [1]}


def test_pin_that_is_not_there_is_refused_by_name(models: Path) -> None:
    """Where the pinned version is missing, nothing takes its place and nothing is served."""
    with pytest.raises(BundleError, match=r"^Model 'a': version 7 is pinned, but .* has no folder a/7$"):
        registry.load(models, load_one, Selection(pins={"a": 7}))


def test_bad_bundle_takes_no_good_one_down(models: Path) -> None:
    """A damaged newest version is refused by name; the older one and the other model are served."""
    (models / "a" / "10" / "model.onnx").write_bytes(b"damaged")
    loaded = registry.load(models, load_one)
    assert served(loaded) == {"a": [2], "b": [1]}
    (refusal,) = loaded.refusals
    assert (refusal.name, refusal.version) == ("a", 10)
    assert refusal.message.startswith("model.onnx has 7 bytes, but bundle.json says ")


def test_bad_pinned_bundle_has_no_stand_in(models: Path) -> None:
    """Where the pinned version is damaged, that model is not served."""
    (models / "a" / "2" / "golden.json").unlink()
    loaded = registry.load(models, load_one, Selection(pins={"a": 2}))
    assert served(loaded) == {"b": [1]}
    assert loaded.refusals == (Refusal("a", 2, "golden.json is missing: bundle.json lists it"),)


def test_engine_that_refuses_one_model_leaves_the_rest(models: Path) -> None:
    """An EngineError while loading one model is its refusal."""

    def no_b(bundle: Bundle) -> Model:
        if bundle.manifest.name == "b":
            raise EngineError("no room")
        return load_one(bundle)

    loaded = registry.load(models, no_b)
    assert served(loaded) == {"a": [10]}
    assert loaded.refusals == (Refusal("b", 1, "no room"),)


def test_unfinished_and_hidden_folders_are_passed_over(models: Path) -> None:
    """A folder still being copied has no bundle.json yet; temporary ones are hidden; neither is an error."""
    (models / "a" / "11").mkdir()
    shutil.copy(models / "a" / "10" / "model.onnx", models / "a" / "11")
    shutil.copytree(models / "a" / "10", models / "a" / ".tmp-12")
    shutil.copytree(models / "a", models / ".cache")
    (models / "README.md").write_text("x")
    (models / "empty").mkdir()
    loaded = registry.load(models, load_one)
    assert served(loaded) == {"a": [10], "b": [1]}
    assert loaded.refusals == ()


def test_folder_name_and_manifest_must_agree(models: Path) -> None:
    """A bundle moved to another version's folder, or another model's, is refused."""
    (models / "a" / "10").rename(models / "a" / "11")
    (refusal,) = registry.load(models, load_one).refusals
    assert refusal == Refusal("a", 11, "bundle.json says a version 10, but its folder says a version 11")


@pytest.mark.parametrize("version", ["v3", "0", "01", "-1", "1.0", "٣"])
def test_version_that_is_no_number_is_refused(models: Path, version: str) -> None:
    """A bundle in a folder that is no positive whole number is refused instead of silently left out."""
    (models / "b" / "1").rename(models / "b" / version)
    loaded = registry.load(models, load_one)
    assert served(loaded) == {"a": [10]}
    (refusal,) = loaded.refusals
    assert refusal.message.endswith(f"{version}: a version is a positive whole number such as 1")


def test_links_below_the_root_are_refused(models: Path, tmp_path: Path) -> None:
    """A model or a version that is a link is refused by name; the models folder itself may be one."""
    (models / "a" / "10").rename(tmp_path / "outside")
    (models / "a" / "10").symlink_to(tmp_path / "outside")
    (models / "b").rename(tmp_path / "b")
    (models / "b").symlink_to(tmp_path / "b")
    (tmp_path / "link").symlink_to(models)
    loaded = registry.load(tmp_path / "link", load_one)
    assert served(loaded) == {"a": [2]}
    assert [(refusal.name, refusal.version) for refusal in loaded.refusals] == [("b", None), ("a", 10)]
    assert all("links are not followed" in refusal.message for refusal in loaded.refusals)


def test_one_model_and_one_bundle_can_be_given(models: Path, tmp_path: Path) -> None:
    """The folder of one model, or of one bundle, is served as it stands, whatever the bundle's folder is called."""
    assert served(registry.load(models / "a", load_one)) == {"a": [10]}
    shutil.copytree(models / "a" / "2", tmp_path / "bundle")
    assert served(registry.load(tmp_path / "bundle", load_one)) == {"a": [2]}


def test_the_name_of_a_mounted_folder_means_nothing(models: Path, tmp_path: Path) -> None:
    """Versions of one model in a folder of any name are served under the model's name, which pins and labels have too."""
    mounted = (models / "a").rename(tmp_path / "mnt")
    for version, text in ((12, '{"name": 7}'), (13, "{"), (14, "[]")):
        (mounted / str(version)).mkdir()
        (mounted / str(version) / "bundle.json").write_text(text)
    loaded = registry.load(mounted, load_one, Selection(pins={"a": 2}))
    assert served(loaded) == {"a": [2]}
    loaded = registry.load(mounted, load_one)
    assert served(loaded) == {"a": [10]}
    assert [(one.name, one.version) for one in loaded.refusals] == [("a", 14), ("a", 13), ("a", 12)]


def test_versions_of_several_models_are_not_one_model(models: Path, tmp_path: Path) -> None:
    """Where versions in one folder name different models, those of the newest one's are served, and others refused."""
    mounted = (models / "a").rename(tmp_path / "mnt")
    make_bundle(tmp_path, "other", 1)
    shutil.rmtree(mounted / "1")
    (tmp_path / "other" / "1").rename(mounted / "1")
    loaded = registry.load(mounted, load_one, Selection("all"))
    assert served(loaded) == {"a": [10, 2]}
    (refusal,) = loaded.refusals
    assert refusal.message == "bundle.json says other version 1, but its folder says a version 1"


@pytest.mark.parametrize(
    "path, sentence",
    [
        ("none", "there is no model or bundle MODELS/none$"),
        ("aa/1", "there is no model or bundle MODELS/aa; the nearest name there is 'a'$"),
        ("a/9", "there is no model or bundle MODELS/a/9; the versions there: 1, 2, 10$"),
        ("a/2/bundle.json", "MODELS/a/2/bundle.json is a file; a model or a bundle is a folder$"),
    ],
)
def test_a_root_that_is_no_folder_is_refused(models: Path, path: str, sentence: str) -> None:
    """A model that is not there stops the start with one sentence: what is missing, and what is there instead."""
    with pytest.raises(BundleError, match=sentence.replace("MODELS", re.escape(str(models)))):
        registry.load(models / path, load_one)


def test_limits_reach_the_reader(models: Path) -> None:
    """Every bundle is read within the limits given."""
    loaded = registry.load(models, load_one, limits=Limits(model_bytes=10))
    assert served(loaded) == {}
    assert {refusal.message for refusal in loaded.refusals} == {"model.onnx has more than the allowed 10 bytes"}
    assert len(loaded.refusals) == 4


def test_golden_answers_are_reproduced_before_serving(models: Path) -> None:
    """A bundle whose golden bits are not what its graph gives is refused, naming the row and the output."""
    path = models / "b" / "1" / "golden.json"
    content = json.loads(path.read_bytes())
    digits = content["outputs"]["probabilities"]["hex"]
    content["outputs"]["probabilities"]["hex"] = digits[:24] + "0000803f" + digits[32:]
    path.write_text(json.dumps(content))
    reseal(path.parent)
    (refusal,) = registry.load(models, load_one).refusals
    assert refusal.message.startswith("golden row 1 gives probabilities[0] = ")


def test_golden_row_that_the_signature_refuses_is_refused(models: Path) -> None:
    """A golden row is held to the signature as a request is."""
    path = models / "b" / "1" / "golden.json"
    content = json.loads(path.read_bytes())
    content["rows"][3][2] = "three"
    path.write_text(json.dumps(content))
    reseal(path.parent)
    (refusal,) = registry.load(models, load_one).refusals
    assert refusal.message == "golden.json row 3, feature 'count': expected a number, got a string"


def test_folder_that_cannot_be_listed_harms_no_other(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's folder that this process may not list is one refusal: the other models load."""
    real = os.scandir

    def scandir(path: Path) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    loaded = registry.load(models, load_one)
    assert served(loaded) == {"b": [1]}
    assert [(refusal.name, refusal.version) for refusal in loaded.refusals] == [("a", None)]
    assert loaded.refusals[0].message.endswith("a cannot be listed: Permission denied")


def test_a_snapshot_is_loaded_as_the_folder_was(tmp_path: Path) -> None:
    """What was read once is loaded later, refusals included, whatever became of the folder."""
    for version in (1, 2):
        make_bundle(tmp_path / "models", version=version)
    make_bundle(tmp_path / "models", name="others")
    (tmp_path / "models" / "flowers" / "2" / "model.onnx").write_bytes(b"broken")
    snapshot = registry.take_snapshot(tmp_path / "models")
    before = registry.load(tmp_path / "models", load_one)
    (tmp_path / "models").rename(tmp_path / "gone")
    after = registry.load(tmp_path / "models", load_one, snapshot=snapshot)
    assert {name: list(versions) for name, versions in after.models.items()} == {"flowers": [1], "others": [1]}
    assert after.refusals == before.refusals
    digests = [
        [model.manifest.sha256 for versions in loaded.models.values() for model in versions.values()]
        for loaded in (before, after)
    ]
    assert digests[0] == digests[1]


def test_labels_name_served_versions(models: Path) -> None:
    """A label is `<model>.<label> = version`, models' names may hold dots; each version knows the labels that it has."""
    settings = Settings(labels={"a.stable": 2, "a.canary": 10, "b.x.y": 1})
    selection = Selection.of(settings)
    assert selection.labels == {"a": {"stable": 2, "canary": 10}, "b.x": {"y": 1}}
    loaded = registry.load(models, load_one, selection)
    assert served(loaded)["a"] == [10, 2]
    assert (loaded.labels_of("a", 2), loaded.labels_of("a", 10), loaded.labels_of("b", 1)) == (
        ["stable"],
        ["canary"],
        [],
    )


def test_a_caller_sees_only_its_models(models: Path) -> None:
    """Models and refusals that a caller may not see are not in its registry, and their names are not either."""
    (models / "b" / "1" / "model.onnx").write_bytes(b"damaged")
    loaded = registry.load(models, load_one)
    assert loaded.names == ["a", "b"]
    mine = loaded.only(lambda name: name == "a")
    assert (mine.names, mine.refusals, served(mine)) == (["a"], (), {"a": [10]})


def test_the_newest_bundle_of_a_path_is_meant(models: Path, tmp_path: Path) -> None:
    """A path means the newest bundle of its one model; none, or several models, are refused with what is there."""
    assert newest(models / "a") == models / "a" / "10"
    assert newest(models / "a" / "2") == models / "a" / "2"
    with pytest.raises(BundleError, match=r"holds several models; name one of \S+/a, \S+/b$"):
        newest(models)
    with pytest.raises(BundleError, match=r"holds no bundle: no bundle\.json was found"):
        newest(tmp_path)
    shutil.rmtree(models / "a")
    (models / "b" / "1").rename(models / "b" / "one")
    with pytest.raises(BundleError, match="one: a version is a positive whole number"):
        newest(models)


def test_refusals_name_their_bundle_once(tmp_path: Path) -> None:
    """A refusal says which bundle it is about, and says it once."""
    for given, said in (
        ("model.onnx is missing", f"{tmp_path}: model.onnx is missing"),
        (f"{tmp_path} is a file",) * 2,
    ):
        with pytest.raises(BundleError) as caught, naming(tmp_path):
            raise BundleError(given)
        assert str(caught.value) == said
