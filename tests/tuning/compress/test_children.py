"""Children of a version: proven, named after their parent, made once; and measuring them beside it on real engines."""

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from penstock.base.errors import InvalidInput
from penstock.registry.service import Registry
from penstock.spec.messages import Message
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.compress import measuring
from penstock.tuning.compress.children import ChildService
from penstock.tuning.compress.errors import CannotMeasure, CannotQuantise, EngineDisagrees
from penstock.tuning.compress.shrink import Shrinking
from penstock.tuning.compress.types import MeasureWork, SpeedPlan, TaskItem, TextItem, VersionFacts
from penstock.tuning.convert.architectures import DecoderShape, read_shape
from penstock.tuning.convert.safetensors import Weights
from penstock.tuning.errors import NotTrainable, ParityFailed
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.models import ModelService
from penstock.tuning.references import decoder_logits, log_softmax
from penstock.tuning.served import load_served_renderer
from tests.tuning.tiny_models import make_llama

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("children")


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[Registry]:
    engine = open_control(f"sqlite:///{place / 'control.db'}")
    yield Registry(engine, BlobStore(str(place / "blobs")))
    engine.dispose()


@pytest.fixture(scope="module")
def models(registry: Registry, place: Path) -> ModelService:
    service = ModelService(registry, BlobStore(str(place / "blobs")), work=place / "work")
    service.pull("tiny", f"folder:{make_llama(place / 'tiny')}", keep_original=False)
    return service


@pytest.fixture(scope="module")
def children(registry: Registry, models: ModelService, place: Path) -> ChildService:
    return ChildService(models, registry, BlobStore(str(place / "blobs")), work=place / "work")


def test_children_are_proven_name_their_parent_and_are_made_once(
    registry: Registry, children: ChildService
) -> None:
    made = children.quantise("model:tiny@1", ("q8_0", "q4_0"))
    assert [child.precision for child in made] == ["q8_0", "q4_0"]
    assert made[1].size_bytes < made[0].size_bytes < registry.resolve("model:tiny@1").content["size_bytes"]
    parent = registry.resolve("model:tiny@1")
    for child in made:
        version = registry.resolve(child.label)
        assert child.parity["passed"] and child.is_new
        assert parent.digest in version.parents
        lineage = msgspec.convert(version.content["lineage"], ModelLineage)
        assert lineage.base is not None and (lineage.base.digest, lineage.method) == (
            parent.digest,
            "quantise",
        )
        assert version.content["renderer_digest"] == parent.content["renderer_digest"]
        assert version.content["golden"] == parent.content["golden"]
        assert version.content["sampling"] == parent.content["sampling"]
    again = children.quantise("model:tiny@1", ("q4_0", "q8_0"))
    assert [(child.label, child.is_new) for child in again] == [
        (made[1].label, False),
        (made[0].label, False),
    ]
    assert registry.aliases("model", "tiny") == {"prod": 1}


def test_what_was_rounded_is_not_rounded_again(children: ChildService) -> None:
    """peft#2321, unsloth-zoo#810: weights rounded twice are another model than was evaluated."""
    child = children.quantise("model:tiny@1", ("q8_0",))[0]
    with pytest.raises(CannotQuantise, match="rounding twice") as caught:
        children.quantise(child.label, ("q4_0",))
    assert caught.value.hint is not None and "model:tiny@1" in caught.value.hint
    with pytest.raises(NotTrainable):
        children.shrink(child.label, Shrinking(layers=1), name="tiny-small")


def test_prod_is_not_moved_here(children: ChildService) -> None:
    with pytest.raises(InvalidInput, match="gate"):
        children.quantise("model:tiny@1", ("q8_0",), alias="prod")


def test_another_alias_moves_to_the_child(children: ChildService, registry: Registry) -> None:
    child = children.quantise("model:tiny@1", ("q8_0",), alias="small")[0]
    assert f"model:tiny@{registry.aliases('model', 'tiny')['small']}" == child.label
    with pytest.raises(InvalidInput, match="several"):
        children.quantise("model:tiny@1", ("q8_0", "q4_0"), alias="small")


def test_the_precision_it_has_is_no_child(children: ChildService) -> None:
    with pytest.raises(CannotQuantise, match="itself"):
        children.quantise("model:tiny@1", ("f16",))


def test_a_child_that_fails_its_proof_is_not_registered(
    children: ChildService,
    registry: Registry,
    models: ModelService,
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
) -> None:
    models.pull("broken", f"folder:{make_llama(place / 'broken', seed=8)}", keep_original=False)

    def fail(report: object) -> None:
        raise ParityFailed("It does not answer as its source does.")

    monkeypatch.setattr("penstock.tuning.packaging.demand_parity", fail)
    with pytest.raises(ParityFailed):
        children.quantise("model:broken@1", ("q8_0",))
    assert [version.number for version in registry.list_versions("model", "broken")] == [1]


def test_a_smaller_model_keeps_its_weights_to_be_trained_on(
    children: ChildService, registry: Registry, models: ModelService, tmp_path: Path
) -> None:
    child = children.shrink("model:tiny@1", Shrinking(layers=1), name="tiny-small")
    version = registry.resolve(child.label)
    assert child.n_parameters < registry.resolve("model:tiny@1").content["n_parameters"]
    assert version.content["lineage"]["method"] == "shrink" and "safetensors" in version.content["formats"]
    assert models.checkout(child.label, tmp_path / "out").context_length == 256


# measuring


def facts_of(models: ModelService, labels: list[str], work: MeasureWork) -> list[VersionFacts]:
    given = []
    for label in labels:
        served = models.serve_version(label)
        given.append((served, load_served_renderer(served), 1000))
    return measuring.measure(given, work, lambda _share, _text: None)


TEXTS = (
    TextItem(row="one", text="Walking every day keeps the heart strong and the mind calm."),
    TextItem(
        row="two",
        messages=(
            Message(role="user", content="Where to sleep?"),
            Message(role="assistant", content="In a dark room."),
        ),
    ),
)


def test_chances_are_those_of_the_reference_computation(
    children: ChildService, models: ModelService, tmp_path: Path
) -> None:
    folder = models.checkout("model:tiny@1", tmp_path / "out")
    shape = read_shape(folder.folder)
    assert isinstance(shape, DecoderShape)
    weights = Weights(folder.folder)
    tensors = dict(weights)
    weights.close()
    work = MeasureWork(versions=(), parts=("texts",), texts=TEXTS)
    small = children.quantise("model:tiny@1", ("q4_0",))[0]
    own, rounded = facts_of(models, ["model:tiny@1", small.label], work)
    assert own.texts is not None and rounded.texts is not None
    ids = folder.renderer.encode_texts([str(TEXTS[0].text)])[0]
    logs = log_softmax(decoder_logits(shape, tensors, ids))
    expected = -float(logs[np.arange(len(ids) - 1), ids[1:]].sum())
    assert own.texts.rows[0].n_tokens == len(ids) - 1
    assert own.texts.rows[0].nll == pytest.approx(expected, rel=0.01)
    assert own.texts.anchor is not None and own.texts.anchor < 0.05
    assert [row.kl for row in own.texts.rows] == [None, None]
    assert all(row.kl is not None and row.kl > 0 for row in rounded.texts.rows)
    reply = folder.renderer.render_chat(TEXTS[1].messages, add_generation_prompt=False)
    prompt = folder.renderer.render_chat(TEXTS[1].messages[:1])
    assert own.texts.rows[1].n_tokens == len(reply) - len(prompt)


def test_a_head_that_is_not_the_engines_is_found_out(
    models: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measuring.read_head
    monkeypatch.setattr(measuring, "read_head", lambda gguf: real(gguf)[::-1].copy())
    with pytest.raises(EngineDisagrees):
        facts_of(models, ["model:tiny@1"], MeasureWork(versions=(), parts=("texts",), texts=TEXTS))


def test_size_speed_and_replies_come_for_each_version(children: ChildService, models: ModelService) -> None:
    small = children.quantise("model:tiny@1", ("q8_0",))[0]
    work = MeasureWork(
        versions=(),
        parts=("size", "speed", "tasks"),
        tasks=(TaskItem(case="c", messages=(Message(role="user", content="Hello!"),), max_tokens=5),),
        speed=SpeedPlan(rounds=2, streams=(1, 2), prompt_tokens=40, reply_tokens=12),
    )
    own, other = facts_of(models, ["model:tiny@1", small.label], work)
    for each in (own, other):
        assert each.size is not None and each.size.file_bytes > 0 and each.size.load_s is not None
        assert [(one.streams, one.prompt_tokens, one.reply_tokens) for one in each.speed] == [
            (1, 40, 12),
            (2, 80, 24),
        ] * 2
        assert all(one.reply_s > 0 and math.isfinite(one.prompt_s) for one in each.speed)
        assert each.replies[0].case == "c" and each.replies[0].finish in {"stop", "length"}
    assert own.size is not None and other.size is not None and other.size.file_bytes < own.size.file_bytes


def test_a_prompt_over_the_context_is_an_error_of_its_case_alone(models: ModelService) -> None:
    long = TaskItem(case="long", messages=(Message(role="user", content="word " * 400),))
    short = TaskItem(case="short", messages=(Message(role="user", content="Hi"),), max_tokens=2)
    work = MeasureWork(versions=(), parts=("tasks",), tasks=(long, short))
    replies = facts_of(models, ["model:tiny@1"], work)[0].replies
    assert replies[0].finish == "error" and replies[0].error is not None and "256" in replies[0].error
    assert replies[1].error is None


def test_speed_that_does_not_fit_the_context_is_refused(models: ModelService) -> None:
    work = MeasureWork(versions=(), parts=("speed",), speed=SpeedPlan(prompt_tokens=300))
    with pytest.raises(CannotMeasure, match="reads 256 tokens"):
        facts_of(models, ["model:tiny@1"], work)
