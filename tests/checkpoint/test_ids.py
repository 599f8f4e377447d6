"""The new ids of the base's tokens."""

from checkpoint.made import alignment, vocabulary
from tokswap.checkpoint.ids import TokenIds, is_id
from tokswap.checkpoint.settings import patch_settings
from tokswap.vocabulary.align import align


def test_the_new_id_of_a_row_that_several_tokens_took() -> None:
    base = vocabulary(["<e>", "a"], bos=0, eos=0)
    donor = vocabulary(["<s>", "</s>", "a"], bos=0, eos=1)
    ids = TokenIds(align(base, donor, base_rows=2, rows=3))
    assert ids.new(0, "bos") == 0
    assert ids.new(0, "eos") == 1
    assert ids.new(0) == 0
    assert ids.new(1) == 2
    assert ids.new(5) is None
    said = {"bos_token_id": 0, "eos_token_id": 0}
    assert patch_settings(said, alignment(base, donor))[0] == {"bos_token_id": 0, "eos_token_id": 1}


def test_a_token_whose_role_another_took_goes_where_its_role_is_played() -> None:
    base = vocabulary(["<s>", "</s>", "a"], bos=0, eos=1)
    donor = vocabulary(["a", "<end>"], bos=1, eos=1)  # takes the row of </s>
    ids = TokenIds(alignment(base, donor))
    assert ids.new(1) == 1
    assert ids.new(0) == 1


def test_an_added_token_is_found_by_its_text_where_only_one_side_calls_it_special() -> None:
    base = vocabulary(["<image>", "a", "b"])
    donor = vocabulary(["a", "<image>"])
    plain = donor.__class__(**{**vars(donor), "special": frozenset()})
    assert TokenIds(alignment(base, plain)).new(0) == 1
    assert TokenIds(alignment(base, plain)).new(2) is None


def test_an_id_beyond_the_rows_of_a_base_on_its_own_tokenizer_stays() -> None:
    base = vocabulary(["<s>", "a", "<image>"])
    same = align(base, base, base_rows=2, rows=3)
    assert TokenIds(same).new(2) == 2
    assert TokenIds(same).new(7) == 7


def test_what_is_an_id() -> None:
    assert is_id(0)
    assert not any(is_id(value) for value in (True, False, -1, None, 1.0, "1", [1]))
