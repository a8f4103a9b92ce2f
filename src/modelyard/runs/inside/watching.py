"""Notes which files a process opens for reading, and what else its results depend on, as far as a process can know.

It sees what goes through Python: ``open``, ``os.open``, ``sqlite3.connect``, name look-ups and started programs; and
what some libraries are asked to read with compiled code (`libraries`). What others open by themselves is not seen.
Every file is noted when it is opened first, before anything is read: the notes outlive a process that is killed.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import platform
import random
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/", "/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/usr/share/")
_CODE = (".py", ".pyc", ".so", ".pyd", ".pth", ".pyi")
_INSTALLED = ("/site-packages/", "/dist-packages/", "/.git/")  # what git keeps is recorded as the commit
_SETTINGS = (".config", ".local", ".cache/matplotlib", ".cache/fontconfig", ".cache/modelyard", ".cache/uv", ".netrc")
_HOME = ("bundles", "cache", "datasets", "environments", "records", "run", "runs")
_ASKED_ABOUT_MACHINE = ("ldconfig", "lscpu", "nproc", "uname")
"""Programs that libraries start to learn about the machine; they read no data."""

UNSEEN_READERS = frozenset({"cv2", "duckdb", "h5py", "netCDF4", "polars", "rasterio", "tables", "tensorflow"})
"""Modules that open files with code of their own, past Python, and are not seen by `libraries` either."""


class _Watch:
    """The state of the watch: one a process."""

    def __init__(self) -> None:
        self.folder = ""
        self.journal = -1
        self.quiet: tuple[str, ...] = ()
        self.data = ""
        self.noted: set[str] = set()
        self.seed: str | None = None
        self.states: dict[str, Any] = {}
        self.used: set[str] = set()
        self.is_hooked = False


_watch = _Watch()
_own = threading.local()


def begin(folder: str, *, whole_process: bool = False) -> None:
    """Note into ``opened-<pid>.jsonl`` in `folder` from now on; with `whole_process`, facts too when it ends."""
    _watch.folder = folder
    _watch.quiet = _quiet_places(folder)
    _watch.data = os.path.join(folder, "data", "")
    _watch.noted, _watch.used, _watch.seed = set(), set(), None
    name = os.path.join(folder, f"opened-{os.getpid()}.jsonl")
    _watch.journal = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    facts = {"pid": os.getpid(), "python": platform.python_version(), "executable": sys.executable}
    _note({"begin": facts})
    for name in UNSEEN_READERS & sys.modules.keys():
        _note({"unseen": name})
    _watch.states = _states()
    if not _watch.is_hooked:
        _watch.is_hooked = True
        sys.addaudithook(_hook)
        random.seed = _remembered(random.seed)
        libraries = _libraries()
        libraries.begin(libraries.Eyes(_saw, _missed))
    if whole_process:
        atexit.register(_tell, os.getpid())


def _libraries() -> Any:
    """The file beside this one: found as this was, whether or not Modelyard can be imported."""
    name = "modelyard.runs.inside.libraries"
    if name not in sys.modules:
        place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libraries.py")
        spec = importlib.util.spec_from_file_location(name, place)
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def end() -> None:
    """Note nothing more."""
    journal, _watch.journal = _watch.journal, -1
    if journal >= 0:
        os.close(journal)


@contextmanager
def unwatched() -> Iterator[None]:
    """What this thread opens meanwhile is Modelyard's own business."""
    _own.depth = _depth() + 1
    if _watch.journal >= 0 and _own.depth == 1:
        _look_at_sources()
    try:
        yield
    finally:
        _own.depth -= 1
        if _watch.journal >= 0 and not _own.depth:
            _watch.states = _states()


def _depth() -> int:
    found: int = getattr(_own, "depth", 0)
    return found


def facts() -> dict[str, Any]:
    """What this process is and what its results may depend on."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    threads, blas = _threads()
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "path": [place for place in sys.path if place],
        "modules": sorted(name for name in loaded if name.isidentifier()),
        "sources": _sources(),
        "threads": threads,
        "blas": blas,
        "seeds": _seeds(),
        "mlflow": os.environ.get("MLFLOW_TRACKING_URI", "") if "mlflow" in sys.modules else "",
    }


def _sources() -> list[str]:
    """The folders that modules of the user's own were imported from, however Python came to look there."""
    found: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or not file.endswith(".py"):
            continue
        place = os.path.abspath(file)
        if not _is_quiet(place):
            for _ in range(name.count(".") + (os.path.basename(place) == "__init__.py")):
                place = os.path.dirname(place)
            found[os.path.dirname(place)] = None
    return list(found)


def _tell(pid: int) -> None:
    """Written when the interpreter ends; not by processes that were forked off."""
    if os.getpid() != pid:
        return
    with suppress(Exception), unwatched():
        place = os.path.join(_watch.folder, f"facts-{pid}.json")
        with open(place + ".part", "w", encoding="utf-8") as handle:
            json.dump(facts(), handle)
        os.replace(place + ".part", place)


def _quiet_places(folder: str) -> tuple[str, ...]:
    """Where opening a file says nothing about data: the environment, the system, what is Modelyard's, and itself."""
    user = os.path.expanduser("~")
    home = os.path.dirname(os.path.dirname(folder))
    own = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    places = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, own}
    places |= {os.path.join(user, name) for name in _SETTINGS} | {os.path.join(home, name) for name in _HOME}
    places |= {os.path.realpath(place) for place in places}
    found = (os.path.join(place, "") for place in sorted(places) if len(place) > 1 and place != "/usr")
    return (*found, os.path.join(home, "registry.db"), *_SYSTEM)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    handler = _HANDLERS.get(event)
    if handler is None or _watch.journal < 0 or _depth():
        return
    with suppress(Exception):  # an error here would reach the program
        handler(args)


def _opened(args: tuple[Any, ...]) -> None:
    path, _, flags = args
    if isinstance(path, int):
        return
    place = os.path.abspath(os.fsdecode(path))
    if place in _watch.noted or _is_quiet(place):
        return
    _watch.noted.add(place)
    if place.endswith(_CODE):
        _note({"code": _source_of(place)})
    else:
        _note_data(place, flags)


def _note_data(place: str, flags: int) -> None:
    is_writing = (flags & os.O_ACCMODE) != os.O_RDONLY
    try:
        facts = os.stat(place)
    except OSError:
        facts = None
    if facts is not None and not stat.S_ISREG(facts.st_mode):
        return
    if is_writing and (facts is None or flags & os.O_TRUNC or (flags & os.O_ACCMODE) == os.O_WRONLY):
        _note({"made": place})
    elif facts is None:
        _watch.noted.discard(place)  # it may be there the next time
    else:
        _note({"read": place, "stamp": [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]})


def _is_quiet(place: str) -> bool:
    if place.startswith(_watch.data):
        return False
    return place.startswith(_watch.quiet) or any(part in place for part in _INSTALLED)


def _source_of(place: str) -> str:
    """The source that a compiled file in ``__pycache__`` came from."""
    folder, name = os.path.split(place)
    if os.path.basename(folder) != "__pycache__":
        return place
    return os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")


def _script(args: tuple[Any, ...]) -> None:
    _note({"code": os.path.abspath(os.fsdecode(args[0]))})


def _database(args: tuple[Any, ...]) -> None:
    name = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
    if name and not name.startswith((":memory:", "file:")):
        _opened((name, None, os.O_RDWR))


def _asked(args: tuple[Any, ...]) -> None:
    host = args[0].decode("ascii", "replace") if isinstance(args[0], bytes) else str(args[0] or "")
    if host and host not in {"localhost", "127.0.0.1", "::1", "0.0.0.0"} and f"//{host}" not in _watch.noted:  # noqa: S104
        _watch.noted.add(f"//{host}")
        _note({"host": host})


def _started(args: tuple[Any, ...]) -> None:
    name = os.path.basename(os.fsdecode(args[0])) if args[0] else "a shell"
    if not name.startswith("python") and name not in _ASKED_ABOUT_MACHINE and f"!{name}" not in _watch.noted:
        _watch.noted.add(f"!{name}")
        _note({"program": name})


def _imported(args: tuple[Any, ...]) -> None:
    if args[0] in UNSEEN_READERS and importlib.util.find_spec(args[0]) is not None:  # else it is only tried
        _note_unseen(args[0])


def _note_unseen(name: str) -> None:
    if name not in _watch.noted:
        _watch.noted.add(name)
        _note({"unseen": name})


def _saw(path: str) -> None:
    """A library is about to read this file."""
    if _watch.journal >= 0 and not _depth():
        _opened((path, None, os.O_RDONLY))


def _missed(name: str) -> None:
    """A library is about to read what cannot be known."""
    if _watch.journal >= 0 and not _depth():
        _note_unseen(name)


def _shell(_args: tuple[Any, ...]) -> None:
    _started(("sh",))


_HANDLERS: dict[str, Callable[[tuple[Any, ...]], None]] = {
    "open": _opened,
    "cpython.run_file": _script,
    "sqlite3.connect": _database,
    "socket.getaddrinfo": _asked,
    "subprocess.Popen": _started,
    "os.posix_spawn": _started,
    "os.exec": _started,
    "os.system": _shell,
    "import": _imported,
}


def _note(entry: dict[str, Any]) -> None:
    """One line in one write: several processes may share the file."""
    os.write(_watch.journal, json.dumps(entry).encode() + b"\n")


def _remembered(seed: Callable[..., None]) -> Callable[..., None]:
    def seeded(*args: Any, **kwargs: Any) -> None:
        value = args[0] if args else kwargs.get("a")
        if not _depth():
            _watch.seed = None if value is None else repr(value)[:40]
        seed(*args, **kwargs)

    return seeded


def _states() -> dict[str, Any]:
    """Where the sources of randomness that a process shares are, so that their use is seen."""
    states: dict[str, Any] = {"random": hash(random.getstate())}
    shared = _numpy_source()
    if shared is not None:
        state = shared.state["state"]
        states["numpy"] = (state["pos"], state["key"].tobytes())
    return states


def _look_at_sources() -> None:
    """What has moved since it was looked at last was used by the program."""
    for name, state in _states().items():
        before = _watch.states.get(name)
        if before is None and name == "numpy":
            fresh = state[0] == 624 and state[1][:4] == (0x80000000).to_bytes(4, sys.byteorder)
            before = state if fresh else None
        if state != before:
            _watch.used.add(name)


def _numpy_source() -> Any:
    numpy = sys.modules.get("numpy.random")
    rand = getattr(getattr(numpy, "mtrand", None), "_rand", None)
    source = getattr(rand, "_bit_generator", None)
    return source if type(source).__name__ == "MT19937" else None


def _seeds() -> dict[str, str]:
    """Of the sources of randomness that a process shares: whether they were seeded, and whether they were used."""
    _look_at_sources()
    found = {"hashes": os.environ.get("PYTHONHASHSEED") or ("random" if sys.flags.hash_randomization else "0")}
    if _watch.seed is not None:
        found["random"] = f"seeded with {_watch.seed}"
    elif "random" in _watch.used:
        found["random"] = "used, not seeded"
    shared = _numpy_source()
    if shared is not None and getattr(shared, "_seed_seq", None) is None:  # a seed takes away what the system gave
        found["numpy"] = "seeded"
    elif "numpy" in _watch.used:
        found["numpy"] = "used, not seeded"
    torch = sys.modules.get("torch")
    if torch is not None:
        with suppress(Exception):
            found["torch"] = f"began with {torch.initial_seed()}"
    return found


def _threads() -> tuple[dict[str, int], str]:
    """Sizes of thread pools, and the linear algebra library with version and kernel, where threadpoolctl is there."""
    if not {"numpy", "threadpoolctl"} & sys.modules.keys():
        return {}, ""
    try:
        import threadpoolctl
    except ImportError:
        return {}, ""
    pools = sorted(threadpoolctl.threadpool_info(), key=lambda pool: "numpy" not in pool["filepath"])
    blas: dict[str, Any] = next((pool for pool in pools if pool["user_api"] == "blas"), {})
    said = " ".join(str(blas[part]) for part in ("internal_api", "version", "architecture") if blas.get(part))
    return {pool["internal_api"]: pool["num_threads"] for pool in reversed(pools)}, said
