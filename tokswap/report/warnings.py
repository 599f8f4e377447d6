"""What a user should know before a transplant: what no initialisation can mend."""

from tokswap.pair import Pair
from tokswap.recipe import Recipe
from tokswap.vocabulary.bos import opening
from tokswap.vocabulary.kinds import digit_scheme


def warnings_for(pair: Pair, recipe: Recipe) -> list[str]:
    """List what is known to go wrong with this pair and recipe."""
    base, donor = pair.base.vocabulary, pair.donor.vocabulary
    found = []
    schemes = digit_scheme(base), digit_scheme(donor)
    if schemes[0] != schemes[1]:
        found.append(
            f"the base reads numbers in {schemes[0]}, the donor in {schemes[1]}: arithmetic will "
            "suffer, whatever the method"
        )
    begins = opening(base)
    if "bos" in base.roles and base.roles["bos"] in begins and not opening(donor):
        found.append(
            f"the base begins each text with {base.strings[base.roles['bos']]} and the donor's "
            "tokenizer begins it with nothing; `--bos keep` adds the base's token to it"
        )
    if pair.kept_bos:
        files = " and ".join(sorted(pair.kept_bos.contents))
        found.append(
            f"{pair.kept_bos.token} begins texts as in the base (id {pair.kept_bos.id}); for that "
            f"the donor's {files} were edited"
        )
    if not pair.layout.causal and "mask" in base.roles and "mask" not in donor.roles:
        found.append(
            f"the base fills in {base.strings[base.roles['mask']]} and the donor's tokenizer has "
            "no such token: the result cannot be asked to"
        )
    if recipe.filling.names["output"] == "zero" and len(pair.alignment.missing):
        found.append("zero rows in the head have logit 0, which can outrank real tokens")
    methods = recipe.methods
    if pair.layout.tied and methods["input"] != methods["output"]:
        found.append(
            "the base's head is its embedding (tied), so one table is made by the settings of the "
            "input role; those of the output role are not used"
        )
    if recipe.eval is not None and not pair.layout.causal:
        found.append("AutoModelForCausalLM does not load the base, so nothing is measured")
    beyond = sum(source >= pair.alignment.base_rows for source in base.ids.values())
    if beyond:
        found.append(f"{beyond} base tokens have no row in the base's tables and are not used")
    if pair.donor_layout is not None:
        rows = pair.donor.info(pair.donor_layout.input).shape[0]
        lacking = [n for n in pair.alignment.missing if n >= rows]
        if lacking:
            found.append(
                f"{len(lacking)} donor tokens have no row in the donor's tables ({rows} rows), "
                f"among them {donor.show(int(lacking[0]))}; their rows are made of their pieces"
            )
    found += [
        f"{len(moved)} added tokens of {vocabulary.name}, among them {moved[0]}, get other ids "
        "from the tokenizers library than tokenizer.json says; the library's are used"
        for vocabulary in (base, donor)
        if (moved := vocabulary.moved)
    ]
    plain = [name for name in pair.layout.names if pair.base.parts(name)]
    if plain:
        found.append(
            f"the base stores {' and '.join(plain)} quantised: in the output "
            f"{'they are' if len(plain) > 1 else 'it is'} plain "
            f"({', '.join(dict.fromkeys(pair.base.info(name).dtype for name in plain))}), since "
            "new rows were never calibrated"
        )
    return found
