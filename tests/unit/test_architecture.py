"""What an import costs, and how long a file may be. The arrows between the folders are held by `make lint`."""

import subprocess
import sys

import pytest

from jobs.settings import PROJECT_ROOT

MAX_LINES = 450
"""About 400 is the rule; what stands over it by more than a function is two files."""

SOURCES = (".py", ".js", ".css", ".html")


def loaded_by(module: str) -> set[str]:
    """The top names of everything that importing a module brings into a fresh Python."""
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # `rubrika --help`, and every process before it knows which one it is.
        ("cli.main", {"flask", "celery", "sqlalchemy", "numpy", "torch", "transformers", "openvino", "onnx"}),
        # What the API needs to know of a model is in Postgres.
        ("api.app", {"ml", "worker", "local", "numpy", "torch", "transformers", "openvino", "onnx", "tokenizers"}),
        ("worker.sweeper", {"ml", "api", "flask", "numpy", "torch", "openvino"}),
        # What runs the network is chosen when it is loaded.
        (
            "ml.classifier",
            {"flask", "celery", "sqlalchemy", "jobs", "torch", "transformers", "openvino", "onnxruntime"},
        ),
    ],
)
def test_an_import_brings_nothing_heavy_along(module: str, heavy: set[str]) -> None:
    loaded = loaded_by(module)
    assert module.partition(".")[0] in loaded
    assert not loaded & heavy


def test_no_source_file_is_longer_than_a_reader_holds_in_mind() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    files = [PROJECT_ROOT / name for name in listed if name.endswith(SOURCES)]
    lengths = {
        str(file.relative_to(PROJECT_ROOT)): len(file.read_text().splitlines()) for file in files if file.exists()
    }
    assert "jobs/store.py" in lengths
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}
