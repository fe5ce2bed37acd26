"""How many files and connections a process that works on fleets may have open."""

import resource

MOST = 16_384  # as the systemd units allow; a worker may have eight runs of 200 hosts at work


def allow_many() -> None:
    """Raise our own limit as far as we may. A shell or a container often leaves it at 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(MOST, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
