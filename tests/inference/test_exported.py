"""An export is read back as the model that it was made of; one that could run code is refused unopened."""

import dataclasses
import io
import json
import pickle
import zipfile

import pytest
import torch

from ray_classy import load_model
from ray_classy.cli.main import main
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, DamagedCheckpointError, UnsafeFileError
from ray_classy.inference.evaluation import config_for
from ray_classy.inference.export import export_model
from ray_classy.inference.program_file import check_program
from ray_classy.inference.trained import read_trained


@pytest.fixture(scope="module")
def exports(result, tmp_path_factory):
    """The file of each format."""
    folder, trained = tmp_path_factory.mktemp("exports"), read_trained(result.path)
    paths = {}
    for form in ("pt2", "safetensors"):
        paths[form] = folder / f"r.{form}"
        paths[form].write_bytes(export_model(trained, form).content)
    return paths


@pytest.mark.parametrize("form", ["pt2", "safetensors"])
def test_it_predicts_image_files_as_the_run_does(exports, model, folder, form):
    files = [str(folder / f"{number:02}.png") for number in range(20)]
    again = load_model(str(exports[form]), "cpu")
    for found, expected in zip(again.predict(files), model.predict(files), strict=True):
        assert found.label == expected.label and found.score == pytest.approx(expected.score, abs=1e-5)
    assert again.classes == model.classes and again.metrics == model.metrics


def test_the_commands_take_it(exports, folder, tmp_path, capsys):
    labelled = tmp_path / "rows.csv"
    labelled.write_text("path,label\n" + "".join(f"{folder}/{number:02}.png,{number % 10}\n" for number in range(10)))
    assert main(["predict", str(exports["pt2"]), str(folder / "00.png")]) == 0
    assert main(["evaluate", str(exports["safetensors"]), str(labelled)]) == 0
    assert "rows          10" in capsys.readouterr().out
    assert main(["evaluate", str(exports["pt2"])]) == 1
    assert "name the data to evaluate it on" in capsys.readouterr().err
    assert main(["export", str(exports["pt2"])]) == 1
    assert "is an export already" in capsys.readouterr().err


def test_one_that_was_trained_on_a_folder_is_evaluated_on_a_folder(exports, tmp_path):
    trained = read_trained(str(exports["pt2"]))
    section = {"name": "image_path", "image_mode": "RGB", "batchsize_per_replica": 2}
    of_folder = dataclasses.replace(trained, config={**trained.config, "dataset": {"train": section}})
    assert "image_mode" not in config_for(of_folder, str(tmp_path))["dataset"]["test"]


def test_the_file_names_no_folder_of_the_machine_that_made_it(exports, result):
    for path in exports.values():
        data = path.read_bytes()
        assert str(result.path).encode() not in data and b"site-packages" not in data


@pytest.mark.parametrize("name", ["no.pt2", "no.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(CheckpointNotFoundError, match=f"no exported model at .*{name}"):
        load_model(str(tmp_path / name))


class Evil:
    def __reduce__(self):
        return print, ("run",)


def rebuilt(path, changed=(), compress=zipfile.ZIP_STORED, **more):
    """The archive with other members: functions of their content by name, and more of them."""
    source, target = zipfile.ZipFile(path), io.BytesIO()
    with zipfile.ZipFile(target, "w", compress) as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, dict(changed).get(name.partition("/")[2], lambda content: content)(data))
        for name, data in more.items():
            archive.writestr(f"archive/{name}", data)
    return target.getvalue()


def program(change):
    """Changes the JSON of the program."""

    def changed(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return {"models/model.json": changed}


def node(**changes):
    return program(lambda content: content["graph_module"]["graph"]["nodes"][0].update(changes))


def expression(text):
    return program(
        lambda content: content["graph_module"]["graph"]["tensor_values"]["images"]["sizes"][0]["as_expr"].update(
            expr_str=text
        )
    )


def spec(text):
    return program(lambda content: content["graph_module"]["module_call_graph"][0]["signature"].update(in_spec=text))


def pickled_weights(data):
    config = json.loads(data)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


EVIL = pickle.dumps(Evil())
IMPORT = json.dumps({"__enum__": 1, "fqn": "antigravity:X"})
ENUM = json.dumps([1, {"type": "builtins.tuple", "context": IMPORT, "children_spec": []}])
CRAFTED = {
    "sample inputs": (
        {"data/sample_inputs/model.pt": lambda data: EVIL},
        {},
        "data/sample_inputs/model.pt is a pickle",
    ),
    "weights": ({"data/weights/model_weights_config.json": pickled_weights}, {}, r"weights/weight_\d+\) is a pickle"),
    "objects": ({}, {"data/constants/custom_obj_0": EVIL}, "data/constants/custom_obj_0"),
    "opaque objects": ({}, {"data/constants/opaque_obj_0": EVIL}, "data/constants/opaque_obj_0"),
    "weights of old": ({}, {"data/weights/model.pt": EVIL}, "data/weights/model.pt"),
    "libraries": ({}, {"data/aotinductor/model/a.so": b"\x7fELF"}, "aotinductor"),
    "paths": ({}, {"../../evil": b""}, "evil"),
    "another model": ({}, {"models/other.json": b"{}"}, "models/other.json"),
    "functions": (node(target="torch.hub.load"), {}, "calls torch.hub.load"),
    "files": (node(target="torch.ops.aten.from_file.default"), {}, "calls torch.ops.aten.from_file.default"),
    "names": (node(outputs=[{"as_tensor": {"name": "a=print(1)"}}]), {}, "a name that could run code: 'a=print"),
    "sizes": (expression("__import__('os').system('id')"), {}, "an expression that could run code"),
    "texts in sizes": (expression("S('print(1)')"), {}, "an expression that could run code"),
    "long powers": (expression("9**9**9"), {}, "an expression that could run code"),
    "types": (spec(ENUM), {}, "something else than tensors"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_program_that_could_run_code_is_refused_unopened(exports, tmp_path, monkeypatch, case):
    changed, more, message = CRAFTED[case]
    monkeypatch.setattr(torch.export, "load", None)
    (tmp_path / "evil.pt2").write_bytes(rebuilt(exports["pt2"], changed, **more))
    with pytest.raises(UnsafeFileError, match=message):
        load_model(str(tmp_path / "evil.pt2"))


def test_what_would_be_run_as_guards_never_reaches_torch(exports):
    crafted = rebuilt(exports["pt2"], program(lambda content: content.update(guards_code=["print(1)"])))
    clean = zipfile.ZipFile(io.BytesIO(check_program(crafted)[0]))
    assert json.loads(clean.read("archive/models/model.json"))["guards_code"] == []


def test_compressed_members_are_refused(exports):
    with pytest.raises(UnsafeFileError, match=r"is compressed|ZIP bomb"):
        check_program(rebuilt(exports["pt2"], compress=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("pt2", b"", "not a program that torch.export wrote"),
        ("pt2", b"PK\x03\x04 and more", "its archive is damaged"),
        ("safetensors", b"0" * 100, "not a safetensors file"),
        ("safetensors", (2).to_bytes(8, "little") + b"{}", "no ray_classy.json in its metadata"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, form, content, message):
    (tmp_path / f"a.{form}").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_model(str(tmp_path / f"a.{form}"))


def record(**changes):
    return {"extra/ray_classy.json": lambda data: json.dumps({**json.loads(data), **changes}).encode()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "of a newer ray_classy"),
        ({"format": 0}, "its format is 0"),
        ({"classes": [1]}, r"classes\[0\]"),
        ({"classes": []}, "it has 0 classes"),
        ({"activation": "relu"}, "its activation must be softmax or sigmoid"),
        ({"input_shape": ["rows", 3, 10**9, 10**9]}, "its input_shape is impossible"),
        ({"preprocessing": {"image_mode": "RGB", "transforms": None}}, "neither transforms nor a known dataset"),
        ({"preprocessing": {"image_mode": "CMYK", "transforms": []}}, "image_mode must be RGB or L"),
        ({"preprocessing": {"image_mode": "L", "transforms": [], "options": {"a": 1}}}, "unknown options: a"),
        ({"test_time_augmentation": {"shift": -1}}, "shift must be an integer"),
        ({"normalization": {"mean": [0.5], "std": [0.0]}}, "its normalization divides by 0"),
        ({"model": {}}, "its model has no name"),
    ],
)
def test_a_record_that_cannot_be_is_refused(exports, tmp_path, changes, message):
    (tmp_path / "a.pt2").write_bytes(rebuilt(exports["pt2"], record(**changes)))
    with pytest.raises(DamagedCheckpointError, match=message):
        read_trained(str(tmp_path / "a.pt2"))


def test_weights_that_do_not_fit_their_model_are_refused_before_it_is_built(exports, tmp_path):
    from safetensors.torch import load, save

    facts = read_record(exports["safetensors"])
    facts["model"] = {"name": "mlp", "input_dim": 10**7, "output_dim": 10**7, "hidden_dims": [10**7]}
    content = save(load(exports["safetensors"].read_bytes()), {"ray_classy.json": json.dumps(facts)})
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"its weights do not fit its model: .* is missing"):
        load_model(str(tmp_path / "a.safetensors"))


def read_record(path):
    from ray_classy.checkpoint.safetensors_file import read_metadata

    return json.loads(read_metadata(path.read_bytes())["ray_classy.json"])
