"""What a refit has come to, in lines for people."""

import math
from collections.abc import Mapping
from typing import Any

THIN = 5.0
"""Occurrences of a new token, the mean, below which more text is worth it."""


def lines(about: Mapping[str, Any]) -> list[str]:
    """Tell what was read, done and gained."""
    new = about["new"]
    found = [
        f"refit to {about['tokens']:,} tokens of {', '.join(about['text'])}, {about['held_out']:,} "
        f"of them held out: {new['seen']:,} of {new['missing']:,} new tokens stand there "
        f"{new['times']:,} times, the others keep the method's rows"
    ]
    if blend := about.get("blend"):
        shares = ", ".join(f"{kind} {share:g}" for kind, share in blend["shares"].items())
        found.append(
            f"embedding, the last piece's share by kind: {shares} (shared tokens behind them cost "
            f"{_step(blend)} bits)"
        )
    if match := about.get("match"):
        behind = match.get("behind")
        lucky = behind is not None and behind["after"] < behind["before"]
        why = "may be chance" if lucky else "is no better"
        found.append(
            f"embedding, matched in {match['steps']:,} steps: distance of held-out states "
            f"{match['before']:.4f} → {match['after']:.4f}"
            + (f", shared tokens behind them cost {_step(behind)} bits" if behind else "")
            + ("" if match["kept"] else f", which {why}: the rows stay")
        )
    if (output := about.get("output")) and output["kept"]:
        gain = output["gain"] / math.log(2)
        pull = f"pull {output['strength']:g}" if "strength" in output else "as they were"
        found.append(f"head: {pull}; held-out tokens cost {gain:.4f} bits less each")
    elif output:
        found.append("head: held-out text is no better for refitted rows; they stay")
    if whole := about.get("whole"):
        own = f", the base's own {_step(whole['own'])}" if "own" in whole else ""
        found.append(f"together: held-out text {_step(whole)} bits a token{own}{_why(whole)}")
    return found


def _why(whole: Mapping[str, Any]) -> str:
    """Say why nothing is kept, where that is so."""
    if whole["kept"]:
        return ""
    if whole["after"] < whole["before"]:
        return (
            ", which is dearer, and other domains would be too: the method's rows stay (--set "
            "refit.written=0 refits to the text alone)"
        )
    return ", which is no better: the method's rows stay"


def _step(said: Mapping[str, float]) -> str:
    old, new = (nats / math.log(2) for nats in (said["before"], said["after"]))
    return f"{old:.4f} → {new:.4f}"


def notes(about: Mapping[str, Any]) -> list[str]:
    """Tell what the user should know."""
    found, new = [], about["new"]
    if new["times"] < THIN * new["seen"]:
        found.append(
            f"the {new['seen']:,} new tokens of the refit's text stand there only "
            f"{new['times'] / max(new['seen'], 1):.1f} times each; more text gains more"
        )
    if about["more"]:
        found.append(
            f"the refit has read {about['tokens']:,} tokens, and the text goes on; "
            "--set refit.tokens=N reads more"
        )
    return found
