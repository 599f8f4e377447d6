"""Both models' licences."""

from collections.abc import Callable

import pytest

from tokswap.checkpoint.licences import donor_licences, licence_files, stated_licence
from tokswap.checkpoint.source import Checkpoint

Build = Callable[..., Checkpoint]


def test_what_is_a_licence(checkpoint: Build) -> None:
    names = ["LICENSE", "LICENCE.md", "license.txt", "LICENSE-MODEL", "LICENSE_CODE", "NOTICE",
             "Notice.txt", "COPYING", "USE_POLICY.md", "LICENSE.donor"]  # fmt: skip
    others = dict.fromkeys(["config.json", "README.md", "noticed.py", "licenses_of_all.py"], b"")
    found = licence_files(checkpoint(**dict.fromkeys(names, b""), **others))
    assert found == sorted(names)


def test_the_donors_licence_goes_beside_the_bases(checkpoint: Build) -> None:
    base = checkpoint("base", LICENSE=b"A", **{"NOTICE.txt": b"N"})
    donor = checkpoint("donor", LICENSE=b"B", **{"NOTICE.txt": b"M", "USE_POLICY.md": b"N"})
    found = donor_licences(base, donor)
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "LICENSE.donor": b"B",
        "NOTICE.donor.txt": b"M",
    }


def test_the_same_licence_goes_once(checkpoint: Build) -> None:
    base, donor = checkpoint("base", LICENSE=b"A"), checkpoint("donor", **{"LICENSE.txt": b"A"})
    assert donor_licences(base, donor) == {}


def test_a_licence_never_takes_the_place_of_another(checkpoint: Build) -> None:
    base = checkpoint("base", LICENSE=b"A", **{"LICENSE.donor": b"of the donor before"})
    donor = checkpoint("donor", LICENSE=b"B")
    assert list(donor_licences(base, donor)) == ["LICENSE.donor2"]


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        (b"---\nlicense: apache-2.0\n---\n# x", "apache-2.0"),
        (b"---\r\nlicense: mit\r\n---\r\n", "mit"),
        (b"---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        (b"---\nlicense: other\n---\n", "other"),
        (b"---\nlicense: [a, b]\n---\n", "a, b"),
        (b"---\nlicense: {a: b}\n---\n", None),
        (b"---\nlicense: {\n---\n", None),
        (b"# no head\nlicense: mit\n", None),
        (b"---\n- a\n---\n", None),
        (b"\xff", None),
    ],
)
def test_the_licence_that_a_card_states(checkpoint: Build, card: bytes, stated: str | None) -> None:
    assert stated_licence(checkpoint(**{"README.md": card})) == stated


def test_without_a_card_none_is_stated(checkpoint: Build) -> None:
    assert stated_licence(checkpoint(config__json={})) is None
