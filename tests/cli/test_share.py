"""The command share: a link is printed once, listed without its secret, and revoked."""

import json
import re

from engine.accounts import shares
from tests.support.cli import graft


def test_a_link_is_printed_once_listed_and_revoked(trained_run):
    home = trained_run.home
    made = graft(
        "share", trained_run.id, "--hours", 2, "--uses", 7, "--collect", "--wall",
        "--address", "http://192.168.1.20:8501/graft", home=home,
    )  # fmt: skip
    wall, link = made.stdout.split()
    found = re.fullmatch(r"http://192\.168\.1\.20:8501/graft/s/([\w-]{43})", link)
    share = shares.by_token(home, found[1])
    assert (share.run, share.by, share.uses) == (trained_run.id, "local", 7)
    assert share.collect and share.wall and share.expires - share.created == 7200
    path, _, fragment = wall.partition("#")
    assert shares.by_wall(home, path.rsplit("/", 1)[1]) == share and found[1] in fragment
    assert f"--revoke {share.id}" in made.stderr and "phones" not in made.stderr

    listed = graft("share", "--list", home=home).stdout
    assert share.id in listed and "0 of 7" in listed and found[1] not in listed
    (row,) = [r for r in json.loads(graft("share", "--list", "--json", home=home).stdout)
              if r["id"] == share.id]  # fmt: skip
    assert row["wall"] is True and found[1] not in json.dumps(row)

    assert graft("share", "--revoke", share.id, home=home).returncode == 0
    assert shares.by_token(home, found[1]) is None
    again = graft("share", "--revoke", share.id, home=home)
    assert again.returncode == 2 and "no share" in again.stderr


def test_an_address_of_this_host_alone_is_said_and_a_wrong_one_refused(trained_run):
    home = trained_run.home
    made = graft("share", "latest", "--json", home=home)
    assert "Phones cannot open 127.0.0.1" in made.stderr and "LAN=1" in made.stderr
    found = json.loads(made.stdout)
    assert found["link"].startswith("http://127.0.0.1:8501/s/") and found["wall_link"] is None
    for arguments, said in (
        ((), "name the run to share"),
        (("latest", "--address", "192.168.1.20"), "http://127.0.0.1:8501"),
        (("nothing",), "nothing"),
    ):
        refused = graft("share", *arguments, home=home)
        assert refused.returncode == 2 and said in refused.stderr and not refused.stdout
