"""By which events an action is chosen, on its own: another choice is tried without another file."""

from typing import Any

from pydantic import Field, ValidationError

from premblyd.config.models import Action, Config
from premblyd.config.values import Code, Model, Select, TypePattern
from premblyd.errors import PremblydError


class Selection(Model):
    """An action's `types`, `response_codes` and `when`, as its keys are."""

    types: tuple[TypePattern, ...] = Field(min_length=1)
    response_codes: tuple[Code, ...] = Field(min_length=1)
    when: Select | None = None

    @classmethod
    def of(cls, action: Action) -> "Selection":
        """Return the one of an action."""
        return cls.model_construct(
            types=action.types, response_codes=action.response_codes, when=action.when
        )

    @classmethod
    def read(cls, types: list[str], response_codes: list[str], when: str) -> "Selection":
        """Read what somebody typed. Raise PremblydError with what is wrong with it."""
        typed = {"types": types, "response_codes": response_codes, "when": when.strip() or None}
        try:
            return cls.model_validate(typed)
        except ValidationError as error:
            raise PremblydError(
                "; ".join(map(_words, error.errors(include_input=False, include_url=False)))
            ) from None


def reselected(settings: Config, name: str, selection: Selection) -> Config:
    """Return these settings, but that this action is chosen by `selection`."""
    changes = {field: getattr(selection, field) for field in Selection.model_fields}
    actions = [
        action.model_copy(update=changes) if action.name == name else action
        for action in settings.actions
    ]
    return settings.model_copy(update={"actions": tuple(actions)})


def _words(detail: Any) -> str:
    place, *_ = detail["loc"]
    if detail["type"] == "too_short":
        return f"`{place}` should not be empty"
    error = detail.get("ctx", {}).get("error")
    return f"`{place}`: {error or detail['msg']}"
