"""`ray-classy schema`: the JSON schema of configs."""

import json

OWN = """
from ray_classy.losses import ClassyLoss, register_loss

@register_loss("loss_of_a_schema")
class LossOfASchema(ClassyLoss):
    '''Counts.

    Args:
        size: how much.
        api_key: of the store.
    '''
    def __init__(self, size: int = 3, api_key: str | None = "abcdefgh12345678") -> None:
        super().__init__()
"""


def test_components_that_a_config_imports_are_in_it(ray_classy, tmp_path):
    (tmp_path / "module_of_a_schema.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text("imports: [module_of_a_schema]\n")
    out = ray_classy("schema", str(tmp_path / "own.yaml")).out
    component = json.loads(out)["$defs"]["loss.loss_of_a_schema"]
    assert component["description"] == "Counts." and component["properties"]["size"]["description"] == "How much."
    assert component["properties"]["size"]["default"] == 3
    assert "Of the store" in out and "abcdefgh12345678" not in out


def test_it_takes_one_config(ray_classy):
    assert "schema takes one config, not 'b' beside it" in ray_classy("schema", "a", "b").err
