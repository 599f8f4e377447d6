"""Every error that a user can mend, under one base class.

    TokswapError
    ├── NameUnknownError       a model, tokenizer, method or token of that name is not to be had
    ├── CheckpointError        a checkpoint's files are missing, malformed or not supported
    ├── VocabularyError        a tokenizer.json is missing or its tokens cannot be read as bytes
    ├── RecipeError            a recipe or a setting is not valid; all faults at once
    ├── MethodError            a method cannot work on this pair of models
    ├── EncoderError           an auxiliary text encoder cannot be had, or not be used
    ├── OutputError            the output folder cannot be written, or holds something already
    ├── VerificationError      the written folder does not load as what it should be
    ├── EvaluationError        a text or a model cannot be measured
    ├── RefitError             rows cannot be refitted to a text
    ├── TrainingError          a training cannot go on, or not be resumed
    └── RankError              another process of the same run has failed, or cannot be reached

A message says what was given, what is wrong with it, and what to do.
"""


class TokswapError(Exception):
    """Base of all errors that the command line prints as one line, with exit code 1."""


class NameUnknownError(TokswapError):
    """A name stands for nothing that can be had."""


class CheckpointError(TokswapError):
    """A checkpoint's files are missing, malformed or of a kind that is not supported."""


class VocabularyError(TokswapError):
    """A tokenizer's files are missing or its tokens cannot be read as bytes."""


class RecipeError(TokswapError):
    """A recipe or a setting is not valid."""


class MethodError(TokswapError):
    """A method cannot work on this pair of models."""


class EncoderError(TokswapError):
    """An auxiliary text encoder cannot be had, or not be used."""


class OutputError(TokswapError):
    """The output folder cannot be written, or something lies there already."""


class VerificationError(TokswapError):
    """What was written does not load as what it should be."""


class EvaluationError(TokswapError):
    """A text or a model cannot be measured."""


class RefitError(TokswapError):
    """Rows cannot be refitted to a text."""


class TrainingError(TokswapError):
    """A training cannot go on, or not be resumed."""


class RankError(TokswapError):
    """Another process of the same run has failed, or cannot be reached."""
