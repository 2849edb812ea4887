"""`--print-config`: the config that a command would use, as a file to copy and change."""

from __future__ import annotations

from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer
from ray_classy.config import dump_yaml
from ray_classy.config.document import search_node
from ray_classy.redact import redacted_values


def config_text(given: Given) -> Answer:
    """Returns a config as YAML, with the command line laid over it.

    Raises:
        ConfigError: the config has mistakes.
    """
    if search_node(given.config) is None:
        from ray_classy.tasks.task_config import checked

        checked(given.config)
    text = dump_yaml(redacted_values(given.config))
    return Answer(text.rstrip(), {"config": given.file, "text": text})
