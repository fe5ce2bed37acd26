"""What a `network` step may say."""

from msp.remote.playbook_part import Part


class Network(Part):
    """Commands of a router or switch: `show`, or `config` lines with the difference as evidence."""

    show: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    save: bool = False
