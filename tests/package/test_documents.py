"""What README and docs say can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.cli.app import app, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples_compile(page: Path) -> None:
    for block in _blocks(page, "python"):
        compile(block, str(page), "exec")


def test_commands_in_the_documents_exist_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])  # registers the commands
    import typer.main

    root = typer.main.get_command(app)
    lines = [
        line.split("#")[0].strip()
        for page in PAGES
        for block in _blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    calls = [
        call.strip() for line in lines for call in line.split("&&") if call.strip().startswith("palate ")
    ]
    assert len(calls) > 20
    for call in calls:
        words = call.split()[1:]
        command = root
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not root, call
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word for word in words if word.startswith("-") and word != "-"}
        assert used <= known, call


def test_links_between_documents_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
