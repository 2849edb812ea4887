"""What of a file of weights was loaded into a model, and what was not, for the log and for `ray-classy check`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.models.classifiers import is_classifier, own_classifier
from ray_classy.models.model_state import StateMismatch, flatten

_SHOWN = 3


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded; as text, a table of a few lines.

    Attributes:
        source: the file, and what was around the weights in it.
        model: the class of the model, or the name of its network.
        loaded: entries of the model that were loaded, with their shapes.
        reset: entries of the heads or the classifier, which start anew.
        why_reset: why they do.
        missing: other entries of the model that the file does not have.
        reshaped: entries of both, of different shapes: "(2, 3) in the file, (3, 3) in the model".
        unused: entries of the file that were not loaded.
        resized: position embeddings that were resized: "(1, 197, 384) to (1, 577, 384)".
    """

    source: str
    model: str
    loaded: Mapping[str, str]
    reset: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    reshaped: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    resized: Mapping[str, str] = field(default_factory=dict)
    why_reset: str = "reset_heads"

    @classmethod
    def of(
        cls,
        model: Any,
        source: str,
        differences: StateMismatch,
        reset_heads: bool,
        unused: Mapping[str, Any],
        resized: Mapping[str, str],
        filled: Collection[str] = (),
    ) -> WeightsReport:
        """Describes a state that was loaded.

        Args:
            model: it was loaded into.
            source: where it is from, in words.
            differences: what differed.
            reset_heads: whether heads and classifier were left as they are.
            unused: entries of the file that were not loaded, by their names there.
            resized: position embeddings that were resized.
            filled: entries that are not learned, and that the file need not have.
        """
        own = {name: value for name, value in _entries(model).items() if name not in filled}
        kept = _classifier(model, own) if reset_heads else []
        absent = {*kept, *differences.missing, *differences.reshaped}
        return cls(
            source,
            _name(model),
            loaded=shapes({name: value for name, value in own.items() if name not in absent}),
            reset=shapes({name: own[name] for name in kept}),
            missing=shapes({name: own[name] for name in differences.missing}),
            reshaped={name: of_file(what) for name, what in differences.reshaped.items()},
            unused=shapes(unused),
            resized=resized,
        )

    def lines(self) -> list[str]:
        """Returns the lines of the table: counts, and the first names of each kind with their shapes."""
        total = sum(map(len, (self.loaded, self.reset, self.missing, self.reshaped)))
        rows = [
            ("loaded", f"{len(self.loaded)} of {total} entries of {self.model}", self.loaded),
            ("new", f"{len(self.reset)} ({self.why_reset})", self.reset),
            ("missing", f"{len(self.missing)}", self.missing),
            ("other shape", f"{len(self.reshaped)}", self.reshaped),
            ("not used", f"{len(self.unused)} of the file", self.unused),
            ("resized", f"{len(self.resized)}", self.resized),
        ]
        return [
            f"weights: {self.source}",
            *(f"  {label:<12} {count}: {few(names)}" for label, count, names in rows if names),
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def refusal(model: Any, state: Mapping[str, Any], differences: StateMismatch, reset_heads: bool) -> str:
    """Says why a state does not fit a model, and what to do.

    Args:
        model: the model.
        state: as its `get_classy_state` returns it.
        differences: what differs.
        reset_heads: whether heads and classifier were left as they are.
    """
    name, own = _name(model), _entries(model)
    classifier = set(_classifier(model, own))
    trunk = {entry: value for entry, value in own.items() if entry not in classifier}
    given = flatten(state["model"]["trunk"], state["model"]["heads"])
    if differences.fits_nothing_of(trunk if reset_heads else own):
        return nothing_fits(f"this {name}", given, trunk or own)
    strict = "To load what fits: strict=False (pretrained_checkpoint_load_strict: false)"
    if reset_heads:
        return f"it does not fit this {name}: {of_file(str(differences))}. {strict}"
    in_model = [entry for entry in (*differences.missing, *differences.reshaped) if entry not in classifier]
    in_file = [entry for entry in differences.unexpected if not (is_classifier(entry) or entry.startswith("heads["))]
    if not in_model and not in_file:
        return (
            f"only the classifier does not fit this {name}: {of_file(str(differences))}. "
            f"For a new classifier: reset_heads: true (reset_heads=True)"
        )
    return f"it does not fit this {name}: {of_file(str(differences))}. {strict}"


def nothing_fits(model: str, given: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Says that none of the entries of a file is one of a model, with some of both."""
    return (
        f"nothing in it fits {model}. It has: {few(shapes(given))}; the model has: {few(shapes(own))}; "
        f"use the weights of this model, or build the model that they are of (any network of timm: "
        f"{{name: timm, model: NAME, pretrained: PATH}})"
    )


def of_file(text: str) -> str:
    """Returns a text about differences from a state as one about those from a file."""
    return text.replace(" in the state", " in the file").replace("missing from the state", "missing from the file")


def shapes(entries: Mapping[str, Any]) -> dict[str, str]:
    """Returns the shapes of tensors as text, by name."""
    return {name: str(tuple(value.shape)) if hasattr(value, "shape") else "" for name, value in entries.items()}


def few(entries: Mapping[str, str]) -> str:
    """Lists the first entries: "conv1.weight (64, 3, 7, 7), bn1.weight (64,), ..."."""
    counters_last = sorted(entries, key=lambda name: name.endswith("num_batches_tracked"))
    named = [f"{name} {entries[name]}".rstrip() for name in counters_last[:_SHOWN]]
    return ", ".join(named) + (", ..." if len(entries) > _SHOWN else "")


def _name(model: Any) -> str:
    """Returns the name of a network of another library, or the class of a model."""
    return str(getattr(model, "network_name", None) or type(model).__name__)


def _entries(model: Any) -> dict[str, Any]:
    state = model.get_classy_state()["model"]
    return flatten(state["trunk"], state["heads"])


def _classifier(model: Any, own: Mapping[str, Any]) -> list[str]:
    """Returns the entries of a model that are its heads or its classifier."""
    in_trunk = own_classifier(model)
    return [name for name in own if name.startswith("heads[") or name in in_trunk]
