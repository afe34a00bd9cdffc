"""What the tests share: small models as Hugging Face folders, and the promise that no hook stays behind."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _load(folder: Path | str, **options: Any) -> Any:
    import torch

    from workbench.model import load  # not earlier: the type checker of the tests must be in place first

    torch.set_num_threads(1)  # the models are so small that more threads only wait for each other
    return load(str(folder), **options)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of three layers, with a word tokenizer."""
    import transformers
    from architectures import save_random

    config = transformers.GPT2Config(
        n_layer=3, n_embd=32, n_head=4, n_inner=48, n_positions=64, vocab_size=128, bos_token_id=1, eos_token_id=2
    )
    return save_random(config, tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of three layers with two key-value heads for four heads."""
    from architectures import SERVED, save_random

    config = next(architecture for architecture in SERVED if architecture.name == "Llama").make_config()
    config.num_hidden_layers = 3
    return save_random(config, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Any:
    """The tiny GPT-2, loaded."""
    return _load(tiny_folder)


@pytest.fixture(scope="session")
def tiny_llama(llama_folder: Path) -> Any:
    """The tiny Llama, loaded."""
    return _load(llama_folder)


@pytest.fixture(scope="session")
def plain_llama(llama_folder: Path) -> Any:
    """The tiny Llama as transformers alone loads it."""
    from architectures import SERVED
    from plain_model import plain_model

    llama = next(architecture for architecture in SERVED if architecture.name == "Llama")
    return plain_model(llama_folder, llama.parts)


@pytest.fixture(scope="session")
def real_model() -> Any:
    """The real pretrained model, where there is one."""
    folder = os.environ.get("WORKBENCH_REAL_MODEL")
    if not folder:
        pytest.skip("no real model: set WORKBENCH_REAL_MODEL to the folder of gemma-3-270m")
    return _load(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what tests have measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of minutes run only when they are asked for."""
    if "long" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: -m long"))


@pytest.fixture(autouse=True)
def no_hook_stays_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the shared models as it found them."""
    names = [name for name in ("tiny_model", "tiny_llama") if name in request.fixturenames]
    models = [request.getfixturevalue(name) for name in names]
    before = [hooks_in(model) for model in models]
    yield
    assert [hooks_in(model) for model in models] == before, "hooks were left on a model"


def hooks_in(model: Any) -> int:
    """How many hooks stand on the modules of a model."""
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = {id(module): module for module in [*model.bridge.modules(), *model.bridge.original_model.modules()]}
    return sum(len(getattr(module, table)) for module in modules.values() for table in tables)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser that the system brings along."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
