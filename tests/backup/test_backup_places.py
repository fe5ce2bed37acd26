"""Where a plan says that a backup lies: every spelling of a path is one path, and none names a program."""

from pathlib import Path
from typing import Any

import pytest

from msp.backup import places
from msp.errors import Misconfigured, Refused


def case_of(engine: str, place: str, **more: Any) -> dict[str, Any]:
    return {"engine": engine, "repo" if engine in ("restic", "borg", "bacula", "own") else "file": place, **more}


@pytest.mark.parametrize(
    ("engine", "place", "plain"),
    [
        ("tar", "/srv/a/../b//x.tar", "/srv/b/x.tar"),
        ("tar", "//srv/b", "/srv/b"),
        ("tar", "/srv/at:noon.tar", "/srv/at:noon.tar"),
        ("restic", "/srv/b", "/srv/b"),
        ("restic", "local:/srv/./b", "/srv/b"),
        ("borg", "file:///srv/b", "/srv/b"),
        ("borg", "FILE:///srv/b", "/srv/b"),
        ("bacula", "/etc/bacula/bconsole.conf", "/etc/bacula/bconsole.conf"),
    ],
)
def test_a_path_has_one_form(engine: str, place: str, plain: str) -> None:
    (found,) = places.named(case_of(engine, place))
    assert (found.said, found.plain) == (place, plain)


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("restic", "rest:https://anna:word@backup.example:8000/alfa/"),
        ("restic", "s3:s3.example.org/bucket/alfa"),
        ("restic", "s3:https://s3.example.org/bucket"),
        ("restic", "b2:bucket:alfa"),
        ("restic", "sftp:anna@backup.example:/srv/b"),
        ("restic", "sftp:backup.example:alfa"),
        ("restic", "sftp://anna@backup.example:2222//srv/b"),
        ("restic", "sftp://[2001:db8::1]/srv/b"),
        ("restic", "rclone:remote:path/alfa"),
        ("restic", "rclone:my remote-2:"),
        ("borg", "ssh://anna@backup.example:23/./alfa"),
        ("borg", "anna@backup.example:alfa"),
        ("borg", "backup.example:/srv/b"),
        ("own", "ssh://backup.example/srv/b"),
        ("own", "rest:http://backup.example/"),
    ],
)
def test_a_server_or_a_service_may_be_named(engine: str, place: str) -> None:
    assert [one.plain for one in places.named(case_of(engine, place))] == [place]
    assert places.followed(case_of(engine, place)) == []


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("tar", "../../srv/b/x.tar"),
        ("tar", "local:/srv/b"),
        ("tree", "file:///srv/b"),
        ("restic", "srv"),
        ("restic", "./b:c"),
        ("restic", "local:foo"),
        ("restic", "local:local:/srv/b"),
        ("restic", "local:"),
        ("borg", "file://srv/b"),
        ("borg", "file:b"),
        ("bacula", "bconsole.conf"),
    ],
)
def test_a_relative_path_is_none(engine: str, place: str) -> None:
    with pytest.raises(Misconfigured, match="not an absolute path"):
        places.named(case_of(engine, place))
    assert places.known(case_of(engine, place)) == []
    with pytest.raises(Misconfigured):
        places.named({"engine": "tar", "file": "/srv/b", "expect": {"manifest": "b.manifest"}})


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("tar", "-Ifoo"),
        ("restic", "-r"),
        ("restic", "local:--help"),
        ("restic", "rclone::sftp,ssh=/srv/program:/b"),
        ("restic", "rclone:remote,ssh=/srv/program:/b"),
        ("restic", "rclone:/srv/b"),
        ("restic", "rclone:../b"),
        ("restic", "rclone:--config=/srv/b"),
        ("restic", "sftp:-oProxyCommand=program:/b"),
        ("restic", "sftp:anna@-oProxyCommand=program:/b"),
        ("restic", "sftp:-oProxyCommand=program@backup.example:/b"),
        ("restic", "sftp://-oProxyCommand=program/b"),
        ("restic", "sftp:backup.example -oProxyCommand=program:/b"),
        ("restic", "rest:http+unix:///run/own.socket:/b"),
        ("restic", "s3:-b"),
        ("restic", "unknown:/srv/b"),
        ("borg", "ssh://-oProxyCommand=program/b"),
        ("borg", "ssh://anna@-oProxyCommand=program/b"),
        ("borg", "anna@-oProxyCommand=program:b"),
        ("borg", "rclone::sftp,ssh=/srv/program:/b"),
        ("borg", "{now:/srv/b}"),
        ("borg", "own:///srv/b"),
        ("own", "rclone::sftp,ssh=/srv/program:/b"),
        ("own", "-b"),
    ],
)
def test_a_program_or_an_option_is_no_place(engine: str, place: str) -> None:
    with pytest.raises(Refused, match="cannot be the place"):
        places.named(case_of(engine, place))
    with pytest.raises(Refused):
        places.named(case_of(engine, place, on="one"))


def test_paths_of_a_clients_host_are_its_own_matter() -> None:
    (found,) = places.named(case_of("tar", "b/x.tar", on="one"))
    assert found.plain == "b/x.tar"
    assert places.followed(case_of("tar", "/srv/b", on="one")) == []


def test_links_are_followed_in_every_place_that_a_case_names(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "link").symlink_to(there)
    link = str(tmp_path / "link")
    for engine, repo in (("restic", f"local:{link}/../there"), ("borg", f"file://{link}"), ("tree", link)):
        case = {"engine": engine, "repo": repo, "expect": {"manifest": f"{link}/b.manifest"}}
        assert [one.plain for one in places.followed(case)] == [str(there), str(there / "b.manifest")]
    with pytest.raises(Misconfigured):
        places.followed({"engine": "tar", "file": "/srv/\ud800"})


def test_places_overlap_where_one_lies_in_the_other() -> None:
    for one, other in (("/srv/b", "/srv"), ("/srv/b/c", "/srv/b"), ("sftp:a:/b/", "sftp:a:/b")):
        assert places.overlap(one, other)
        assert places.overlap(other, one)
    for one, other in (("/srv/b", "/srv/bc"), ("/srv/b", "anna@backup.example:/srv/b")):
        assert not places.overlap(one, other)
