"""A model as a file of ONNX, which onnxruntime runs."""

import json

import pytest
import torch

from ray_classy import load_model
from ray_classy.errors import CheckpointError, DamagedCheckpointError, UnsafeFileError
from ray_classy.inference.export import export_model
from ray_classy.inference.onnx_file import check_onnx
from ray_classy.inference.trained import read_trained

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.full  # the exporter takes seconds


@pytest.fixture(scope="module")
def made(result):
    return export_model(read_trained(result.path), "onnx")


@pytest.fixture
def changed(made):
    """The file with a change."""

    def change(how):
        model = onnx.load_model_from_string(made.content)
        how(model)
        return model.SerializeToString()

    return change


def test_it_predicts_image_files_as_the_run_does(made, model, folder, tmp_path):
    (tmp_path / "r.onnx").write_bytes(made.content)
    files = [str(folder / f"{number:02}.png") for number in range(20)]
    again = load_model(str(tmp_path / "r.onnx"), "cpu")
    for rows in (20, 1):
        for found, expected in zip(again.predict(files[:rows]), model.predict(files[:rows]), strict=True):
            assert found.label == expected.label and found.score == pytest.approx(expected.score, abs=1e-5)


def test_it_was_compared_on_rows_of_the_test_data(made):
    assert made.lacking == "" and made.difference < 1e-4


def test_other_programs_find_the_record_and_the_number_of_rows_is_free(made):
    import onnxruntime

    session = onnxruntime.InferenceSession(made.content, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["ray_classy.json"])
    assert facts["classes"] == [str(number) for number in range(10)]
    assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["images", "scores"]
    assert isinstance(session.get_inputs()[0].shape[0], str)


def test_the_file_names_no_folder_of_the_machine_that_made_it(made):
    assert b"site-packages" not in made.content and b'File "' not in made.content


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def test_numbers_in_another_file_are_refused(changed):
    with pytest.raises(UnsafeFileError, match=r"in another file, '../../etc/passwd'"):
        check_onnx(changed(external))


def test_a_file_without_the_record_is_refused(changed):
    with pytest.raises(CheckpointError, match=r"no ray_classy.json in its metadata"):
        check_onnx(changed(lambda model: model.ClearField("metadata_props")))


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(DamagedCheckpointError, match="not a file of ONNX"):
        check_onnx(b"no onnx" * 10)


def test_a_file_that_onnxruntime_does_not_take_is_refused(changed, tmp_path):
    def unknown(model):
        model.graph.node[0].op_type = "Unknown"

    (tmp_path / "a.onnx").write_bytes(changed(unknown))
    with pytest.raises(DamagedCheckpointError, match="onnxruntime cannot load it"):
        load_model(str(tmp_path / "a.onnx"))


def test_inputs_of_another_shape_are_an_error(made, tmp_path):
    (tmp_path / "r.onnx").write_bytes(made.content)
    with pytest.raises(CheckpointError, match="the model fails on inputs"):
        load_model(str(tmp_path / "r.onnx"), "cpu").probabilities(torch.rand(2, 1, 8, 8))
