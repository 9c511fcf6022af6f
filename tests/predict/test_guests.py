"""Guests with a share link: what counts, what is kept, what hangs on the wall."""

import io
import os
import shutil
import threading

import pytest
from PIL import Image

from engine import actions
from engine import home as homes
from engine.accounts import shares, users
from engine.accounts.store import AccountError
from engine.errors import GraftError
from engine.predict import confidence, guest_images, guests
from engine.predict.classifier import Classifier
from engine.runs import runs
from tests.support.pictures import encode, picture

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """The trained run in a home of this module: accounts would close the session's."""
    home = homes.home(tmp_path_factory.mktemp("guests"))
    shutil.copytree(trained_run.path, home / homes.RUNS / trained_run.id)
    return runs.get_run(home, trained_run.id)


@pytest.fixture
def photo(run):
    return run.examples()[0]["path"].read_bytes()


def located(side=2400):
    """A photo as a phone takes it: large, turned, with the place in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)
    return encode(picture(side, side // 2), "JPEG", exif=exif)


def test_an_answer_is_that_of_the_test_page_and_counts(run, photo):
    share, token, _ = actions.share(run, uses=2)
    found = guests.classify(run.home, token, photo)
    answer = Classifier(run).predict([photo])[0]
    verdict = confidence.Confidence(run).verdicts([answer])[0]
    assert found.reply.top == answer.top(3) and found.reply.label == answer.top(1)[0][0]
    assert (found.reply.kind, found.reply.sentence) == (verdict.kind, verdict.text)
    assert (found.error, found.kept, found.left) == (None, None, 1)

    broken = guests.classify(run.home, token, b"no image")
    assert broken.reply is None and "not an image" in broken.error and broken.left == 0
    with pytest.raises(AccountError, match="has taken its 2 images"):
        guests.classify(run.home, token, photo)
    assert not guests.on_wall(share.id) and not guest_images.listed(run)


def test_what_is_unlike_training_gets_no_class_as_heading(run):
    _, token, _ = actions.share(run)
    noise = Image.frombytes("RGB", (300, 300), os.urandom(270_000))
    reply = guests.classify(run.home, token, encode(noise)).reply
    assert reply.kind == "unlike" and reply.heading == "none of these"
    assert "no answer should be trusted" in reply.sentence and reply.label in run.classes


def test_guests_at_once_never_get_more_than_the_link_takes(run, photo):
    _, token, _ = actions.share(run, uses=3)
    got = []

    def guest():
        try:
            got.append(guests.classify(run.home, token, photo).left)
        except AccountError as error:
            got.append(str(error))

    threads = [threading.Thread(target=guest) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each for each in got if isinstance(each, int)) == [0, 1, 2]
    said = [each for each in got if isinstance(each, str)]
    assert len(said) == 3 and all("has taken its 3 images" in each for each in said)


def test_collected_images_are_the_sharers_and_say_nothing_of_the_place(run, photo):
    share, token, _ = actions.share(run, collect=True)
    assert guests.classify(run.home, token, located()).kept
    (image,) = guest_images.listed(run)
    with Image.open(image.path) as kept:
        assert not kept.getexif() and max(kept.size) == guest_images.SIDE
        assert kept.height > kept.width  # upright
    assert image.name == "guest photo 1" and image.by == share.by
    guests.classify(run.home, token, photo)
    assert [each.name for each in guest_images.listed(run)] == ["guest photo 2", "guest photo 1"]
    guest_images.sweep(run.home)
    assert len(guest_images.listed(run)) == 2
    assert actions.delete_guest_images(run, share.by) == 2 and not guest_images.listed(run)


def test_a_full_disk_keeps_nothing_and_the_guest_still_gets_an_answer(run, photo):
    _, token, _ = actions.share(run, collect=True)
    blocked = run.home / homes.GUESTS / run.id / "local"
    shutil.rmtree(run.home / homes.GUESTS)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file in the place of the folder")
    found = guests.classify(run.home, token, photo)
    assert found.kept is False and found.reply.label in run.classes
    shutil.rmtree(run.home / homes.GUESTS)


def test_images_go_with_the_run(run, photo, tmp_path):
    home = homes.home(tmp_path / "other")
    shutil.copytree(run.path, home / homes.RUNS / run.id)
    own = runs.get_run(home, run.id)
    _, token, _ = actions.share(own, collect=True)
    guests.classify(home, token, photo)
    actions.delete(own)
    guest_images.sweep(home)  # it may come back from the trash
    with pytest.raises(GraftError):
        guests.classify(home, token, photo)
    assert shares.by_token(home, token).used == 1  # what is not classified is not counted
    actions.restore(home, run.id)
    assert guests.classify(home, token, photo).kept and len(guest_images.listed(own)) == 2
    actions.delete(own)
    actions.empty_trash(home)
    guest_images.sweep(home)
    assert not (home / homes.GUESTS / run.id).exists()


def test_a_wall_shows_the_last_answers_small_and_lets_them_be_taken_down(run, photo):
    share, token, wall = actions.share(run, wall=True)
    quiet, other, _ = actions.share(run)
    guests.classify(run.home, token, located())
    guests.classify(run.home, other, photo)
    (hung,) = guests.on_wall(share.id)
    with Image.open(io.BytesIO(hung.picture)) as small:
        assert max(small.size) == guests.SIDE and not small.getexif()
    assert not guests.on_wall(quiet.id)
    for _ in range(guests.ON_WALL + 1):
        guests.classify(run.home, token, photo)
    newest, *others = guests.on_wall(share.id)
    assert len(others) == guests.ON_WALL - 1 and hung not in others
    assert actions.clear_wall(share, run.home, {newest.id}) == 1
    assert guests.on_wall(share.id) == others
    assert actions.clear_wall(share, run.home) == len(others) and not guests.on_wall(share.id)

    guests.classify(run.home, token, photo)
    actions.revoke_share(run.home, share.id)
    assert not guests.on_wall(share.id)
    with pytest.raises(AccountError, match="expired or was revoked"):
        guests.check_open(run.home, shares.by_wall(run.home, wall))


def test_links_are_of_who_shared_and_end_with_their_role(run, photo, tmp_path):
    home = homes.home(tmp_path / "users")
    shutil.copytree(run.path, home / homes.RUNS / run.id)
    own = runs.get_run(home, run.id)
    for name, role in (("root", "admin"), ("ada", "trainer"), ("bob", "trainer")):
        users.add(home, name, role, PASSWORD)
    own.update(owner="ada")
    with pytest.raises(AccountError, match="role admin"):
        actions.share(own, "bob")
    share, token, _ = actions.share(own, "ada", collect=True, wall=True)
    guests.classify(home, token, photo)
    assert not actions.shared(home, own, "bob") and not actions.guest_images(own, "bob")
    assert actions.shared(home, own, "ada")[0].used == len(actions.guest_images(own, "ada")) == 1
    for act in (
        lambda: actions.revoke_share(home, share.id, "bob"),
        lambda: actions.clear_wall(share, home, None, "bob"),
        lambda: actions.delete_guest_images(own, "ada", "bob"),
    ):
        with pytest.raises(AccountError, match="ask ada"):
            act()
    users.set_role(home, "ada", "viewer")
    with pytest.raises(AccountError, match="expired or was revoked"):
        guests.classify(home, token, photo)
    users.set_role(home, "ada", "trainer")
    assert guests.classify(home, token, photo).kept
    actions.revoke_share(home, share.id, "root")
    with pytest.raises(AccountError, match="expired or was revoked"):
        guests.classify(home, token, photo)


def test_only_a_finished_run_can_be_shared_and_all_is_in_the_log(run, own_home):
    from engine.actions import log
    from engine.recipe import load_preset

    waiting = runs.create(load_preset("sample"), own_home)
    with pytest.raises(GraftError, match="no model to share"):
        actions.share(waiting)
    with pytest.raises(AccountError, match="at most 720 hours"):
        actions.share(run, hours=721)
    share, _, _ = actions.share(run)
    actions.revoke_share(run.home, share.id)
    with pytest.raises(AccountError, match="no share"):
        actions.revoke_share(run.home, share.id)
    said = [(row["action"], "refused" in row) for row in log.entries(run.home, last=4)]
    assert said == [
        ("revoke a share", True),
        ("revoke a share", False),
        ("share a run", False),
        ("share a run", True),
    ]


@pytest.mark.parametrize(
    ("base", "near"),
    [
        ("http://127.0.0.1:8501", True),
        ("http://localhost:8501/graft", True),
        ("http://[::1]:8501", True),
        ("http://127.8.0.1:8501", True),
        ("http://192.168.1.20:8501", False),
        ("https://graft.example", False),
    ],
)
def test_an_address_that_phones_cannot_open_is_named(base, near):
    assert bool(guests.unreachable(base)) == near


def test_the_wall_gets_the_guests_address_where_the_server_never_sees_it():
    guest, wall = guests.links("http://10.0.0.2:8501/graft/", "T" * 43, "W" * 43)
    assert guest == f"http://10.0.0.2:8501/graft/s/{'T' * 43}"
    path, fragment = wall.split("#")
    assert path == f"http://10.0.0.2:8501/graft/wall/{'W' * 43}"
    assert "TTT" not in path and "TTT" in fragment
    assert guests.links("http://10.0.0.2", "T")[1] is None
