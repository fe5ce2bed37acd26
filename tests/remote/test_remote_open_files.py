"""Where this machine lets us open no more files: that is told of the host, and the limit is raised where we may."""

import resource
import subprocess
import sys

import pytest

from msp.remote import dial
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen

TARGET = Target("a", "127.0.0.1", 9, Credential("u"), ())


async def test_a_host_for_which_no_file_is_left_is_not_started_and_says_why() -> None:
    found = await dial.addresses(TARGET)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(CannotOpen) as caught:
            await dial.connected(TARGET, found, service="SSH")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.outcome.kind == "not_started"
    assert caught.value.outcome.detail == "a (127.0.0.1:9) was not called: too many files are open on our own machine."
    assert "parallel" in caught.value.advice


@pytest.mark.parametrize(("soft", "most", "raised"), [(200, 16_384, 900), (200, 600, 600), (700, 600, 700)])
def test_the_limit_is_raised_as_far_as_fleets_need_and_never_lowered(soft: int, most: int, raised: int) -> None:
    code = (
        f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, 900));"
        f"from msp import open_files as o; o.MOST = {most}; o.allow_many(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(raised), "900"]
