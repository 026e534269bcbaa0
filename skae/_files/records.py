"""Settings and arrays of fitted objects, separated by their declared types.

Dataclasses, named tuples and typed dictionaries declare what they hold. Given the
type, a value becomes a tree that JSON can write, plus separate arrays. When the tree is
read back, every part must have its declared type. Names in the tree are never used to
look anything up: a tag only chooses among the types of a union.
"""

import dataclasses
import types
import typing
from typing import Any

import numpy as np

# Largest integer. All integers are sizes, counts and seeds.
_MOST = 2**63 - 1

# Longest sequence of settings: layers, members, dimensions.
_LONGEST = 4096

Arrays = dict[str, np.ndarray]

_NO_CODE = (
    "{path}={value!r} is an object of code, which a safe file cannot hold. Pass one of the named "
    "options, or save with skops or joblib."
)


def encode(declared: Any, value: Any, path: str, arrays: Arrays) -> Any:
    """A tree for JSON; arrays are added to ``arrays`` by their path.

    Raises
    ------
    ValueError
        If a file cannot hold a part of the value: a callable, a transformer.
    """
    if declared in _SCALARS:
        return declared(value)
    if _is_union(declared):
        return _encode_union(declared, value, path, arrays)
    if declared in (np.ndarray, list[float]):
        if isinstance(value, np.ndarray) and value.dtype == object:
            if not all(isinstance(item, str) for item in value):
                raise ValueError(_NO_CODE.format(path=path, value=value))
            return [str(item) for item in value]
        arrays[path] = np.asarray(value, dtype=float if type(value) is list else None)
        return None
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (list, tuple):
        return [encode(arguments[0], v, f"{path}.{i}", arrays) for i, v in enumerate(value)]
    if origin is dict:
        return {k: encode(arguments[1], v, f"{path}.{k}", arrays) for k, v in value.items()}
    if not _is_record(declared):
        raise ValueError(_NO_CODE.format(path=path, value=value))
    fields = value if isinstance(value, dict) else {k: getattr(value, k) for k in _hints(declared)}
    hints = _hints(declared)
    return {k: encode(hint, fields[k], f"{path}.{k}", arrays) for k, hint in hints.items()}


def decode(declared: Any, tree: Any, path: str, arrays: Arrays) -> Any:
    """The value that :func:`encode` was given; its arrays are removed from ``arrays``.

    Raises
    ------
    ValueError
        If a part is not of the declared type, or an array is missing.
    """
    if declared in _SCALARS:
        return _scalar(declared, tree, path)
    if _is_union(declared):
        return _decode_union(declared, tree, path, arrays)
    if declared in (np.ndarray, list[float]):
        return _array(declared, tree, path, arrays)
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (list, tuple):
        _expect(type(tree) is list and len(tree) <= _LONGEST, path, "a short list", tree)
        return origin(decode(arguments[0], v, f"{path}.{i}", arrays) for i, v in enumerate(tree))
    if origin is dict:
        _expect(type(tree) is dict, path, "a table", tree)
        return {k: decode(arguments[1], v, f"{path}.{k}", arrays) for k, v in tree.items()}
    hints = _hints(declared) if _is_record(declared) else {}
    # What a later version has added has a default: what was done before.
    is_whole = type(tree) is dict and hints.keys() - _defaults(declared) <= tree.keys()
    _expect(is_whole and bool(hints) and tree.keys() <= hints.keys(), path,
            f"a table of {sorted(hints)}", tree)  # fmt: skip
    parts = {k: decode(hints[k], v, f"{path}.{k}", arrays) for k, v in tree.items()}
    return declared(**parts)


def _encode_union(declared: Any, value: Any, path: str, arrays: Arrays) -> Any:
    if value is None:
        return None
    for option in typing.get_args(declared):
        if isinstance(value, typing.get_origin(option) or option):
            tree = encode(option, value, path, arrays)
            return {option.__name__: tree} if _is_record(option) else tree
    raise ValueError(_NO_CODE.format(path=path, value=value))


def _decode_union(declared: Any, tree: Any, path: str, arrays: Arrays) -> Any:
    options = typing.get_args(declared)
    records = {option.__name__: option for option in options if _is_record(option)}
    if records and tree is not None:
        _expect(type(tree) is dict and len(tree) == 1 and next(iter(tree)) in records, path,
                f"one of {sorted(records)}", tree)  # fmt: skip
        ((tag, fields),) = tree.items()
        return decode(records[tag], fields, path, arrays)
    others = [option for option in options if option is not type(None)]
    # The tree has None for an array, too.
    if tree is None and path not in arrays:
        _expect(type(None) in options, path, "a value", tree)
        return None
    return decode(others[0], tree, path, arrays)


def _scalar(declared: type, tree: Any, path: str) -> Any:
    fits = type(tree) is declared
    _expect(
        fits and (declared is not int or 0 <= tree <= _MOST),
        path,
        f"of type {declared.__name__}",
        tree,
    )
    return tree


def _array(declared: Any, tree: Any, path: str, arrays: Arrays) -> Any:
    if type(tree) is list:
        _expect(all(type(item) is str for item in tree), path, "a list of strings", tree)
        return np.array(tree, dtype=object)
    _expect(tree is None and path in arrays, path, "an array", tree)
    array = arrays.pop(path)
    if declared is np.ndarray:
        return array
    _expect(array.ndim == 1 and array.dtype == np.float64, path, "a series", array.shape)
    return array.tolist()


def _hints(declared: type) -> dict[str, Any]:
    return typing.get_type_hints(declared)


def _defaults(declared: type) -> set[str]:
    """Names of the fields that have a default."""
    if not dataclasses.is_dataclass(declared):
        return set(getattr(declared, "_field_defaults", ()))
    fields = dataclasses.fields(declared)
    return {field.name for field in fields if field.default is not dataclasses.MISSING}


def _is_record(declared: Any) -> bool:
    return dataclasses.is_dataclass(declared) or (
        isinstance(declared, type)
        and (typing.is_typeddict(declared) or hasattr(declared, "_fields"))
    )


def _is_union(declared: Any) -> bool:
    return typing.get_origin(declared) in (typing.Union, types.UnionType)


_SCALARS = (bool, int, float, str)


def _expect(holds: bool, path: str, expected: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"{path} must be {expected}, got {str(found)[:80]!r}.")
