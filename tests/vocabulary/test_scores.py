"""Scores of new Unigram pieces, by the real library."""

import json
import random

import pytest
from tokenizers import Tokenizer, models, trainers

from tokswap.vocabulary.scores import UNKNOWN, best_score, new_scores

CORPUS = ["the other mother gathers there", "there is another brother", "bother the others"] * 3


def trained() -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    unknown = {"unk_token": "<unk>", "special_tokens": ["<unk>"]}
    trainer = trainers.UnigramTrainer(vocab_size=40, show_progress=False, **unknown)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]


def build(vocab: list[tuple[str, float]]) -> Tokenizer:
    return Tokenizer(models.Unigram(vocab, unk_id=0))


def test_the_best_path_is_the_librarys() -> None:
    vocab = trained()
    scores, library = dict(vocab[1:]), build(vocab)
    worst = min(score for _, score in vocab)
    for text in ["themother", "another bother", "zzthe", "qother", "x"]:
        found = library.encode(text)
        spent = sum(scores.get(token, (worst - UNKNOWN) * len(token)) for token in found.tokens)
        longest = max(map(len, scores))
        best = best_score(text, scores, longest=longest, unknown=worst - UNKNOWN)
        assert best == pytest.approx(spent)


def test_new_pieces_are_chosen_and_other_text_is_cut_as_before() -> None:
    vocab = trained()
    worst = min(score for _, score in vocab)
    targets = ["mother", "grandmother", "thezz", "brotherhoods", "oth"]
    targets = [target for target in targets if target not in dict(vocab)]
    found = new_scores(targets, dict(vocab[1:]), worst=worst)
    assert list(found) == targets
    assert min(found.values()) >= worst  # else unknown text would count otherwise
    old, new = build(vocab), build([*vocab, *found.items()])
    for target in targets:
        assert new.encode(target).tokens == [target]
    rng = random.Random(0)  # noqa: S311 - no secret
    parts = [*"abdefghiklmnorstvyzq ", "the", "other", "ther", "mo", "bro"]
    texts = ["".join(rng.choices(parts, k=12)) for _ in range(400)]
    free = [text for text in texts if not any(target in text for target in targets)]
    assert 200 < len(free) < 400
    for text in free:
        assert old.encode(text).tokens == new.encode(text).tokens


def test_within_other_text_a_piece_takes_the_place_of_its_own_pieces_alone() -> None:
    vocab = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("c", -1.0), ("ca", -1.2), ("x", -9.0)]
    found = new_scores(["ab"], dict(vocab[1:]), worst=-9.0)
    new = build([*vocab, *found.items()])
    assert new.encode("abc").tokens == ["ab", "c"]
    assert new.encode("cab").tokens == ["ca", "b"]  # as before, for that was better by far


def test_a_piece_of_new_pieces_is_better_than_they_are() -> None:
    vocab = [("<unk>", 0.0), ("a", -5.0), ("b", -5.0), ("x", -100.0)]
    found = new_scores(["abab", "ab"], dict(vocab[1:]), worst=-100.0)
    assert build([*vocab, *found.items()]).encode("abab").tokens == ["abab"]
