"""Windows hosts by WinRM: WS-Management over HTTPS, cmd and PowerShell scripts, one outcome."""
