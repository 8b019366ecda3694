"""What `edgelstm doctor` looks at: pure pieces, each of which gives findings.

The pieces take what they look at as arguments, such as the folder that is the root of /proc, /sys
and /dev. `diagnose.diagnose` gives them this machine's.
"""
