import pytest

from catalog import slots
from kernel.errors import NotFound


def test_six_slots_hold_twenty_four_tasks_in_both_languages():
    found = slots.all_slots()
    assert [slot.id for slot in found] == [
        "rnd",
        "procurement",
        "production",
        "logistics",
        "marketing",
        "organization",
    ]
    subs = slots.all_sub_scenarios()
    assert len(subs) == 24
    for entry in (*found, *subs.values()):
        assert entry.name["zh"]
        assert entry.name["en"]
        assert entry.about["zh"]
        assert entry.about["en"]
        assert len(entry.pains["zh"]) == len(entry.pains["en"]) >= 2
        assert all(pain.strip() for language in entry.pains.values() for pain in language)


def test_a_task_lies_in_the_slot_its_id_names():
    for sub in slots.all_sub_scenarios().values():
        assert sub.id.split(".")[0] == sub.slot_id


def test_four_layers_stand_from_the_ground_up():
    assert [layer.id for layer in slots.all_layers()] == [
        "security",
        "cloud",
        "advanced",
        "low_threshold",
    ]


def test_an_unknown_slot_is_not_found():
    with pytest.raises(NotFound):
        slots.find_slot("strategy")
