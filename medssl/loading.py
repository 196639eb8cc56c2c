"""Settings from YAML: extends, key=value, every problem at once. A config is data, never code."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from medssl.config import Settings
from medssl.config.chain import merged, overlaid
from medssl.errors import UsageError

MAX_CONFIG_BYTES = 1 << 20
T = TypeVar("T", bound=Settings)
SEE = "; see --settings for all of them"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that also refuses repeated keys and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in a config; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"key {key!r} stands twice (line {line}); keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path}: no such config file; check the path.", "E-CONFIG")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UsageError(f"{path}: larger than 1 MiB; this is not a config.", "E-CONFIG")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as YAML: {error}", "E-CONFIG") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(
            f"{path}: must be a table of settings, not {type(data).__name__}.", "E-CONFIG"
        )
    return data


def _load_tree(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    here = path.resolve()
    if here in seen:
        raise UsageError(f"{path}: extends itself through {seen[-1].name}.", "E-CONFIG")
    data = _read_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    base = (path.parent / str(parent)).resolve()
    return merged(_load_tree(base, (*seen, here)), data)


def _apply_override(tree: dict[str, Any], text: str) -> dict[str, Any]:
    key, sign, raw = text.partition("=")
    if not sign or not key:
        raise UsageError(f"{text!r}: an override is key=value, as in optim.lr=0.01.", "E-CONFIG")
    try:
        value = yaml.load(raw, Loader=_StrictLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{text!r}: the value is not readable: {error}", "E-CONFIG") from error
    for part in reversed(key.split(".")):
        value = {part: value}
    return overlaid(tree, value)


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return the settings known at a place, walking nested models and tagged unions."""
    models: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        following: list[type[BaseModel]] = []
        for one in models:
            if part in one.model_fields:
                following += _models_in(one.model_fields[part].annotation)
            elif part in _tags(one):
                following.append(one)
        models = following or models
    return sorted({name for one in models for name in one.model_fields})


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return what a member of a tagged union is called."""
    name = model.model_fields.get("name")
    return tuple(getattr(name.annotation, "__args__", ())) if name is not None else ()


def _nested(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return near names one block further in, such as ``method.temperature``; only at the top level."""
    if len(location) != 1:
        return []
    blocks = {
        name: f"{block}.{name}"
        for block, field in model.model_fields.items()
        for one in _models_in(field.annotation)
        for name in one.model_fields
    }
    found = difflib.get_close_matches(str(location[0]), blocks, n=1)
    return [blocks[name] for name in found]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for inner in getattr(annotation, "__args__", ()):
        found += _models_in(inner)
    return found


def _sentence(model: type[BaseModel], problem: Any) -> str:
    place = ".".join(str(p) for p in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(
            str(problem["loc"][-1]), _known_keys(model, problem["loc"]), n=1
        )
        inner = [] if near else _nested(model, problem["loc"])
        hint = f"; did you mean {(near or inner)[0]!r}?" if near or inner else SEE
        return f"  {place}: unknown setting{hint}"
    if problem["type"] == "missing":
        return f"  {place}: required and not given"
    if problem["type"] == "union_tag_invalid":
        tags = [t.strip(" '") for t in problem["ctx"]["expected_tags"].split(",")]
        near = difflib.get_close_matches(problem["ctx"]["tag"], tags, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"  {place}.name: {problem['ctx']['tag']!r} is none of {', '.join(tags)}{hint}"
    if problem["type"] == "union_tag_not_found":
        return f"  {place}.name: required and not given"
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"  {place or 'settings'}: {problem['msg'].removeprefix('Value error, ')}{got}"


def validate(model: type[T], tree: dict[str, Any], name: str) -> T:
    """Return settings of type ``model``, or one UsageError that names every problem."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = [_sentence(model, p) for p in error.errors()]
        head = f"{name}: {len(lines)} setting(s) to correct"
        raise UsageError([head, *lines], "E-CONFIG") from None


def load(model: type[T], path: Path | None, overrides: tuple[str, ...] = ()) -> T:
    """Read a YAML config with ``extends:`` and ``key=value`` overrides.

    Raises:
        UsageError: all problems at once, with the nearest known name.
    """
    tree = {} if path is None else _load_tree(path)
    for text in overrides:
        tree = _apply_override(tree, text)
    return validate(model, tree, path.name if path is not None else "settings")


def has_stages(path: Path) -> bool:
    """Return whether a config describes a chain of pretraining runs."""
    return "stages" in _load_tree(path)


def to_yaml(settings: Settings) -> str:
    """Return the complete settings as YAML that ``load`` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(model: type[Settings], prefix: str = "") -> list[tuple[str, str, str]]:
    """Return (setting, default, sentence) for every setting, nested ones by dotted name."""
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        nested = _models_in(field.annotation)
        if len(nested) == 1:
            rows += describe(nested[0], f"{prefix}{name}.")  # type: ignore[arg-type]
        elif nested:
            for one in nested:
                tag = one.model_fields["name"].annotation.__args__[0]  # type: ignore[union-attr]
                inner = describe(one, f"{prefix}{name}.")  # type: ignore[arg-type]
                rows += [
                    (f"{key} [{tag}]", default, sentence)
                    for key, default, sentence in inner
                    if not key.endswith(".name")
                ]
        else:
            default = "required" if field.is_required() else repr(field.default)
            rows.append((f"{prefix}{name}", default, " ".join((field.description or "").split())))
    return rows
