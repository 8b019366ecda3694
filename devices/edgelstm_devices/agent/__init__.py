"""What runs on the device while the laptop deploys to it: only the standard library, Python >= 3.9.

It is sent over the ssh connection and never installed (`edgelstm_devices.remote`); Ansible sends
the same modules. So modules here import nothing but the standard library and, relatively, one
another, and every argument and answer is plain data that JSON has.
"""
