"""What outlives a process: kept answers, remembered failures, and folders that cannot be used."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.config import paths
from lm_openai.errors import ApiFailure
from lm_openai.storage import cache as storage_cache
from lm_openai.storage.cache import Cache, Pauses, identity
from tests.support.paths import ROOT

KEY = "sk-admin-Zm9vYmFy"
MINE = identity("default", "https://api.openai.com/v1", KEY)
SOMEBODY = 12345


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self, instant=1_700_000_000.0):
        self.instant = instant

    def __call__(self):
        return self.instant


class Question:
    """Something to remember: answers, or fails, and counts how often it was asked."""

    def __init__(self, answer=None, failure=None):
        self.answer, self.failure, self.endpoint = answer, failure, 0

    def __call__(self):
        self.endpoint += 1
        if self.failure:
            raise self.failure
        return self.answer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept" / "lm-openai"


@pytest.fixture
def cache(folder, clock):
    return Cache(str(folder), MINE, clock)


def files(folder):
    return sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []


class TestKeeping:
    def test_what_is_put_is_got_until_its_time_is_over(self, cache, clock):
        cache.put("projects", [{"id": "proj_1", "name": None}], 60)
        assert cache.get("projects") == [{"id": "proj_1", "name": None}]
        clock.instant += 59.9
        assert cache.get("projects") is not None
        clock.instant += 0.1
        assert cache.get("projects") is None

    def test_another_process_finds_it(self, cache, folder):
        cache.put("a", "Ünïcode \ud800", 60)
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "print(ascii(Cache(sys.argv[1], sys.argv[2], lambda: 1700000001.0).get('a')))"
        )
        command = [sys.executable, "-c", program, str(folder), MINE]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == ascii("Ünïcode \ud800")

    def test_a_clock_set_back_makes_answers_stale_not_eternal(self, cache, clock):
        cache.put("a", 1, 60)
        clock.instant -= 86400
        assert cache.get("a") is None

    def test_forgotten_is_gone_and_forgetting_nothing_is_well(self, cache):
        cache.put("a", 1, 60)
        cache.forget("a")
        cache.forget("a")
        assert cache.get("a") is None

    def test_organizations_urls_and_keys_do_not_meet(self, folder, clock):
        whose = [
            identity("one", "https://a/v1"),
            identity("two", "https://a/v1"),
            identity("one", "https://b/v1"),
            identity("one", "https://a/v1", "sk-1"),
            identity("one", "https://a/v1", "sk-2"),
        ]
        assert len(set(whose)) == len(whose)
        for mine in whose:
            Cache(str(folder), mine, clock).put("a", mine, 60)
        assert [Cache(str(folder), mine, clock).get("a") for mine in whose] == whose

    def test_no_secret_reaches_an_identity_a_name_or_a_file(self, cache, folder):
        assert KEY not in MINE
        assert "hush" not in identity("one", "https://user:hush@host/v1")
        cache.put("projects", ["x"], 60)
        (kept,) = files(folder)
        assert KEY not in kept.name + kept.read_text()

    @given(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_any_name_and_any_json_value_come_back(self, tmp_path_factory, name, value):
        cache = Cache(str(tmp_path_factory.getbasetemp() / "any"), MINE, Clock())
        cache.put(name, value, 60)
        assert cache.get(name) == value
        assert cache.remember(name, 60, lambda: "made anew") == value


class TestRemembering:
    def test_an_answer_is_made_once_per_time_to_live(self, cache, clock):
        question = Question([1])
        assert [cache.remember("a", 60, question) for _ in range(3)] == [[1]] * 3
        assert question.endpoint == 1
        clock.instant += 60
        cache.remember("a", 60, question)
        assert question.endpoint == 2

    def test_nothing_is_an_answer_too(self, cache):
        question = Question(None)
        cache.remember("a", 60, question)
        assert cache.remember("a", 60, question) is None
        assert question.endpoint == 1

    def test_a_failure_is_raised_again_word_for_word_and_only_briefly(self, cache, clock):
        failure = ApiFailure("scope", "audit_logs", "403", "api.audit_logs.read")
        question = Question(failure=failure)
        for _ in range(3):
            with pytest.raises(ApiFailure) as caught:
                cache.remember("a", 3600, question)
            again = caught.value
            assert str(again) == str(failure)
            assert (again.kind, again.endpoint, again.detail, again.scope) == (
                "scope",
                "audit_logs",
                "403",
                "api.audit_logs.read",
            )
        assert question.endpoint == 1
        assert cache.get("a") is None
        clock.instant += 60
        question.failure, question.answer = None, "well again"
        assert cache.remember("a", 3600, question) == "well again"

    def test_running_out_of_time_is_the_askers_own(self, cache):
        question = Question(failure=ApiFailure("deadline", "costs"))
        for _ in range(2):
            with pytest.raises(ApiFailure):
                cache.remember("a", 60, question)
        assert question.endpoint == 2

    def test_a_mistake_in_the_program_is_not_kept(self, cache, folder):
        with pytest.raises(ZeroDivisionError):
            cache.remember("a", 60, lambda: 1 // 0)
        assert files(folder) == []

    def test_no_time_to_live_means_asking_each_time(self, cache, folder):
        question = Question(1)
        cache.remember("a", 0, question)
        cache.remember("a", 0, question)
        assert question.endpoint == 2
        assert files(folder) == []

    def test_threads_that_ask_the_same_make_it_once(self, cache):
        question = Question("answer")
        gate = threading.Barrier(8)
        answers = []

        def ask():
            gate.wait(30)
            answers.append(cache.remember("a", 60, question))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == ["answer"] * 8
        assert question.endpoint == 1

    def test_an_answer_may_need_another_one(self, cache):
        assert cache.remember("keys", 60, lambda: cache.remember("projects", 60, list)) == []


class TestFiles:
    def test_folder_and_files_are_private_whatever_the_umask(self, cache, folder):
        before = os.umask(0)
        try:
            cache.put("a", 1, 60)
        finally:
            os.umask(before)
        (kept,) = files(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"\x00\xff",
            b"{",
            b"[]",
            b"null",
            b'{"made": 1}',
            b'{"made": "x", "ttl": 60}',
            b'{"made": 1, "ttl": 60, "extra": 1}',
            b'{"made": 1, "ttl": 60, "failure": ["of a later version", "a", "b", "c"]}',
            b'{"made": 1, "ttl": 60, "failure": 7}',
            b"[" * 100_000,
        ],
    )
    def test_a_damaged_file_is_discarded_and_made_anew(self, cache, folder, damage):
        cache.put("a", 1, 60)
        (kept,) = files(folder)
        kept.write_bytes(damage)
        assert cache.get("a") is None
        assert not kept.exists()
        assert cache.remember("a", 60, lambda: 2) == 2
        assert cache.get("a") == 2

    def test_a_reader_meets_the_old_or_the_new_answer_never_a_part(self, folder):
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "mine = Cache(sys.argv[1], sys.argv[2], lambda: 1700000000.0)\n"
            "for turn in range(300): mine.put('a', [turn] * 5000, 60)"
        )
        command = [sys.executable, "-c", program, str(folder), MINE]
        writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
        reader = Cache(str(folder), MINE, Clock())
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

    def test_what_ended_a_day_ago_is_pruned_and_nothing_else(self, cache, folder, clock):
        cache.put("old", 1, 60)
        (old,) = files(folder)
        (folder / "left.unfinished").write_text("")
        os.utime(folder / "left.unfinished", (clock.instant, clock.instant))
        (folder / "of somebody else").write_text("")
        os.utime(folder / "of somebody else", (0, 0))
        clock.instant += 86400 + 61
        later = Cache(str(folder), MINE, clock)
        later.put("lasting", 1, 60)
        assert not old.exists()
        assert later.get("lasting") == 1
        assert {path.name for path in files(folder) if path.suffix != ".answer"} == {
            "of somebody else"
        }

    def test_pruning_is_bounded(self, cache, folder, clock, monkeypatch):
        monkeypatch.setattr(storage_cache, "_PRUNED_AT_ONCE", 3)
        for number in range(6):
            cache.put(str(number), 1, 60)
        clock.instant += 2 * 86400
        Cache(str(folder), MINE, clock).put("new", 1, 60)
        assert len(files(folder)) == 4


class TestFoldersThatCannotBeUsed:
    def works_without(self, cache, trouble):
        """All calls do their work for the process alone, and say why."""
        question = Question(5)
        assert cache.remember("a", 60, question) == 5
        assert cache.remember("a", 60, question) == 5
        cache.put("b", 1, 60)
        cache.forget("b")
        assert cache.get("b") is None
        assert question.endpoint == 1
        assert Cache(cache.folder, MINE, cache.now).get("a") is None
        assert trouble in cache.trouble

    def test_none(self, clock):
        self.works_without(Cache(None, MINE, clock), "")
        self.works_without(Cache("", MINE, clock), "")

    def test_what_the_process_kept_ends_as_a_file_would(self, clock):
        cache = Cache(None, MINE, clock)
        cache.put("a", (1, 2), 60)
        assert cache.get("a") == [1, 2]
        clock.instant += 60
        assert cache.get("a") is None

    def test_a_file_in_its_place(self, tmp_path, clock):
        (tmp_path / "file").write_text("precious")
        self.works_without(Cache(str(tmp_path / "file"), MINE, clock), "not a folder")
        self.works_without(Cache(str(tmp_path / "file" / "below"), MINE, clock), "directory")
        assert (tmp_path / "file").read_text() == "precious"

    def test_where_not_even_root_may_make_one(self, clock):
        self.works_without(Cache("/proc/lm-openai", MINE, clock), "No such file")

    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_link_to_elsewhere(self, tmp_path, clock, end):
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        self.works_without(Cache(f"{tmp_path}/link{end}", MINE, clock), "link")
        assert files(tmp_path / "elsewhere") == []

    def test_another_users_folder_is_neither_written_nor_believed(self, cache, folder, clock):
        cache.put("a", "planted", 60)
        if os.geteuid() == 0:
            os.chown(folder, SOMEBODY, -1)
            self.works_without(Cache(str(folder), MINE, clock), "another user")
        else:
            self.works_without(Cache("/usr", MINE, clock), "another user")

    def test_a_folder_that_others_can_write_is_not_believed_and_keeps_its_mode(
        self, cache, folder, clock
    ):
        cache.put("a", "planted", 60)
        folder.chmod(0o777)
        self.works_without(Cache(str(folder), MINE, clock), "chmod 700")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777

    def test_a_full_disk_keeps_the_old_answer_and_leaves_nothing_behind(self, cache, folder):
        cache.put("old", "kept", 60)
        program = (
            "import sys; from lm_openai.storage.cache import Cache\n"
            "mine = Cache(sys.argv[1], sys.argv[2], lambda: 1700000000.0)\n"
            "mine.put('old', 'x' * 10000, 60)\n"
            "print(mine.get('old'), mine.remember('new', 60, lambda: 'y' * 5), mine.get('new'))\n"
            "print(mine.trouble, file=sys.stderr)"
        )
        answer = subprocess.run(
            [sys.executable, "-B", "-c", program, str(folder), MINE],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
        )
        assert answer.stdout.split() == ["x" * 10000, "yyyyy", "yyyyy"]
        assert cache.get("old") == "kept"
        assert "File too large" in answer.stderr
        assert len(files(folder)) == 1

    def test_a_folder_that_vanishes_is_made_again(self, cache, folder):
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
        environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "/x", "TMPDIR": "/t"}
        assert paths.cache_folder("/var/cache/mine", environ) == "/var/cache/mine"
        assert paths.cache_folder("", environ) == "/x/lm-openai"
        environ["XDG_CACHE_HOME"] = "not/absolute"
        assert paths.cache_folder("", environ) == f"{tmp_path}/.cache/lm-openai"

    @pytest.mark.parametrize("home", ["", "/nonexistent", "relative"])
    def test_without_a_home_to_write_in_it_is_private_below_the_temporary_folder(self, home):
        mine = f"lm-openai-{os.geteuid()}"
        assert paths.cache_folder("", {"HOME": home, "TMPDIR": "/t"}) == f"/t/{mine}"
        assert paths.cache_folder("", {"HOME": home}) == f"/tmp/{mine}"


def test_what_is_kept_is_plain_json_with_its_own_end(cache, folder, clock):
    cache.put("a", {"b": 1}, 60)
    (kept,) = files(folder)
    assert json.loads(kept.read_text())["value"] == {"b": 1}
    assert kept.stat().st_mtime == clock.instant + 60


def test_a_throttled_process_pauses_the_others_of_the_same_organization(tmp_path: Path) -> None:
    clock = [1000.0]

    def pauses(identity: str) -> Pauses:
        return Pauses(Cache(str(tmp_path / "cache"), identity, lambda: 1000.0), lambda: clock[0])

    pauses("acme").pause(30)
    clock[0] += 10

    assert pauses("acme").until() == 20
    assert pauses("other").until() <= 0


def test_a_shorter_pause_does_not_end_a_longer_one(tmp_path: Path) -> None:
    pauses = Pauses(Cache(str(tmp_path / "cache"), "acme", lambda: 1000.0), lambda: 1000.0)

    pauses.pause(60)
    pauses.pause(1)

    assert pauses.until() == 60
