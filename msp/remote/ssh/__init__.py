"""SSH, by asyncssh, tuned and strict: pinned host keys from our own records, exactly the credential given, bytes only.

No known_hosts file, agent, GSSAPI, ssh_config or compression is consulted. `conn.run()` is never used: it decodes,
and one invalid byte truncates the output silently and closes the connection.
"""

from msp.remote.ssh.transport import SshTransport as SshTransport
