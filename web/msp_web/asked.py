"""What a request asks, as pages get it: no parameter of an address holds a NUL, which PostgreSQL refuses to compare.

Nobody types one; it comes with output of a machine that is pasted into a search. What a form holds is left as it was
sent: a secret without its NUL would be another secret, so who stores a text judges it.
"""

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.utils import cached_property


class Asked(Request):
    """A request whose `args` hold no NUL."""

    @cached_property
    def args(self) -> MultiDict[str, str]:
        given = super().args.items(multi=True)
        return ImmutableMultiDict([(name.replace("\0", ""), value.replace("\0", "")) for name, value in given])
