"""`ray-classy check`."""

from __future__ import annotations

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer
from ray_classy.cli.spec import spec_of
from ray_classy.config.document import search_node
from ray_classy.garbage import no_collection

# The modules that describe a run or a sweep import what the run would; a mistake in the config is reported before.


def check(given: Given) -> Answer:
    """Does what `train` does before it starts, and describes the run; a sweep is described likewise.

    The text is the resolved config, with the description in comments, so it is a config file itself.

    Raises:
        RayClassyError: there is a mistake; the message says where.
    """
    if search_node(given.config) is not None:
        if given.flags.local:
            raise UsageError("the config has search nodes, and a sweep runs on Ray: leave out --local")
        from ray_classy.cli.describe_sweep import describe_sweep

        return describe_sweep(given)
    with no_collection():
        spec = spec_of(given, starts=False)
        from ray_classy.cli.describe_run import describe_run

        return describe_run(given, spec)
