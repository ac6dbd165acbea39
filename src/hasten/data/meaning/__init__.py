"""What each output of a model means: found from its operators and values, or given."""

from hasten.data.meaning.find import find_meanings
from hasten.data.meaning.kind import KINDS, Meaning, OutputKind, parse_output, parse_outputs

__all__ = ["KINDS", "OutputKind", "Meaning", "find_meanings", "parse_output", "parse_outputs"]
