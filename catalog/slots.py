"""What a firm does and what its tools stand on: Slots, their sub-scenarios, and Layers."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kernel.errors import NotFound

Words = dict[str, str]
DATA = Path(__file__).parent / "data"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Layer:
    """What a tool is technically: security base, cloud base, advanced, low-threshold tool."""

    id: str
    name: Words
    about: Words


@dataclass(frozen=True)
class SubScenario:
    """One everyday task inside a Slot, with the troubles firms have in it."""

    id: str
    slot_id: str
    name: Words
    about: Words
    pains: dict[str, list[str]]


@dataclass(frozen=True)
class Slot:
    """A business scenario that Apps are registered against."""

    id: str
    name: Words
    about: Words
    pains: dict[str, list[str]]
    sub_scenarios: tuple[SubScenario, ...]


def read_data(name: str) -> Any:
    """Return the content of one of the package's YAML data files."""
    # the safe loader in C is seven times as fast as yaml.safe_load, which is written in Python
    loader = _LOADER((DATA / name).read_text("utf-8"))
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


@cache
def all_slots() -> tuple[Slot, ...]:
    """Return the six Slots in the order of a firm's work."""
    return tuple(
        Slot(
            id=slot["id"],
            name=slot["name"],
            about=slot["about"],
            pains=slot["pains"],
            sub_scenarios=tuple(
                SubScenario(slot_id=slot["id"], **sub) for sub in slot["sub_scenarios"]
            ),
        )
        for slot in read_data("slots.yaml")["slots"]
    )


@cache
def all_layers() -> tuple[Layer, ...]:
    """Return the four Layers from the ground up."""
    return tuple(Layer(**layer) for layer in read_data("slots.yaml")["layers"])


@cache
def all_sub_scenarios() -> dict[str, SubScenario]:
    """Return the 24 sub-scenarios by id."""
    return {sub.id: sub for slot in all_slots() for sub in slot.sub_scenarios}


def find_slot(slot_id: str) -> Slot:
    """Return one Slot; an unknown id is NotFound."""
    for slot in all_slots():
        if slot.id == slot_id:
            return slot
    raise NotFound


def slot_names() -> dict[str, Words]:
    """Return the Slots' names by id."""
    return {slot.id: slot.name for slot in all_slots()}


def layer_names() -> dict[str, Words]:
    """Return the Layers' names by id."""
    return {layer.id: layer.name for layer in all_layers()}
