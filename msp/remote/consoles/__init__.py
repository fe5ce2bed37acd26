"""Consoles: a terminal or a screen of a machine in the browser, admitted by the contract and recorded, output only."""
