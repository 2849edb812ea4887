"""The components of the project. Importing the package registers them, so that configs can name them."""

from pathlib import Path

from ray_classy.generic.registry_utils import import_all_modules

import_all_modules(str(Path(__file__).parent), __name__)
