"""`popnet doctor`: a verdict a line, and the bits on record."""

from __future__ import annotations

import json

import pytest

from popnet import cli, doctor
from popnet.doctor import Check


def names(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_has_what_popnet_needs() -> None:
    checks = names(list(doctor.examine(train=False)))
    assert not [c for c in checks.values() if c.verdict == "broken"]
    assert checks["torch"].verdict == "ok"
    assert checks["data digits"].found == "built in"
    assert "popnet" in checks


def test_what_is_missing_comes_with_its_remedy() -> None:
    for check in doctor.examine(train=False):
        assert (check.verdict == "ok") == (not check.remedy), check


def test_a_package_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["numpy>=99", "no-such-package>=1"])
    old, absent = doctor._packages()
    assert old.verdict == absent.verdict == "broken"
    assert "too old" in old.found
    assert old.remedy == 'pip install "numpy>=99"'
    assert absent.found == "not installed"


def test_the_tiny_members_bits() -> None:
    check = doctor.reproduces()
    assert check.verdict in ("ok", "unknown"), check


def test_other_bits_than_those_on_record_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from popnet.engine.devices import platform

    here = platform("cpu")
    kind = (here.device, dict(here.versions)["torch"])
    monkeypatch.setattr(doctor, "RECORDED", {kind: "0" * 64})
    check = doctor.reproduces()
    assert check.verdict == "broken"
    assert "0" * 16 in check.found


def test_json_and_exit_code(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["doctor", "--no-train", "--json"])
    assert exit_.value.code == 0
    assert {"name", "verdict", "found", "remedy"} == set(json.loads(capsys.readouterr().out)[0])
    monkeypatch.setattr(doctor, "examine", lambda train: iter([Check("x", "broken", "is not there", "do this")]))
    with pytest.raises(SystemExit) as exit_:
        cli.main(["doctor"])
    assert exit_.value.code == 1
    assert "do this" in capsys.readouterr().out
