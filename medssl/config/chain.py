"""Settings of a chain: pretraining runs one after another, each starting where the last one ended."""

from typing import Any

from pydantic import Field, model_validator

from medssl.config.base import Settings
from medssl.config.pretraining import PretrainConfig
from medssl.errors import UsageError

STARTS = ("init", "foreign")


class ChainConfig(Settings):
    """A file of ``medssl pretrain`` with ``stages:``, a list of tables of settings.

    What stands beside ``stages`` is shared by all of them; a stage's own table is laid over it. A start
    (``init``, ``foreign``) that is shared is the first stage's; every later one starts from the stage
    before it, which its ``init`` names.
    """

    stages: tuple[PretrainConfig, ...] = Field(min_length=1)
    """Settings of each run, in order; runs are written to OUT/1-simclr, OUT/2-micle and so on."""

    @model_validator(mode="before")
    @classmethod
    def _share(cls, data: Any) -> Any:
        stages = data.get("stages") if isinstance(data, dict) else None
        if not isinstance(stages, list | tuple) or not all(isinstance(s, dict) for s in stages):
            return data
        shared = {k: v for k, v in data.items() if k != "stages"}
        later = {k: v for k, v in shared.items() if k not in STARTS}
        tables: list[dict[str, Any]] = []
        for number, own in enumerate(stages):
            table = merged(later if number else shared, own)
            if number:
                before = folder_name(number, tables[-1])
                table["init"] = table.get("init") or before
            tables.append(table)
        return {"stages": tables}

    @model_validator(mode="after")
    def _linked(self) -> "ChainConfig":
        problems = []
        first = self.stages[0]
        for number, stage in enumerate(self.stages[1:], start=2):
            before = folder_name(number - 1, self.stages[number - 2].model_dump())
            if stage.init != before or stage.foreign is not None:
                problems.append(f"stage {number} starts from {before}; leave out init and foreign")
            problems += [
                f"stage {number} has other {part} settings than stage 1; an encoder keeps them"
                for part in ("decode", "encoder")
                if getattr(stage, part) != getattr(first, part)
            ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def names(self) -> tuple[str, ...]:
        """Return the folder of each stage below the chain's own."""
        tables = [s.model_dump() for s in self.stages]
        return tuple(folder_name(k, table) for k, table in enumerate(tables, start=1))


def folder_name(number: int, table: dict[str, Any]) -> str:
    """Return the folder of a stage, such as ``2-micle``; stages count from 1."""
    method = table.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    return f"{number}-{name}"


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another.

    A table with another ``name`` replaces the old one, and so does a duration, which is exactly one
    unit.
    """
    out = dict(base)
    for key, value in top.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            renamed = "name" in value and value["name"] != old.get("name", value["name"])
            out[key] = value if renamed or key == "duration" else merged(old, value)
        else:
            out[key] = value
    return out


def overlaid(tree: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Lay settings of the command line over a config, so that they win in every stage of a chain.

    ``stages.2.batch=64`` is the second stage's alone; ``init`` and ``foreign`` are the first one's.

    Raises:
        UsageError: a stage that the chain does not have.
    """
    stages = tree.get("stages")
    if not isinstance(stages, list):
        return merged(tree, own)
    shared = {k: v for k, v in own.items() if k not in {*STARTS, "stages"}}
    tables = [merged(s, shared) if isinstance(s, dict) else s for s in stages]
    chosen = own.get("stages")
    for number, table in chosen.items() if isinstance(chosen, dict) else ():
        if number not in {str(k) for k in range(1, len(tables) + 1)}:
            words = f"stages.{number}: the chain has stages 1 to {len(tables)}."
            raise UsageError(words, "E-CONFIG")
        tables[int(number) - 1] = merged(tables[int(number) - 1], table)
    starts = {k: v for k, v in own.items() if k in STARTS}
    if starts:
        tables[0] = merged(tables[0], starts)
    return {**tree, "stages": tables}
