"""`rubrika up` itself: the command that people type, with the servers, the processes and a model that it really has."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from jobs.settings import PROJECT_ROOT
from local.processes import command_line
from rubrika_client import Client
from tests.support import environment_outside, free_port, wait_until
from tests.tiny_model import TEXTS, make_tiny_model


@pytest.mark.timeout(900)
def test_two_workers_serve_from_an_empty_folder_until_ctrl_c(open_folder: Path) -> None:
    url, data_dir = f"http://127.0.0.1:{(port := free_port())}", open_folder / "data"
    env = environment_outside() | {
        "RUBRIKA_DATA_DIR": str(data_dir),
        "RUBRIKA_MODEL": str(make_tiny_model(open_folder / "model")),
        "RUBRIKA_PORT": str(port),
        "RUBRIKA_WORKERS": "2",
    }
    said, complained = open_folder / "out", open_folder / "err"
    with said.open("wb") as out, complained.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"],
            cwd=PROJECT_ROOT, env=env, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
    try:

        def is_ready() -> bool:
            assert process.poll() is None, complained.read_text()
            return "готова" in said.read_text()

        wait_until(is_ready, 300, "the ready line", every=0.1)
        assert said.read_text().splitlines() == [f"Рубрика готова: {url} (Ctrl-C останавливает) · Rubrika is ready"]
        children = [command_line(child.pid) or () for child in psutil.Process(process.pid).children()]
        ours = sorted(command[-1] for command in children if "cli.main" in command)
        assert ours == ["api", "sweeper", "worker", "worker"]
        running = psutil.Process(process.pid).children(recursive=True)
        with Client(url) as client:
            found = client.classify(TEXTS[0], wait=120)
            assert (found.status, found.model, len(found.topics)) == ("succeeded", "tiny@0.0.1", 6)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, complained.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(120)
    assert [left for left in running if left.is_running() and command_line(left.pid)] == []
    assert said.read_text().splitlines()[1:] == [
        "Рубрика остановлена, всё принятое сохранено · Rubrika has stopped, everything accepted is kept"
    ]
    # On a busy machine it says whom it waits for, and nothing else.
    assert [line for line in complained.read_text().splitlines() if not line.startswith("rubrika: жду ")] == []
    assert {log.stem for log in (data_dir / "logs").glob("*.log")} >= {"worker-1", "worker-2", "api", "sweeper"}
