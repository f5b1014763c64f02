"""What the annotations of a public function say of its arguments, checked at every door by one decorator."""

from __future__ import annotations

import builtins
import inspect
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import wraps
from os import PathLike
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .checks import BYTES, LARGEST, check_shapes, describe, is_real, real_array

__all__ = ["checked"]

Door = TypeVar("Door", bound=Callable[..., Any])
FLAGS = (bool, np.bool_)


class Numbers:
    """Stands for ``ArrayLike`` in annotations: an array of real numbers or bools, or what NumPy makes one of."""

    def __class_getitem__(cls, item: Any) -> type[Numbers]:
        return cls


class Array(Numbers):
    """Stands for ``NDArray``: what has a shape already, of NumPy or Dask."""


class Signal:
    """Stands for a class of HyperSpy's signals, which is imported for typing alone."""


#: What else stands for a kind than its own instances, and what error messages call it.
KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, FLAGS), "True or False"),
    int: (lambda value: is_real(value) and isinstance(value, numbers.Integral), "a whole number"),
    float: (is_real, "a finite number"),
    str: (lambda value: isinstance(value, str), "text"),
    Path: (lambda value: isinstance(value, (str, PathLike)), "a path"),
    PathLike: (lambda value: isinstance(value, (str, PathLike)), "a path"),
    Numbers: (lambda value: _is_array(value), "an array of real numbers"),
    Array: (lambda value: hasattr(value, "shape") and _is_array(value), "an array of real numbers"),
    np.ndarray: (lambda value: hasattr(value, "shape") and _is_array(value), "an array of real numbers"),
    Signal: (lambda value: hasattr(value, "axes_manager") and hasattr(value, "data"), "a HyperSpy signal"),
    Callable: (callable, "a function"),
    Mapping: (lambda value: isinstance(value, Mapping), "a mapping"),
    dict: (lambda value: isinstance(value, Mapping), "a mapping"),
    NoneType: (lambda value: value is None, "None"),
}
STANDING_FOR = {"DTypeLike": Any, "ArrayLike": Numbers, "NDArray": Array, "BaseSignal": Signal, "EELSSpectrum": Signal}
SEQUENCES = (Iterable, Iterator, Sequence, tuple, list)


def checked(door: Door | None = None, /, **shapes: str) -> Door:
    """Make a function, or the constructor and the public methods of a class, refuse arguments of another kind.

    Kinds are those of the annotations: numbers (finite ones, but in the fields of a class), whole numbers, flags,
    texts, paths, arrays of real numbers, functions, instances of a class, and sequences and mappings of these. Ranges
    and choices are each function's own matter.

    Parameters
    ----------
    door : function or class
    **shapes : str
        Of arrays among the arguments, finite ones, but in the fields of a class. Such as ``"N 2"``: for each axis a
        number, or a name for one that is the same everywhere, in the fields of a method's object, too; ``"..."`` for
        any number of axes, ``"*"`` for any shape.

    Raises
    ------
    ValueError
        By what is returned: "name: got X, wants Y".

    Examples
    --------
    >>> @checked(x="N", y="N")
    ... def straight(x: ArrayLike, y: ArrayLike, label: str | None = None):
    ...     return np.polyfit(x, y, 1)
    >>> straight([1, 2], [1, 2], label=3)
    Traceback (most recent call last):
        ...
    ValueError: label: got 3, wants text or None
    >>> straight([1, 2], [1, 2, 3])
    Traceback (most recent call last):
        ...
    ValueError: y: got shape (3,), wants (N), N = 2 as in x
    """
    if door is None:
        return lambda door: checked(door, **shapes)
    scope = vars(sys.modules[door.__module__])
    if not isinstance(door, type):
        return _guarded(door, scope, shapes)
    for name, member in list(vars(door).items()):
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(member, (classmethod, staticmethod)):
            setattr(door, name, type(member)(_guarded(member.__func__, scope)))
        elif isinstance(member, FunctionType):
            own = {"shapes": shapes, "finite": not is_dataclass(door)} if name == "__init__" else {}
            setattr(door, name, _guarded(member, scope, **own))
    if is_dataclass(door):
        door.field_shapes = shapes
    return door


def _guarded(function, scope, shapes=None, finite=True):
    if hasattr(function, "is_guarded"):
        return function
    about = inspect.signature(function)
    kinds: dict[str, Any] | None = None  # found at the first call: an annotation may name what is defined further down

    @wraps(function)
    def guarded(*args, **keywords):
        nonlocal kinds
        kinds = _kinds(function, scope) if kinds is None else kinds
        try:
            given = about.bind_partial(*args, **keywords).arguments
        except TypeError:  # arguments that it does not have: the call itself says it best
            return function(*args, **keywords)
        for name, value in given.items():
            parameter = about.parameters[name]
            kind = kinds.get(name, Any)
            if kind is Any or value is parameter.default:
                continue
            for label, one in _each(name, value, parameter.kind):
                if not _is(one, kind, finite):
                    raise ValueError(_fault(label, one, kind, finite))
        if shapes:
            arrays = {name: given[name] for name in shapes if given.get(name) is not None}
            if finite:
                arrays = {name: real_array(array, name, empty=False) for name, array in arrays.items()}
            own = getattr(type(args[0]), "field_shapes", {}) if finite and args else {}
            known = {name: (getattr(args[0], name), shape) for name, shape in own.items()}
            check_shapes(known | {name: (array, shapes[name]) for name, array in arrays.items()})
        return function(*args, **keywords)

    guarded.is_guarded = True
    return guarded


def _each(name, value, kind):
    """The arguments that a parameter holds, with their names."""
    if kind is inspect.Parameter.VAR_KEYWORD:
        return value.items()
    return [(name, one) for one in value] if kind is inspect.Parameter.VAR_POSITIONAL else [(name, value)]


class _Names(dict):
    """What names in annotations stand for: those of the module, but for a few; `Any` where a module has none."""

    def __missing__(self, name):
        return Any


def _kinds(function, scope):
    """What each annotation stands for."""
    return get_type_hints(function, localns=_Names({**vars(builtins), **scope, **STANDING_FOR}))


def _is(value, kind, finite):
    """Whether a value is of a kind; only finite numbers are, where asked."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return any(_is(value, part, finite) for part in parts)
    if origin in SEQUENCES:
        return _is_sequence(value, origin, parts, finite)
    if origin in KINDS:
        right = KINDS[origin][0](value)
        if right and origin is float and finite:
            return bool(abs(value) <= LARGEST)
        if right and parts and origin in (Mapping, dict):
            return all(_is(key, parts[0], finite) and _is(one, parts[1], finite) for key, one in value.items())
        return right
    return origin is Any or not isinstance(origin, type) or isinstance(value, origin)


def _is_sequence(value, origin, parts, finite):
    if (
        isinstance(value, (str, bytes, Mapping))
        or not hasattr(value, "__iter__")
        or getattr(value, "shape", None) == ()
    ):
        return False
    if not isinstance(value, (tuple, list)):  # an array, or what can be gone through only once
        return origin in (Iterable, Iterator) or isinstance(value, (Sequence, np.ndarray))
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(_is(one, part, finite) for one, part in zip(value, parts, strict=True))
    return not parts or all(_is(one, parts[0], finite) for one in value)


def _is_array(value):
    """Whether something is an array of real numbers or bools, or makes one; nothing lazy is computed."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        if isinstance(value, (str, *BYTES, Mapping, set)):
            return False
        try:
            dtype = np.asarray(value).dtype
        except (TypeError, ValueError):  # ragged
            return False
    return getattr(dtype, "kind", "f") in "fiub"  # PyTorch's have none


def _fault(name, value, kind, finite):
    """What is wrong, of a mapping in which of its values."""
    parts = get_args(kind)
    if isinstance(value, Mapping) and len(parts) == 2 and get_origin(kind) not in (Union, UnionType):
        for key, one in value.items():
            if not _is(one, parts[1], finite):
                return _fault(f"{name}[{key!r}]", one, parts[1], finite)
    return f"{name}: got {describe(value)}, wants {_words(kind)}"


def _words(kind):
    """What an error message wants."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, parts)))
    if origin in SEQUENCES:
        several = "a pair" if len(parts) == 2 and Ellipsis not in parts else "a sequence"
        return f"{several} ({', '.join('...' if part is Ellipsis else _words(part) for part in parts)})"
    return KINDS[origin][1] if origin in KINDS else f"a {getattr(origin, '__name__', origin)}"
