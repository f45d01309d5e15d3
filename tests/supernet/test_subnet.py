"""A subnet is plain data with one canonical form."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from slimasr.supernet.subnet import Subnet

RICH = Subnet(0.5, (0, 1, 3), (("1.ffn1", 8), ("0.heads", (2, 0)), ("3.conv", (0, 1, 2))))


@pytest.mark.parametrize(
    "subnet", [Subnet(), Subnet(0.25), Subnet(1.0, (0, 1)), Subnet(head="0.63"), Subnet(pathway="fr"), RICH]
)
def test_json_round_trip(subnet: Subnet) -> None:
    again = Subnet.from_json(subnet.to_json())
    assert again == subnet and hash(again) == hash(subnet) and again.id == subnet.id


def test_equal_networks_are_equal_subnets() -> None:
    assert Subnet(0.5, (0, 1), (("1.ffn1", 8), ("2.ffn1", 4))) == Subnet(0.5, (0, 1), (("1.ffn1", 8),))
    assert Subnet(units=(("0.heads", (1, 0)),)) == Subnet(units=(("0.heads", 2),))
    assert Subnet(units=(("10.ffn1", 1), ("2.ffn1", 1))) == Subnet(units=(("2.ffn1", 1), ("10.ffn1", 1)))
    assert RICH.units_of(0, "heads") == ((0, 1), (2, 3))
    assert RICH.units_of(3, "conv") == 3 and RICH.units_of(1, "conv") is None


def test_ids_differ_and_are_stable_across_processes() -> None:
    subnets = [
        Subnet(),
        Subnet(0.5),
        Subnet(0.5, (0, 1)),
        Subnet(0.5, (0, 2)),
        RICH,
        Subnet(1.0, units=(("0.conv", 0),)),
        Subnet(1.0, head="exit2"),
        Subnet(1.0, (0, 1), head="exit2"),
        Subnet(pathway="fr"),
        Subnet(pathway="nl"),
        Subnet(0.5, pathway="fr"),
        Subnet(1.0, (0, 1), head="exit2", pathway="fr"),
    ]
    assert len({s.id for s in subnets}) == len(subnets)
    assert Subnet(0.5).id == "w0.5" and Subnet(1.0, (0, 1, 2)).id == "w1-l3"
    assert Subnet(1.0, (0, 1), head="exit2").id == "w1-l2-exit2" and Subnet(head="4 blocks").id == "w1-4_blocks"
    assert Subnet(pathway="fr").id == "fr" and Subnet(0.5, pathway="fr").id == "w0.5-fr"
    code = f"from slimasr.supernet.subnet import Subnet; print(Subnet.from_json({RICH.to_json()!r}).id)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == RICH.id


def test_a_pathway_serves_its_language_and_anything_else_serves_all() -> None:
    assert Subnet(pathway="fr").serves("fr") and not Subnet(pathway="fr").serves("nl")
    assert not Subnet(pathway="fr").serves("")
    assert all(subnet.serves(language) for subnet in (RICH, Subnet(pathway="all")) for language in ("", "fr"))
    assert "pathway" not in Subnet().to_dict() and Subnet(pathway="fr").to_dict()["pathway"] == "fr"


def test_wrong_data_is_named() -> None:
    with pytest.raises(ValueError, match="widht"):
        Subnet.from_dict({"widht": 0.5})
    with pytest.raises(ValueError, match="width"):
        Subnet(0.0)
    assert json.loads(Subnet(0.5).to_json()) == {"width": 0.5}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"path": 9}, "path: must be a list of layer ids"),
        ({"path": [0, 1.5]}, "path: must be a list of layer ids"),
        ({"head": 4}, "head: must be the name of an output"),
        ({"head": ""}, "head: must be the name of an output"),
        ({"pathway": 4}, "pathway: must be the name of a pathway"),
        ({"width": None}, "width: must be a number"),
        ({"width": "wide"}, "width: must be a number"),
        ({"units": [1]}, "units: must look like"),
        ({"units": {"ffn": 512}}, "'ffn' must be a layer and its module"),
        ({"units": {"0": 512}}, "'0' must be a layer and its module"),
        ({"units": {"0.ffn": 512.0}}, r"units of 0\.ffn: must be a number of units"),
        ({"units": {"0.ffn": ["a"]}}, r"units of 0\.ffn: must be a number of units"),
    ],
)
def test_data_of_another_form_is_a_value_error(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Subnet.from_json(json.dumps(data))
