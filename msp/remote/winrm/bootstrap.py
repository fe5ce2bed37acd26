"""How a script reaches Windows: one command line for all of them, and the script over standard input. Pure.

A command line of Windows is short, logged, and shown in the task list; so it holds nothing but a few lines of
PowerShell that never change. They read two lines of base64: the script, then what the script finds on its standard
input. Lines of base64 mean the same in every code page. PowerShell itself reads a redirected standard input into
`$input` before anything else could, so `$input` is what is read (as Ansible's wrapper does, which is in wide use).
"""

import base64
import re
from dataclasses import dataclass

_PREPARED = """$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
$null=&chcp.com 65001
$msp_utf8=New-Object Text.UTF8Encoding $false
try{[Console]::OutputEncoding=$msp_utf8;[Console]::InputEncoding=$msp_utf8}catch{$null=$_}
$msp=@($input)
"""

#: Runs a PowerShell script in this very process; `$msp_in` holds the lines of its standard input.
POWERSHELL = (
    _PREPARED
    + """$msp_text={param($s)[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($s))}
$msp_in=@((&$msp_text $msp[1])-split"`n")
.([ScriptBlock]::Create((&$msp_text $msp[0])))
"""
)

#: Runs a batch file that exists as long as it runs; its streams are those of the command, byte for byte. Without an
#: encoding that has no mark, .NET would begin its standard input with a byte order mark.
CMD = (
    _PREPARED
    + """$f=[IO.Path]::Combine([IO.Path]::GetTempPath(),'msp-'+[Guid]::NewGuid()+'.cmd')
[IO.File]::WriteAllBytes($f,[Convert]::FromBase64String($msp[0]))
try{$i=New-Object Diagnostics.ProcessStartInfo $env:ComSpec,('/d /q /s /c ""'+$f+'""')
$i.UseShellExecute=$false;$i.RedirectStandardInput=$true
$p=[Diagnostics.Process]::Start($i)
$b=[Convert]::FromBase64String($msp[1])
try{$p.StandardInput.BaseStream.Write($b,0,$b.Length);$p.StandardInput.Close()}catch{$null=$_}
$p.WaitForExit();$s=$p.ExitCode}finally{Remove-Item -LiteralPath $f -ErrorAction SilentlyContinue}
exit $s
"""
)

#: Put after a PowerShell script, so that its exit status is that of its last statement, as in sh.
ENDING = "\nif(-not $?){if($LASTEXITCODE){exit $LASTEXITCODE};exit 1};exit 0\n"

_HEAD = re.compile(r"#!(powershell|cmd)(?: MSP_STEP=([A-Za-z0-9_-]+))?\r?\n")


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes over the wire: a command line for cmd.exe, and the command's whole standard input."""

    command: str
    stdin: bytes
    powershell: bool  # its standard error may be CLIXML

    @property
    def by_ssh(self) -> str:
        """The command line for OpenSSH on Windows, whose log-in shell may be cmd.exe or PowerShell."""
        return f'cmd.exe /d /c "{self.command}"' if "&" in self.command else self.command


def encoded(text: str) -> str:
    """Return a PowerShell text as -EncodedCommand takes it."""
    return base64.b64encode(text.encode("utf-16-le")).decode()


_COMMANDS = {
    kind: f"powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {encoded(text)}"
    for kind, text in (("powershell", POWERSHELL), ("cmd", CMD))
}


def sent(script: str, stdin: bytes) -> Sent | None:
    """Return what to send for a script that begins with #!powershell or #!cmd; None for any other script.

    A token after the head (`#!cmd MSP_STEP=...`) is put on the command line, where the process can be found by it.
    """
    head = _HEAD.match(script)
    if head is None:
        return None
    body = script[head.end() :]
    if head[1] == "cmd":  # labels of a batch file are only found after CR LF
        body = body.replace("\r\n", "\n").replace("\n", "\r\n")
    else:
        body += ENDING
    lines = (body.encode("utf-8", "surrogateescape"), stdin)
    command = _COMMANDS[head[1]]
    if head[2]:
        command = f"set MSP_STEP={head[2]}& {command}"
    return Sent(command, b"".join(base64.b64encode(line) + b"\n" for line in lines), head[1] == "powershell")


def head(kind: str, token: str = "") -> str:
    """Return the first line of a script of `kind` (powershell, cmd), marked with a token or not."""
    return f"#!{kind} MSP_STEP={token}\n" if token else f"#!{kind}\n"


def marked(script: str, token: str) -> str | None:
    """Return a script for Windows marked with a token, or None for any other script."""
    found = _HEAD.match(script)
    return None if found is None else head(found[1], token) + script[found.end() :]


#: Is a command marked with the token still at work? Exit status 0 yes, 1 no. The question itself is on no command line.
ALIVE = """#!powershell
$t='MSP_STEP=%s&'
if(@(Get-CimInstance Win32_Process|Where-Object{$_.CommandLine -and $_.CommandLine.Contains($t)}).Count){exit 0}
exit 1
"""
