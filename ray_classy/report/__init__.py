"""Reports: one self-contained HTML page of a run, of several runs side by side, or of a sweep."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.report.write import write_report

__all__ = ["write_report"]

__getattr__ = lazy_exports(__name__)
