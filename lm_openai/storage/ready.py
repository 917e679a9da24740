"""Ready answers: what a poll printed, printed again for repeated checks without another poll.

The first stage of a script is here, so this module imports almost nothing. A file of the cache
folder holds the answers to one question: a head, the stamps of the configuration, an index and the
texts. Head and texts are sealed with a digest that nobody knows who does not know the question.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import stat
import sys
import time

from lm_openai import __version__
from lm_openai.paths import cache_folder, privacy_problem

try:
    from _blake2 import blake2b
except ImportError:  # an interpreter without the part of hashlib that starts at once
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SUFFIX = ".ready"
TOLERANCE = 10
"""Seconds that another process of this host may have started later and read the time earlier."""
SWITCHES = ("--discover", "--series", "--no-series")
"""Options without a value."""
POLLED = ("--at", "--output", "--help", "--version")
"""Options that always take the full path, besides those with one dash."""
GLOB = frozenset("*?[")
ANY = ("*",)
"""In place of the instances: an answer for each of them."""
STALE, ABSENT, UNSHARED = "stale", "absent", "unshared"
"""A file that is missing, expired or damaged; one without the wanted answer; a note that the
question has no ready answers."""
_SILENT_HOLDER = 10.0
"""Seconds to wait for a process that holds the lock and has not announced its time limit."""
_LONGEST_DELAY = 0.2
"""Seconds between two looks; hundreds of processes may look."""
_WAITED = 0.85
"""Share of openai.timeout to wait for another process: its requests end after three quarters, and
the full path needs the rest to say why there is no answer."""
_HANGING = 3.0
"""Seconds after which the file system of the cache folder counts as hanging."""
_RACY = 10_000_000
"""Nanoseconds within which a file system may give two changes of a file the same time."""
_DAY = 86_400
_HEAD = 200


class Question:
    """One question to the suite: a DataSource, options, settings, and the wanted instances.

    All questions that only differ in one exact instance share a file, `files[0]`. `place` is the
    cache folder. `stdin` is what was read from standard input (None: nothing), or the reason why it
    could not be read. `waited` is the time in seconds that the first stage took.
    """

    def __init__(
        self,
        folder: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raise ValueError for options that always take the full path, and without a folder."""
        self._began, self._began_ns, self.now = time.monotonic(), time.time_ns(), now
        self.instances, others, chosen = _split(argv, environ)
        self.place = cache_folder(chosen, environ).rstrip("/")
        if not self.place:
            raise ValueError
        self.stdin = _standard_input() if ("--properties", "-") in others else None
        self._secret = _secret(folder, others, environ, self.stdin)
        files = [(*self.instances, "own")]
        if len(self.instances) == 1:
            files.insert(0, ("all",))
        self.files = [_digest(self._secret, *map(os.fsencode, words)) + SUFFIX for words in files]
        self.waited = 0.0
        self.locked = ""
        self._folder, self._lock, self._kept = -1, -1, False

    @property
    def awaited(self) -> str:
        """The file in which others wait for an answer, or for one that the common file lacks."""
        return self.files[-1] if self._kept else self.locked

    def answer(self) -> int | None:
        """Print the ready answer and return the exit status; None if this process has to poll."""
        found = self.found()
        try:
            return None if found is None else _print(found)
        except OSError:
            return None

    def found(self) -> tuple[int, bytes, bytes] | None:
        """Return the ready answer: exit status, stdout and stderr; None if there is none.

        Then `locked` is the file in which others wait for this process; empty if nobody does.
        Others that poll the same already are waited for, almost as long as they may take.
        """
        try:
            with _Patience():
                self._folder = _opened(self.place)
                found = next((one for one in map(self._sought, self.files) if one != ABSENT), STALE)
                return None if isinstance(found, str) else found
        except (OSError, ValueError):
            return None
        finally:
            self.waited = time.monotonic() - self._began

    def announce(self, timeout: float) -> None:
        """Let those who wait know the time limit of this process, in seconds."""
        if self.locked:
            try:
                os.pwrite(self._lock, b"%d" % max(1, timeout), 0)
            except OSError:
                return  # a full disk, where no answer can be stored either

    def decline(self, looked: Mapping[str, os.stat_result | None], seconds: int) -> None:
        """Let the same question be polled by everybody for `seconds`."""
        self.keep(self.awaited, self.now(), seconds, looked, (), unshared=True)
        self.release()

    def keep(
        self,
        file: str,
        began: float,
        seconds: int,
        looked: Mapping[str, os.stat_result | None],
        answers: Iterable[tuple[Sequence[str], tuple[int, bytes, bytes]]],
        unshared: bool = False,
    ) -> None:
        """Store answers by their instances, if this process holds the lock.

        An answer is the exit status, stdout and stderr. They hold for `seconds` after the poll at
        `began` (Unix seconds), on the same UTC day, as long as no file in `looked` changes.
        """
        stamps = _stamps(looked, self._began_ns)
        if not self.locked or stamps is None:
            return
        from lm_openai.storage.private_folder import PrivateFolder

        data = _written(self._secret, int(began), seconds, unshared, stamps, answers)
        try:
            PrivateFolder(self.place).write(file, data, began + seconds)
        except OSError:
            return
        self._kept = True

    def release(self) -> None:
        """Let those who wait go on."""
        if self.locked:
            from lm_openai.storage import locks

            name, self.locked = f"{self.locked}.lock", ""
            try:
                locks.free(self._folder, name, self._lock)
            except OSError:
                return

    def _sought(self, file: str) -> tuple[int, bytes, bytes] | str:
        """Return what a file holds; STALE if this process has to poll, with the lock if it can."""
        found = self._read(file)
        return self._awaited(file) if found == STALE else found

    def _awaited(self, file: str) -> tuple[int, bytes, bytes] | str:
        """Take the lock of a file, or return what another process stores in it meanwhile."""
        from lm_openai.storage import locks

        delay, until = locks.FIRST_DELAY, self._began + _SILENT_HOLDER
        while True:
            self._lock, taken = locks.take(self._folder, f"{file}.lock")
            self.locked = file if taken else ""
            limit = b"" if taken else os.pread(self._lock, 16, 0)
            found = self._read(file)
            if taken and found != STALE:
                self.release()
            elif not taken:
                os.close(self._lock)
            if limit:
                until = self._began + int(limit) * _WAITED
            if taken or found != STALE or time.monotonic() >= until:
                return found
            _Patience.renew()
            time.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _read(self, file: str) -> tuple[int, bytes, bytes] | str:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(file, flags, dir_fd=self._folder)
        except OSError:
            return STALE
        try:
            return _found(descriptor, self._secret, (self.instances, ANY), self.now())
        except (OSError, ValueError):
            return STALE
        finally:
            os.close(descriptor)


class _Patience:
    """Limit of the time that a file system may take during the `with` block.

    Raises TimeoutError there, so that the full path reports it; ValueError outside the main thread
    and if the program that started this one has set an alarm for it.
    """

    def __enter__(self) -> None:
        if any(_signal.getitimer(_signal.ITIMER_REAL)):
            raise ValueError
        self._before = _signal.signal(_signal.SIGALRM, self._end)
        self.renew()

    def __exit__(self, *problem: object) -> None:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, self._before)

    @staticmethod
    def renew() -> None:
        """Let the limit begin again."""
        _signal.setitimer(_signal.ITIMER_REAL, _HANGING)

    def _end(self, *_: object) -> None:
        raise TimeoutError


def serves(began: float, now: float, seconds: float) -> bool:
    """Return True if a poll at `began` serves a process that starts at `now`, on the same UTC day.

    All times are Unix seconds.
    """
    return -TOLERANCE <= now - began < seconds and began // _DAY == now // _DAY


def _split(
    argv: Sequence[str], environ: Mapping[str, str]
) -> tuple[tuple[str, ...], list[tuple[str, str]], str]:
    """Return the instances, all other options, and the cache folder that they or `environ` name.

    Raises ValueError for options that always take the full path.
    """
    instances, others = [], []
    chosen = environ.get("LM_OPENAI_CACHE_DIR", "").strip()
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag in POLLED:
            raise ValueError
        text = value if equals or flag in SWITCHES else next(words, None)
        if text is None:
            raise ValueError
        if flag == "--instance":
            instances.append(text)
            continue
        others.append((flag, text))
        name, _, setting = text.partition("=")
        if flag == "--set" and name.strip() == "openai.cache.dir":
            chosen = setting.strip() or chosen
    # A token that LogicMonitor did not replace may stand for a folder.
    if "#" in chosen or not GLOB.isdisjoint("".join(instances)):
        raise ValueError
    return tuple(instances), others, os.path.expanduser(chosen)


def _secret(
    folder: str,
    options: Iterable[tuple[str, str]],
    environ: Mapping[str, str],
    stdin: bytes | OSError | None,
) -> bytes:
    """Return a digest of everything that shapes the answer, besides instances and files."""
    words = [__version__, __file__, str(os.geteuid()), folder]
    words += (f"{flag}\0{text}" for flag, text in options)
    words += ("environment", *(f"{name}={environ[name]}" for name in sorted(_relevant(environ))))
    content = os.fsencode("\0\0".join(words)) + (stdin if isinstance(stdin, bytes) else b"")
    return blake2b(content, digest_size=32, person=b"lm-openai ready").digest()


def _relevant(environ: Iterable[str]) -> Iterator[str]:
    """Yield the variables that the suite, its HTTP library or its TLS library reads."""
    for name in environ:
        upper = name.upper()
        if (
            upper.startswith(("OPENAI_", "LM_OPENAI_", "SSL_CERT_"))
            or upper.endswith(("_PROXY", "_CA_BUNDLE"))
            or upper in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        ):
            yield name


def _standard_input() -> bytes | OSError | None:
    from lm_openai import files

    if sys.stdin is None:
        return None
    try:
        return files.stream(sys.stdin.fileno())
    except OSError as reason:
        return reason


def _opened(path: str) -> int:
    """Open the cache folder, which is created if need be; raises OSError if it is not private."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        from lm_openai.storage.private_folder import PrivateFolder

        created = PrivateFolder(path)  # which closes its own descriptor
        return os.dup(created.descriptor(create=True))
    if privacy_problem(os.fstat(descriptor)) or not _trusted_way(os.path.dirname(path)):
        os.close(descriptor)
        raise PermissionError
    return descriptor


def _trusted_way(path: str) -> bool:
    """Return True if nobody else can change a folder on the way to a path.

    Only a way of folders that root or this user alone can change is judged here.
    """
    place = path
    while os.path.isabs(path) and os.path.normpath(path) == path:
        status = os.lstat(place)
        mode = status.st_mode
        closed = not mode & 0o022 or mode & stat.S_ISVTX
        if not (stat.S_ISDIR(mode) and closed and status.st_uid in (0, os.geteuid())):
            break
        if place == "/":
            return True
        place = os.path.dirname(place)
    from lm_openai import files

    return not files.distrust_way(path)


def _print(answer: tuple[int, bytes, bytes]) -> int:
    """Write an answer and return its exit status; raises OSError if it cannot be written."""
    for descriptor, data in enumerate(answer[1:], 1):
        while data:
            data = data[os.write(descriptor, data) :]
    return answer[0]


def _written(
    secret: bytes,
    began: int,
    seconds: int,
    unshared: bool,
    stamps: bytes,
    answers: Iterable[tuple[Sequence[str], tuple[int, bytes, bytes]]],
) -> bytes:
    """Return the content of a file."""
    index, texts, end = [], [], 0
    for instances, (status, out, err) in answers:
        name = _name(secret, instances)
        text = b"%d %d\n%b%b" % (status, len(out), out, err)
        text = _seal(secret, name, b"%d" % began, text) + b" " + text
        index.append(b"%b %d %d\n" % (name, end, len(text)))
        texts.append(text)
        end += len(text)
    listed = b"".join(index)
    head = b"%d %d %d %d %d" % (began, seconds, unshared, len(stamps), len(listed))
    sealed = b"%b %b\n" % (_seal(secret, head, stamps), head)
    return b"".join((sealed, stamps, listed, *texts))


def _found(
    descriptor: int, secret: bytes, wanted: Iterable[Sequence[str]], now: float
) -> tuple[int, bytes, bytes] | str:
    """Return the answer for the first of `wanted` in an open file, or STALE, ABSENT or UNSHARED.

    Raises OSError or ValueError if the file is foreign or damaged.
    """
    size = os.fstat(descriptor).st_size
    line = os.pread(descriptor, _HEAD, 0).partition(b"\n")[0]
    seal, _, head = line.partition(b" ")
    began, seconds, unshared, stamped, listed = map(int, head.split())
    start = len(line) + 1
    stamps = _piece(descriptor, start, stamped, size)
    if seal != _seal(secret, head, stamps) or not serves(began, now, seconds):
        return STALE
    if not _hold(stamps):
        return STALE
    if unshared:
        return UNSHARED
    index = _piece(descriptor, start + stamped, listed, size)
    for instances in wanted:
        name = _name(secret, instances)
        at = index.find(name)
        if at < 0:
            continue
        _, offset, length = index[at : index.index(b"\n", at)].split()
        text = _piece(descriptor, start + stamped + listed + int(offset), int(length), size)
        seal, _, content = text.partition(b" ")
        if seal != _seal(secret, name, b"%d" % began, content):
            return STALE
        numbers, _, printed = content.partition(b"\n")
        status, out = map(int, numbers.split())
        return status, printed[:out], printed[out:]
    return ABSENT


def _piece(descriptor: int, start: int, length: int, size: int) -> bytes:
    if not 0 <= start <= start + length <= size:
        raise ValueError
    return os.pread(descriptor, length, start)


def _stamps(looked: Mapping[str, os.stat_result | None], began_ns: int) -> bytes | None:
    """Return the paths and stamps of files and folders.

    None if one of them changed so late that its next change might leave the same stamp.
    """
    if any(one and one.st_ctime_ns > began_ns - _RACY for one in looked.values()):
        return None
    return b"".join(
        b"%b\0%b\0" % (os.fsencode(path), (status and _stamp(status)) or b"")
        for path, status in looked.items()
    )


def _hold(stamps: bytes) -> bool:
    """Return True if every file and folder still has its stamp; raises OSError."""
    parts = iter(stamps.split(b"\0"))
    for path, stamp in zip(parts, parts):
        try:
            current = _stamp(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            current = b""
        if current != stamp:
            return False
    return True


def _stamp(status: os.stat_result) -> bytes:
    """Return what changes with a file's content, owner or mode, or when a path leads elsewhere."""
    return b"%d %d %d %d %d" % (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _name(secret: bytes, instances: Sequence[str]) -> bytes:
    return _seal(secret, b"name", *map(os.fsencode, instances))


def _seal(secret: bytes, *parts: bytes) -> bytes:
    return _digest(secret, *parts).encode()


def _digest(secret: bytes, *parts: bytes) -> str:
    """Return a digest of the parts that depends on the place of their ends."""
    digest = blake2b(digest_size=16, key=secret)
    for part in parts:
        digest.update(b"%d " % len(part))
        digest.update(part)
    return digest.hexdigest()
