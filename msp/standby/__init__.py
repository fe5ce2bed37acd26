"""A process that has read the program already and carries out commands at once, in a child of its own for each.

A worker keeps one beside its database. A command hands its standing over (arguments, folder, environment, standard
input and output) and waits; what runs is the same command, so results, records and exit status are the same. Without
one, or when it has another version of the program, the command does the work itself. The idea is that of Mercurial's
chg.
"""
