"""Cache of responses: cached values, cached failures and folders that cannot be used."""

from __future__ import annotations

import json
import os
import pwd
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai import paths
from lm_openai.errors import ApiFailure
from lm_openai.storage import cache as storage_cache
from lm_openai.storage.cache import Cache, SharedNotes, identity
from tests.support.paths import ROOT

KEY = "sk-admin-Zm9vYmFy"
IDENTITY = identity("default", "https://api.openai.com/v1", KEY)
OTHER_USER = 12345


class Clock:
    """Clock that stands still until a test changes `instant`."""

    def __init__(self, instant=1_700_000_000.0):
        self.instant = instant

    def __call__(self):
        return self.instant


class Fetch:
    """Function to cache: it returns a value or raises a failure, and counts its calls."""

    def __init__(self, value=None, failure=None):
        self.value, self.failure, self.calls = value, failure, 0

    def __call__(self):
        self.calls += 1
        if self.failure:
            raise self.failure
        return self.value


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "lm-openai"


@pytest.fixture
def cache(folder, clock):
    return Cache(str(folder), IDENTITY, clock)


def files(folder):
    return sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []


class TestKeeping:
    def test_a_value_is_cached_until_it_expires(self, cache, clock):
        cache.put("projects", [{"id": "proj_1", "name": None}], 60)
        assert cache.get("projects") == [{"id": "proj_1", "name": None}]
        clock.instant += 59.9
        assert cache.get("projects") is not None
        clock.instant += 0.1
        assert cache.get("projects") is None

    def test_another_process_reads_the_value(self, cache, folder):
        cache.put("a", "Ünïcode \ud800", 60)
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "print(ascii(Cache(sys.argv[1], sys.argv[2], lambda: 1700000001.0).get('a')))"
        )
        command = [sys.executable, "-c", program, str(folder), IDENTITY]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert process.stdout.strip() == ascii("Ünïcode \ud800")

    def test_entries_expire_when_the_clock_is_set_back(self, cache, clock):
        cache.put("a", 1, 60)
        clock.instant -= 86400
        assert cache.get("a") is None

    def test_forget_removes_an_entry_and_accepts_a_missing_one(self, cache):
        cache.put("a", 1, 60)
        cache.forget("a")
        cache.forget("a")
        assert cache.get("a") is None

    def test_organizations_urls_and_keys_have_separate_entries(self, folder, clock):
        identities = [
            identity("one", "https://a/v1"),
            identity("two", "https://a/v1"),
            identity("one", "https://b/v1"),
            identity("one", "https://a/v1", "sk-1"),
            identity("one", "https://a/v1", "sk-2"),
        ]
        assert len(set(identities)) == len(identities)
        for each in identities:
            Cache(str(folder), each, clock).put("a", each, 60)
        assert [Cache(str(folder), each, clock).get("a") for each in identities] == identities

    def test_no_secret_reaches_an_identity_a_name_or_a_file(self, cache, folder):
        assert KEY not in IDENTITY
        assert "hush" not in identity("one", "https://user:hush@host/v1")
        cache.put("projects", ["x"], 60)
        (file,) = files(folder)
        assert KEY not in file.name + file.read_text()

    @given(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_any_name_and_any_json_value_can_be_cached(self, tmp_path_factory, name, value):
        cache = Cache(str(tmp_path_factory.getbasetemp() / "any"), IDENTITY, Clock())
        cache.put(name, value, 60)
        assert cache.get(name) == value
        assert cache.remember(name, 60, lambda: "fetched again") == value


class TestRemember:
    def test_a_value_is_fetched_once_per_time_to_live(self, cache, clock):
        fetch = Fetch([1])
        assert [cache.remember("a", 60, fetch) for _ in range(3)] == [[1]] * 3
        assert fetch.calls == 1
        clock.instant += 60
        cache.remember("a", 60, fetch)
        assert fetch.calls == 2

    def test_none_is_cached_too(self, cache):
        fetch = Fetch(None)
        cache.remember("a", 60, fetch)
        assert cache.remember("a", 60, fetch) is None
        assert fetch.calls == 1

    def test_a_failure_is_cached_unchanged_for_a_short_time(self, cache, clock):
        failure = ApiFailure("scope", "audit_logs", "403", "api.audit_logs.read")
        fetch = Fetch(failure=failure)
        for _ in range(3):
            with pytest.raises(ApiFailure) as caught:
                cache.remember("a", 3600, fetch)
            raised = caught.value
            assert str(raised) == str(failure)
            assert (raised.kind, raised.endpoint, raised.detail, raised.scope) == (
                "scope",
                "audit_logs",
                "403",
                "api.audit_logs.read",
            )
        assert fetch.calls == 1
        assert cache.get("a") is None
        clock.instant += 60
        fetch.failure, fetch.value = None, "recovered"
        assert cache.remember("a", 3600, fetch) == "recovered"

    @pytest.mark.parametrize("kind", ["deadline", "throttled", "down", "unreachable", "tls"])
    def test_a_failure_that_is_no_answer_of_the_api_is_not_cached(self, cache, kind):
        fetch = Fetch(failure=ApiFailure(kind, "costs"))
        for _ in range(2):
            with pytest.raises(ApiFailure):
                cache.remember("a", 60, fetch)
        assert fetch.calls == 2

    def test_an_exception_of_the_program_is_not_cached(self, cache, folder):
        with pytest.raises(ZeroDivisionError):
            cache.remember("a", 60, lambda: 1 // 0)
        assert files(folder) == []

    def test_a_value_without_time_to_live_is_fetched_each_time(self, cache, folder):
        fetch = Fetch(1)
        cache.remember("a", 0, fetch)
        cache.remember("a", 0, fetch)
        assert fetch.calls == 2
        assert files(folder) == []

    def test_threads_that_need_the_same_value_fetch_it_once(self, cache):
        fetch = Fetch("value")
        gate = threading.Barrier(8)
        values = []

        def read():
            gate.wait(30)
            values.append(cache.remember("a", 60, fetch))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert values == ["value"] * 8
        assert fetch.calls == 1

    def test_a_fetch_may_read_another_cached_value(self, cache):
        assert cache.remember("keys", 60, lambda: cache.remember("projects", 60, list)) == []


class TestFiles:
    def test_folder_and_files_are_private_whatever_the_umask(self, cache, folder):
        previous = os.umask(0)
        try:
            cache.put("a", 1, 60)
        finally:
            os.umask(previous)
        (file,) = files(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"\x00\xff",
            b"[]",
            b'{"made": 1}',
            b'{"made": 1700000000, "ttl": 60, "value": {"of another": "form"}, "failure": null}',
            b"[" * 100_000,
        ],
    )
    def test_a_damaged_file_is_removed_and_the_value_fetched_again(self, cache, folder, damage):
        cache.put("a", 1, 60)
        (file,) = files(folder)
        file.write_bytes(damage)
        assert cache.get("a") is None
        assert not file.exists()
        assert cache.remember("a", 60, lambda: 2) == 2
        assert cache.get("a") == 2

    def test_a_file_that_is_changed_within_its_form_is_removed(self, cache, folder):
        cache.put("a", [1], 60)
        (file,) = files(folder)
        file.write_bytes(file.read_bytes().replace(b'"value":[1]', b'"value":[2]'))
        assert cache.get("a") is None
        assert not file.exists()

    def test_a_value_of_another_version_is_fetched_again(self, cache, monkeypatch):
        cache.put("a", "of the form that this version knows", 60)
        monkeypatch.setattr(storage_cache, "__version__", "0.0.0")
        assert cache.remember("a", 60, lambda: 2) == 2

    def test_a_reader_gets_a_whole_value_while_others_write_it(self, folder):
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "cache = Cache(sys.argv[1], sys.argv[2], lambda: 1700000000.0)\n"
            "for turn in range(300): cache.put('a', [turn] * 5000, 60)"
        )
        command = [sys.executable, "-c", program, str(folder), IDENTITY]
        writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
        reader = Cache(str(folder), IDENTITY, Clock())
        seen = 0
        while any(writer.poll() is None for writer in writers):
            value = reader.get("a")
            if value is not None:
                seen += 1
                assert len(value) == 5000
                assert len(set(value)) == 1
        assert [writer.wait(60) for writer in writers] == [0, 0]
        assert seen
        assert len(files(folder)) == 1

    def test_only_files_that_expired_a_day_ago_are_pruned(self, cache, folder, clock):
        cache.put("old", 1, 60)
        (old,) = files(folder)
        (folder / "left.unfinished").write_text("")
        os.utime(folder / "left.unfinished", (clock.instant, clock.instant))
        (folder / "foreign file").write_text("")
        os.utime(folder / "foreign file", (0, 0))
        clock.instant += 86400 + 61
        later = Cache(str(folder), IDENTITY, clock)
        later.put("lasting", 1, 60)
        assert not old.exists()
        assert later.get("lasting") == 1
        assert {path.name for path in files(folder) if path.suffix != ".answer"} == {"foreign file"}

    def test_a_cache_in_real_time_keeps_the_files_of_polls_of_another_time(self, cache, folder):
        cache.put("old", 1, 60)
        now = cache.now() + 10 * 86400
        Cache(str(folder), IDENTITY, lambda: now, prunes=False).put("new", 1, 60)
        assert cache.get("old") == 1

    def test_one_run_prunes_a_limited_number_of_files(self, cache, folder, clock, monkeypatch):
        monkeypatch.setattr(storage_cache, "_PRUNED_AT_ONCE", 3)
        for number in range(6):
            cache.put(str(number), 1, 60)
        clock.instant += 2 * 86400
        Cache(str(folder), IDENTITY, clock).put("new", 1, 60)
        assert len(files(folder)) == 4


class TestFoldersThatCannotBeUsed:
    def works_in_memory(self, cache, trouble):
        """Check that the cache works for this process alone and reports the trouble."""
        fetch = Fetch(5)
        assert cache.remember("a", 60, fetch) == 5
        assert cache.remember("a", 60, fetch) == 5
        cache.put("b", 1, 60)
        cache.forget("b")
        assert cache.get("b") is None
        assert fetch.calls == 1
        assert Cache(cache.folder, IDENTITY, cache.now).get("a") is None
        assert trouble in cache.trouble

    def test_no_folder(self, clock):
        self.works_in_memory(Cache(None, IDENTITY, clock), "")
        self.works_in_memory(Cache("", IDENTITY, clock), "")

    def test_a_value_in_memory_expires_like_a_file(self, clock):
        cache = Cache(None, IDENTITY, clock)
        cache.put("a", (1, 2), 60)
        assert cache.get("a") == [1, 2]
        clock.instant += 60
        assert cache.get("a") is None

    def test_a_file_instead_of_a_folder(self, tmp_path, clock):
        (tmp_path / "file").write_text("precious")
        self.works_in_memory(Cache(str(tmp_path / "file"), IDENTITY, clock), "not a folder")
        self.works_in_memory(Cache(str(tmp_path / "file" / "below"), IDENTITY, clock), "directory")
        assert (tmp_path / "file").read_text() == "precious"

    def test_a_folder_that_even_root_cannot_create(self, clock):
        self.works_in_memory(Cache("/proc/lm-openai", IDENTITY, clock), "No such file")

    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_symbolic_link_to_another_folder(self, tmp_path, clock, end):
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        self.works_in_memory(Cache(f"{tmp_path}/link{end}", IDENTITY, clock), "link")
        assert files(tmp_path / "elsewhere") == []

    def test_a_folder_of_another_user_is_neither_read_nor_written(self, cache, folder, clock):
        cache.put("a", "planted", 60)
        if os.geteuid() == 0:
            os.chown(folder, OTHER_USER, -1)
            self.works_in_memory(Cache(str(folder), IDENTITY, clock), "another user")
        else:
            self.works_in_memory(Cache("/usr", IDENTITY, clock), "another user")

    def test_a_folder_that_others_can_write_is_not_used_and_keeps_its_mode(
        self, cache, folder, clock
    ):
        cache.put("a", "planted", 60)
        folder.chmod(0o777)
        self.works_in_memory(Cache(str(folder), IDENTITY, clock), "chmod 700")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777

    def test_a_full_disk_keeps_the_old_value_and_leaves_no_temporary_file(self, cache, folder):
        cache.put("old", "kept", 60)
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "cache = Cache(sys.argv[1], sys.argv[2], lambda: 1700000000.0)\n"
            "cache.put('old', 'x' * 10000, 60)\n"
            "new = cache.remember('new', 60, lambda: 'y' * 5)\n"
            "print(cache.get('old'), new, cache.get('new'))\n"
            "print(cache.trouble, file=sys.stderr)"
        )
        process = subprocess.run(
            [sys.executable, "-B", "-c", program, str(folder), IDENTITY],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
        )
        assert process.stdout.split() == ["x" * 10000, "yyyyy", "yyyyy"]
        assert cache.get("old") == "kept"
        assert "File too large" in process.stderr
        assert len(files(folder)) == 1

    def test_a_removed_folder_is_created_again(self, cache, folder):
        cache.put("a", 1, 60)
        for path in files(folder):
            path.unlink()
        folder.rmdir()
        assert cache.get("a") is None
        assert cache.trouble == ""
        cache.put("a", 2, 60)
        assert cache.get("a") == 2


class TestDefaultFolder:
    def test_the_property_wins_then_xdg_then_home(self, tmp_path):
        environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "/x"}
        assert paths.cache_folder("/var/cache/own", environ) == "/var/cache/own"
        assert paths.cache_folder("", environ) == "/x/lm-openai"
        environ["XDG_CACHE_HOME"] = "not/absolute"
        assert paths.cache_folder("", environ) == f"{tmp_path}/.cache/lm-openai"

    @pytest.mark.parametrize("home", ["", "/nonexistent", "relative"])
    def test_without_a_usable_home_there_is_none_not_even_in_the_temporary_folder(
        self, home, tmp_path
    ):
        assert paths.cache_folder("", {"HOME": home, "TMPDIR": str(tmp_path)}) == ""

    def test_the_service_users_own_folder_does_not_depend_on_home(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paths, "SERVICES", str(tmp_path))
        environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "/x"}
        own = tmp_path / pwd.getpwuid(os.geteuid()).pw_name
        own.mkdir()
        assert paths.cache_folder("/var/cache/own", environ) == "/var/cache/own"
        assert paths.cache_folder("", environ) == "/x/lm-openai"
        assert paths.cache_folder("", {"HOME": str(tmp_path)}) == str(own)
        assert paths.cache_folder("", {}) == str(own)


def test_a_file_is_a_seal_and_json_and_is_as_old_as_its_expiry(cache, folder, clock):
    cache.put("a", {"b": 1}, 60)
    (file,) = files(folder)
    assert json.loads(file.read_text().split("\n")[1])["value"] == {"b": 1}
    assert file.stat().st_mtime == clock.instant + 60


class TestSharedNotes:
    def test_processes_of_the_same_organization_share_notes(self, folder, clock):
        def notes(identity):
            return SharedNotes(Cache(str(folder), identity, clock))

        assert notes("acme").read() == {}
        notes("acme").change(lambda book: book.update(pauses={"costs": [1.5, None]}))
        assert notes("acme").read() == {"pauses": {"costs": [1.5, None]}}
        assert notes("other").read() == {}

    def test_notes_that_nothing_changes_are_gone_after_an_hour(self, cache, folder, clock):
        notes = SharedNotes(cache)
        notes.change(lambda book: book.update(down={}))
        clock.instant += 3599
        assert notes.read()
        clock.instant += 1
        assert notes.read() == {}

    def test_empty_notes_leave_no_file(self, cache, folder):
        notes = SharedNotes(cache)
        notes.change(lambda book: book.update(down={}))
        notes.change(lambda book: book.clear())
        assert files(folder) == []

    def test_no_change_of_several_processes_is_lost(self, folder):
        program = (
            "import sys; from lm_openai.storage.cache import Cache, SharedNotes\n"
            "notes = SharedNotes(Cache(sys.argv[1], sys.argv[2], lambda: 1700000000.0))\n"
            "add = lambda book: book.update(count={'n': book.get('count', {'n': 0})['n'] + 1})\n"
            "for turn in range(200): notes.change(add)"
        )
        command = [sys.executable, "-c", program, str(folder), IDENTITY]
        writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
        assert SharedNotes(Cache(str(folder), IDENTITY, Clock())).read() == {"count": {"n": 600}}

    def test_without_a_folder_a_process_has_its_own_notes(self, clock):
        notes = SharedNotes(Cache(None, IDENTITY, clock))
        notes.change(lambda book: book.update(down={"costs": [1]}))
        assert notes.read() == {"down": {"costs": [1]}}
