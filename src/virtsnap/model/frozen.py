"""`dataclass(frozen=True)` for a program that starts often: what it adds to a class is made when needed.

The library's own decorator compiles six methods for each class, used or not, which was a quarter of the time
of a short command. Here all classes share the methods that need no compiling, and a class gets its `__init__`
when the first object of it is made. `fields`, `replace`, `asdict` and `match` work as ever. What is not here:
options other than frozen; they are the library's, which is asked for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(cls=None, /, *, frozen=False, **options):
        """The library's decorator, or the cheap one for frozen classes without other options."""
        if cls is not None or not frozen or options:
            return dataclasses.dataclass(cls, frozen=frozen, **options)
        return _frozen

    def _frozen(cls):
        # Python itself writes None for the hash of a class that has an __eq__ of its own.
        given = {name for name, value in vars(cls).items() if (name, value) != ("__hash__", None)}
        cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        fields = dataclasses.fields(cls)
        cls.__dataclass_key__ = staticmethod(_key([f.name for f in fields if f.compare]))
        for name, method in _SHARED.items():
            if name not in given:
                setattr(cls, name, method)

        def __init__(self, *values, **named):
            # Another thread may do the same at this moment; both make the same.
            cls.__init__ = made = _init(cls)
            made(self, *values, **named)

        cls.__init__ = __init__
        cls.__signature__ = _Signature(cls)
        return cls

    def _key(names):
        """What two objects are compared by."""
        if not names:
            return lambda self: ()
        return attrgetter(*names)

    def _init(cls):
        """A compiled `__init__`: parameters in the order of the fields, an assignment for each."""
        parameters, lines, known = [], [], {"_put_": object.__setattr__, "_missing_": _MISSING}
        for field in dataclasses.fields(cls):
            name = field.name
            value = name
            if field.default is not dataclasses.MISSING:
                known[f"_default_{name}_"] = field.default
                parameters.append(f"{name}=_default_{name}_")
            elif field.default_factory is not dataclasses.MISSING:
                known[f"_make_{name}_"] = field.default_factory
                parameters.append(f"{name}=_missing_")
                value = f"_make_{name}_() if {name} is _missing_ else {name}"
            else:
                parameters.append(name)
            lines.append(f" _put_(self, {name!r}, {value})")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        text = f"def __init__(self, {', '.join(parameters)}):\n" + ("\n".join(lines) or " pass")
        exec(text, known)
        made = known["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        made.__module__ = cls.__module__
        made.__annotations__ = {field.name: field.type for field in dataclasses.fields(cls)}
        return made

    class _Signature:
        """What `inspect.signature` says of the class, though its `__init__` is not made yet."""

        def __init__(self, cls):
            self._cls = cls

        def __get__(self, instance, owner):
            if owner is not self._cls:
                raise AttributeError("__signature__")
            import inspect

            signature = inspect.signature(_init(self._cls))
            return signature.replace(parameters=list(signature.parameters.values())[1:])

    def _eq(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self.__dataclass_key__(self) == other.__dataclass_key__(other)

    def _hash(self):
        return hash(self.__dataclass_key__(self))

    def _repr(self):
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _setattr(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _delattr(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    _MISSING = object()
    _SHARED = {
        "__eq__": _eq,
        "__hash__": _hash,
        "__repr__": _repr,
        "__setattr__": _setattr,
        "__delattr__": _delattr,
    }

__all__ = ["dataclass"]
