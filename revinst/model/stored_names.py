"""Under which names a model's files hold its parameters: transformers renames some when it loads them, and makes others
of several (the experts of a mixture of one tensor each).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.core_model_loading import WeightConverter, WeightRenaming


@dataclass(frozen=True, slots=True)
class StoredNames:
    """own: parameter -> its name in the files, where one is the other. parts: names of what becomes another parameter.
    made: parameters that are made of those.
    """

    own: dict[str, str]
    parts: list[str]
    made: set[str]


def conversions(model: "PreTrainedModel") -> "tuple[list[WeightRenaming], list[WeightConverter]]":
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    found = get_model_conversion_mapping(model)
    return (
        [each for each in found if isinstance(each, WeightRenaming)],
        [each for each in found if isinstance(each, WeightConverter)],
    )


def match_names(model: "PreTrainedModel", stored: Iterable[str]) -> StoredNames:
    """stored: names in the files."""
    from transformers.core_model_loading import dot_natural_key, rename_source_key

    renamings, converters = conversions(model)
    parameters = model.state_dict()
    names = StoredNames({}, [], set())
    for name in sorted(stored, key=dot_natural_key):  # the order in which transformers renames them
        parameter, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)
        if pattern is None:
            names.own[parameter] = name
            continue
        names.parts.append(name)
        (converter,) = [each for each in converters if pattern in each.source_patterns][:1]
        first, *others = converter.target_patterns
        names.made.update(parameter.replace(first, target, 1) for target in (first, *others))
    return names


def made_of_parts(model: "PreTrainedModel", parameters: Iterable[str]) -> list[str]:
    """Those that transformers makes of what the files hold, by the model's architecture alone."""
    from transformers.core_model_loading import rename_source_key

    reverse = [cast("WeightConverter", each.reverse_transform()) for each in conversions(model)[1]]
    return [name for name in parameters if rename_source_key(name, [], reverse)[1] is not None]
