"""What the configurations say of themselves: their choices, keys and comments, for help, lists and docs. No torch."""

from deitlt.config.reference.catalogue import TOPICS, Entry, Topic, topic_of
from deitlt.config.reference.comments import comments, sentence_of, title
from deitlt.config.reference.examples import EXAMPLES
from deitlt.config.reference.groups import Choice, choices_of, group_comment, groups_of
from deitlt.config.reference.keys import Key, keys_of_group, keys_of_verb
from deitlt.config.reference.page import all_keys, keys_page, verb_configs
from deitlt.config.reference.verb_help import verb_help

__all__ = [
    "EXAMPLES",
    "TOPICS",
    "Choice",
    "Entry",
    "Key",
    "Topic",
    "all_keys",
    "choices_of",
    "comments",
    "group_comment",
    "groups_of",
    "keys_of_group",
    "keys_of_verb",
    "keys_page",
    "sentence_of",
    "title",
    "topic_of",
    "verb_configs",
    "verb_help",
]
