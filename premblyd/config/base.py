"""What all models of the configuration have in common."""

from collections.abc import Set

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A mapping of the file. It can't be changed, and no key that it does not know is taken."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        # Only the file's model is built, as it is used, with the others in it. Built one by one,
        # as they are imported, they take 20 ms of every start.
        defer_build=True,
    )


def keys_of(model: type[BaseModel]) -> Set[str]:
    """Return the keys that a mapping of the file may have."""
    return {field.alias or name for name, field in model.model_fields.items()}
