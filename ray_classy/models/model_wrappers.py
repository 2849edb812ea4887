"""Proxies of a model, under the names of Classy Vision, where every model was in one."""

from __future__ import annotations

from functools import wraps
from types import MethodType
from typing import Any


class ClassyModelWrapper:
    """Stands in for a model: attributes are read and written there, and `isinstance` sees the model's class.

    A subclass changes what a call does by its `forward`. Methods that return the model, such as `to` and `train`,
    return the wrapper.

    Args:
        classy_model: the model; an attribute of this name has it.
    """

    def __init__(self, classy_model: Any) -> None:
        object.__setattr__(self, "classy_model", classy_model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.classy_model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # only called for names that this object does not have
        if name == "classy_model":  # while it is unpickled
            raise AttributeError(name)
        value = getattr(self.classy_model, name)
        return self._returning_itself(value) if isinstance(value, MethodType) else value

    def _returning_itself(self, method: MethodType) -> Any:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is self.classy_model else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.classy_model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.classy_model, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.classy_model,)

    def __repr__(self) -> str:
        return repr(self.classy_model)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.classy_model)


class ClassyModelHeadExecutorWrapper(ClassyModelWrapper):
    """Stands in for a model whose call runs the heads, as that of a `ClassyModel` does by itself."""
