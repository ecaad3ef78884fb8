"""Without the optional packages Palate still ranks, and says what is missing for the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Stands for an environment without these packages: importing them fails as it does there.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
PACKAGES = {"torch", "transformers", "peft", "statsmodels", "sklearn", "safetensors", "datasets", "gguf"}


def _run(code: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(packages=PACKAGES) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_votes_are_ranked_without_any_extra(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("model_a,model_b,winner\na,b,model_a\nb,a,model_a\n", encoding="utf-8")
    done = _run(f"from palate.cli.app import main; sys.exit(main(['rank', {str(path)!r}]))")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import palate; palate.RewardModel", "train"),
        ("import palate; palate.align", "train"),
        ("from palate.data.surveys import anes96; anes96()", "demo"),
    ],
)
def test_what_needs_an_extra_names_it(code: str, extra: str) -> None:
    done = _run(f"{code}\n")
    assert done.returncode != 0
    assert f'pip install "palate[{extra}]"' in done.stderr


def test_a_command_that_needs_an_extra_names_it_in_one_line(tmp_path: Path) -> None:
    arguments = ["recipe", "run", "ranklist", "--out", str(tmp_path / "run")]
    done = _run(f"from palate.cli.app import main; sys.exit(main({arguments}))")
    assert done.returncode == 2
    assert 'pip install "palate[train]"' in done.stderr
    assert "Traceback" not in done.stderr
