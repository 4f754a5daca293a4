"""The doctor tells what is wrong and what to do, and says so of a healthy machine too."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from napari_unet import doctor
from napari_unet.cli import app
from napari_unet.model import Model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.doctor import Finding


def found(findings: list[Finding], what: str) -> Finding:
    return next(finding for finding in findings if finding.what == what)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one shipped model, and no display."""
    from napari_unet import model

    Model.new(width=4, depth=1, name="tiny").save(tmp_path / "tiny.unet")
    monkeypatch.setattr(model, "SHIPPED", tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_healthy_machine() -> None:
    findings = doctor.examine()
    assert [finding for finding in findings if finding.level == "problem"] == []
    assert all(finding.mend for finding in findings if finding.level != "ok")
    assert {"python", "torch", "numpy", "processor", "memory", "device"} <= {finding.what for finding in findings}
    assert "instances in 2-D" in found(findings, "model tiny").value


def test_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", str(tmp_path / "d.json")])
    assert result.exit_code == 0, result.output
    assert "cores" in result.stdout
    said = json.loads((tmp_path / "d.json").read_text())
    assert said[0]["what"] == "python"
    assert set(said[0]) == {"what", "value", "level", "mend"}


@pytest.mark.parametrize(
    ("levels", "said", "code"),
    [
        (["ok", "ok"], "Nothing is to be mended.", 0),
        (["ok", "note"], "Images can be segmented here; what is marked with - can be mended too.", 0),
        (["note", "problem"], "Mend what is marked with ! to segment images.", 1),
    ],
)
def test_the_last_line_fits_what_was_found(
    levels: list[Any], said: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [doctor.Finding("it", "as it is", level, "" if level == "ok" else "Do this.") for level in levels]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.stdout.splitlines()[-1] == said
    assert result.exit_code == code


def test_a_broken_model(shelf: Path) -> None:
    (shelf / "tiny.unet").write_bytes(b"broken")
    broken = found(doctor.examine(), "model tiny")
    assert broken.level == "problem"
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "! model tiny" in result.stdout
    assert "-> Install" in result.stdout
    (shelf / "tiny.unet").unlink()
    assert found(doctor.examine(), "models").level == "problem"


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.26.0", "torch": "", "napari-unet": "0.3", "PyQt6": ""}
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, known(name)))
    monkeypatch.setattr(doctor, "code_version", lambda: "0.1.0")
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["numpy>=2.0", "torch>=2.6", "onnx>=1; extra == 'onnx'"])
    findings = list(doctor._packages())
    assert found(findings, "numpy").mend == "pip install 'numpy>=2.0'"
    assert found(findings, "torch").value == "missing"
    assert "pip uninstall napari-unet" in found(findings, "napari-unet").mend
    assert all(finding.what != "onnx" for finding in findings)


def test_a_display_without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert "ssh -X" in next(doctor._display()).mend
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(doctor, "_version", lambda _: "6.0")
    monkeypatch.setattr(doctor, "WINDOW", "raise SystemExit('there is no OpenGL')")
    finding = next(doctor._display())
    assert finding.value == ":99: there is no OpenGL"
    assert "apt-get install" in finding.mend
    monkeypatch.setattr(doctor, "WINDOW", "raise SystemExit('could not connect to display :99')")
    assert "unset it" in next(doctor._display()).mend
    monkeypatch.setattr(doctor, "WINDOW", "")
    assert next(doctor._display()).value == ":99 with OpenGL"


def test_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda: 10**9)
    assert next(doctor._memory()).level == "note"
    monkeypatch.setattr(doctor, "LEAST_DISK", 1e18)
    assert next(doctor._folders()).mend == "Make room on this disk."
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "absent"))
    assert "cannot be written to" in list(doctor._folders())[1].value
