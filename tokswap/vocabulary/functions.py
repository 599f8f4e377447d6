# ruff: noqa: RUF001 - DeepSeek writes its tokens with full-width bars
"""What special tokens are for in chats, code and tool calls: families write the same thing apart.

``<|im_start|>``, ``<|start_header_id|>`` and ``<start_of_turn>`` all open a turn. A donor's token
takes the row of the base's token for the same function, for that is what the body has learnt.
"""

from collections.abc import Mapping, Sequence

FUNCTIONS: Mapping[str, Sequence[str]] = {
    # A turn of any role, whose name follows as text: ChatML and Phi-4, Llama 3, Gemma, Llama 4,
    # gpt-oss, Granite, Command R.
    "turn_start": (
        "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|header_start|>", "<|start|>",
        "<|start_of_role|>", "<|START_OF_TURN_TOKEN|>",
    ),
    # Between the role's name and what it says: Llama 3, Llama 4, gpt-oss, Granite, Phi-4, Kimi.
    "header_end": (
        "<|end_header_id|>", "<|header_end|>", "<|message|>", "<|end_of_role|>", "<|im_sep|>",
        "<|im_middle|>",
    ),
    # The end of a turn; families that end it by the end of text (Mistral, Granite, DeepSeek) have
    # none of their own.
    "turn_end": (
        "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|eot|>", "<|end|>",
        "<|END_OF_TURN_TOKEN|>", "[|endofturn|]", "<|end_of_turn|>", "<|EOT|>",
    ),
    # The end of a message whose turn goes on after a tool has answered: Llama 3, Llama 4.
    "message_end": ("<|eom_id|>", "<|eom|>", "<|call|>"),
    # A turn of one role: Phi-3 and GLM, Kimi, DeepSeek, EXAONE, Command R, Mistral.
    "system_start": (
        "<|system|>", "<|im_system|>", "[|system|]", "<|SYSTEM_TOKEN|>", "[SYSTEM_PROMPT]",
    ),
    "system_end": ("[/SYSTEM_PROMPT]",),
    "user_start": (
        "<|user|>", "<|im_user|>", "<｜User｜>", "[|user|]", "<|USER_TOKEN|>", "[INST]",
    ),
    "assistant_start": (
        "<|assistant|>", "<|im_assistant|>", "<｜Assistant｜>", "[|assistant|]",
        "<|CHATBOT_TOKEN|>", "[/INST]",
    ),
    # Tools: Mistral, Phi-4-mini; Qwen and GLM, Llama 3, DeepSeek, Kimi.
    "tools_start": ("[AVAILABLE_TOOLS]", "<|tool|>"),
    "tools_end": ("[/AVAILABLE_TOOLS]", "<|/tool|>"),
    "tool_call_start": (
        "<tool_call>", "<|tool_call|>", "[TOOL_CALLS]", "<|python_tag|>", "<|python_start|>",
        "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>",
        "<|tool_calls_section_begin|>", "<|tool_call_begin|>",
    ),
    "tool_call_end": (
        "</tool_call>", "<|/tool_call|>", "<|python_end|>",
        "<｜tool▁calls▁end｜>", "<｜tool▁call▁end｜>",
        "<|tool_calls_section_end|>", "<|tool_call_end|>",
    ),
    "tool_result_start": (
        "<tool_response>", "<|tool_response|>", "[TOOL_RESULTS]", "<|observation|>",
        "<｜tool▁outputs▁begin｜>", "<｜tool▁output▁begin｜>", "[|tool|]",
    ),
    "tool_result_end": (
        "</tool_response>", "[/TOOL_RESULTS]",
        "<｜tool▁outputs▁end｜>", "<｜tool▁output▁end｜>",
    ),
    # Thinking aloud: Qwen and DeepSeek, Magistral, Command A.
    "think_start": ("<think>", "[THINK]", "<|START_THINKING|>"),
    "think_end": ("</think>", "[/THINK]", "<|END_THINKING|>"),
    # Filling in the middle: Qwen and CodeGemma, StarCoder, SantaCoder, Code Llama, Codestral,
    # DeepSeek (prefix, hole for the suffix, end where the middle begins).
    "fim_prefix": (
        "<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "▁<PRE>", "<PRE>", "[PREFIX]",
        "<｜fim▁begin｜>",
    ),
    "fim_middle": (
        "<|fim_middle|>", "<fim_middle>", "<fim-middle>", "▁<MID>", "<MID>", "[MIDDLE]",
        "<｜fim▁end｜>",
    ),
    "fim_suffix": (
        "<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "▁<SUF>", "<SUF>", "[SUFFIX]",
        "<｜fim▁hole｜>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim_pad>", "<fim-pad>"),
    "file_separator": ("<|file_sep|>", "<file_sep>", "<|file_separator|>"),
    "repository_name": ("<|repo_name|>", "<repo_name>", "<reponame>"),
}  # fmt: skip
"""Special tokens by what they are for; of several that a base has, the first is taken.

ChatML comes before Llama 3, because a fine-tune that talks ChatML keeps the tokens of its Llama.
"""

STAND_INS: Mapping[str, Sequence[str]] = {
    "turn_start": ("user_start",),
    "header_end": ("assistant_start",),
    "turn_end": ("eos",),
    "message_end": ("turn_end",),
    "system_start": ("turn_start", "user_start"),
    "user_start": ("turn_start",),
    # Between the user's words and the answer: Llama 3 has the end of a header there.
    "assistant_start": ("header_end", "turn_start"),
}
"""Functions and roles that come nearest where a base has no token for a function, in order."""


def with_tokens(said: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Extend the known functions by a recipe's tokens, which come first and have no other."""
    taken = {token for tokens in said.values() for token in tokens}
    known = {
        function: tuple(token for token in tokens if token not in taken)
        for function, tokens in FUNCTIONS.items()
    }
    return known | {function: (*tokens, *known[function]) for function, tokens in said.items()}


def match_function(
    string: str,
    functions: Mapping[str, Sequence[str]],
    base_strings: Mapping[str, int],
    base_roles: Mapping[str, int],
) -> tuple[int, str] | None:
    """Find the base token that does what a donor's special token does.

    Args:
        string: The donor's token.
        functions: Tokens by function; see :data:`FUNCTIONS`.
        base_strings: Ids of the base's special and added tokens by string.
        base_roles: The base's token id by role.

    Returns:
        The base id and the reason; None where the token has no known function, or the base no
        token that comes near.
    """
    function = next((name for name, tokens in functions.items() if string in tokens), None)
    if function is None:
        return None
    for name in (function, *STAND_INS.get(function, ())):
        ids = [base_strings[token] for token in functions.get(name, ()) if token in base_strings]
        ids += [base_roles[name]] if name in base_roles else []
        if ids:
            near = "" if name == function else f", nearest {name}"
            return ids[0], f"function {function}{near}"
    return None
