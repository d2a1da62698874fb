"""Which processes `rubrika up` starts of its own: their names, the threads of each worker, and who is stopped when."""

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.settings import Settings
from local import up
from local.processes import StopOrder

COMMANDS = up.UpCommands(migrate=("migrate",), api=("api",), worker=("worker",), sweeper=("sweeper",))
THREADS = ("RUBRIKA_THREADS", "OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("workers", "threads", "names", "each"),
    [
        (1, 0, ["worker"], "8"),
        (2, 0, ["worker-1", "worker-2"], "4"),
        (3, 0, ["worker-1", "worker-2", "worker-3"], "2"),
        (9, 0, [f"worker-{number}" for number in range(1, 10)], "1"),
        (2, 3, ["worker-1", "worker-2"], "3"),
        (0, 0, [], ""),
    ],
)
def test_workers_have_names_and_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int, names: list[str], each: str
) -> None:
    monkeypatch.setattr(up, "available_cores", lambda: 8)
    settings = replace(Settings.from_env({"RUBRIKA_DATA_DIR": str(tmp_path)}), workers=workers, threads=threads)
    children = up._processes(settings, COMMANDS, {"DATABASE_URL": "postgresql://here"})
    assert [(child.name, child.argv, child.rank) for child in children] == [
        ("sweeper", ("sweeper",), StopOrder.SWEEPER),
        *((name, ("worker",), StopOrder.WORKERS) for name in names),
        ("api", ("api",), StopOrder.API),
    ]
    assert {child.env["DATABASE_URL"] for child in children} == {"postgresql://here"}
    for child in children:
        wanted = each if child.argv == ("worker",) else None
        assert [child.env.get(name) for name in THREADS] == [wanted] * 2, child.name
