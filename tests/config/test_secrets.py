import pytest

from ray_classy.config import Config
from ray_classy.config.secrets import restore_secrets
from ray_classy.errors import ConfigError


def test_a_masked_key_takes_the_variable_of_its_name(monkeypatch):
    monkeypatch.setenv("api_key", "from outside")
    config = Config({"hooks": [{"name": "h", "api_key": "***"}]})
    restore_secrets(config)
    assert config["hooks"][0]["api_key"] == "from outside"


def test_a_masked_value_under_any_name_is_an_error(monkeypatch):
    monkeypatch.setenv("host", "of another program")
    with pytest.raises(ConfigError, match=r"hooks\.0\.host: is masked .* give the value on the command line$"):
        restore_secrets(Config({"hooks": [{"name": "h", "host": "***"}]}))
