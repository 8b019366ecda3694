from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from edgelstm.errors import DeploymentError
from edgelstm_devices.ssh import Ssh, open_ssh, why

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r
Add correct host key in /home/ann/.ssh/known_hosts to get rid of this message.\r
Offending ED25519 key in /home/ann/.ssh/known_hosts:3\r
  remove with:\r
  ssh-keygen -f "/home/ann/.ssh/known_hosts" -R "[10.0.0.7]:2222"\r
Host key for [10.0.0.7]:2222 has changed and you have requested strict checking.\r
Host key verification failed.\r
"""
JUMP = "kex_exchange_identification: Connection closed by remote host\r\n"
UNKNOWN = "Connection closed by UNKNOWN port 65535\r\n"
KEY = "No ED25519 host key is known for 10.0.0.7 and you have requested strict checking.\r\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            CHANGED,
            "pump-3 has another host key than it had: it was set up anew, or it is another "
            "computer; if you know why, forget the old key with: ssh-keygen -f "
            '"/home/ann/.ssh/known_hosts" -R "[10.0.0.7]:2222"',
        ),
        (
            f"{KEY}Host key verification failed.\r\n",
            "The host key of pump-3 is not known; log in once by hand to check and accept it: ssh "
            "-p 2222 pump-3",
        ),
        (
            f"{KEY}Host key verification failed.\r\n{JUMP}{UNKNOWN}",
            "The host key of a host on the way to pump-3 is not known; log in once by hand to "
            "check and accept it: ssh -p 2222 pump-3",
        ),
        (
            "** WARNING: a banner\r\npi@10.0.0.7: Permission denied (publickey,password).\r\n",
            "pump-3 does not let you in (pi@10.0.0.7: Permission denied (publickey,password)); "
            "try: ssh -p 2222 pump-3, and copy your key there with: ssh-copy-id -p 2222 pump-3",
        ),
        (
            "Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\r\n"
            "Disconnected from 10.0.0.7 port 22\r\n",
            "pump-3 does not let you in, because too many wrong keys were tried; name the right "
            "one with: -i KEY -o IdentitiesOnly=yes",
        ),
        (
            "ssh: Could not resolve hostname pump-3: Name or service not known\r\n",
            "pump-3 cannot be reached (ssh: Could not resolve hostname pump-3: Name or service "
            "not known); try: ssh -p 2222 pump-3",
        ),
        (
            f"ssh: Could not resolve hostname gate: Name or service not known\r\n{JUMP}{UNKNOWN}",
            "pump-3 cannot be reached (ssh: Could not resolve hostname gate: Name or service not "
            "known); try: ssh -p 2222 pump-3",
        ),
        (
            JUMP,
            "pump-3 cannot be reached (kex_exchange_identification: Connection closed by remote "
            "host); try: ssh -p 2222 pump-3",
        ),
        ("\n", "pump-3 cannot be reached (ssh did not say why); try: ssh -p 2222 pump-3"),
    ],
)
def test_what_ssh_says_becomes_a_sentence_with_what_to_do(text: str, sentence: str) -> None:
    assert why("pump-3", text, ("-p", "2222")) == sentence


def test_a_hint_can_be_pasted() -> None:
    options = ("-o", "ProxyCommand=nc -X 5 %h %p", "-i", "my key")
    hint = why("pi@x", "", options).partition("try: ")[2]
    assert shlex.split(hint) == ["ssh", *options, "pi@x"]


def test_arguments_arrive_as_they_are_and_options_of_the_user_come_first() -> None:
    ssh = Ssh("pi@pump-3", ("-o", "ServerAliveInterval=60"), Path("/run/a b/50%/ssh"))
    argv = ["python3", "-c", 'print("$HOME; *")', ""]
    command = ssh.command(argv)
    assert command[0] == "ssh"
    assert command[-3:-1] == ["--", "pi@pump-3"]
    assert shlex.split(command[-1]) == argv
    assert command.index("ServerAliveInterval=60") < command.index("ServerAliveInterval=5")
    assert command[command.index("-S") + 1] == "/run/a b/50%%/ssh"
    assert not [word for word in command if "HostKey" in word], "they are never skipped"


def test_an_option_is_no_host() -> None:
    with pytest.raises(DeploymentError, match=r"^'-oProxyCommand=x' is no name of a host\.$"):
        open_ssh("-oProxyCommand=x").__enter__()


def test_no_ssh_on_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match=r"no ssh on this .* apt-get install openssh-client"):
        open_ssh("pump-3").__enter__()
