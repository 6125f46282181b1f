"""Names that a package re-exports, and modules under former names: both are imported on first use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader


def exported(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package. ``homes`` gives, for a module's full name, the names that the
    package re-exports from it, separated by blanks."""
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def getattr_(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return getattr_


def keep_importable(homes: Mapping[str, str]) -> None:
    """Lets programs import modules by their former full names, with a DeprecationWarning. ``homes`` gives the
    present name for each.

    Only an import that nothing else could find gets here, so other imports take no more time.
    """
    sys.meta_path.append(_FormerNames(homes))


class _FormerNames:
    """A finder and loader of modules by their former names (see `importlib.abc.MetaPathFinder`)."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = homes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        return ModuleSpec(name, cast("Loader", self)) if name in self._homes else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        former, home = module.__name__, self._homes[module.__name__]
        warnings.warn(
            f"the module {former} is now {home}; import its public names from reconciler",
            DeprecationWarning,
            stacklevel=2,
        )
        vars(module)["__getattr__"] = lambda name: getattr(import_module(home), name)
