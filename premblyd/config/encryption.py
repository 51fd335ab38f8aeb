"""What seals the record: data keys, each in a file of its own."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationInfo, model_validator

from premblyd.config.secrets import Secret, read_if_allowed, secret_places
from premblyd.config.values import Model
from premblyd.vault import DataKey, Vault


def _data_key(value: Any, info: ValidationInfo) -> Secret:
    """Read a data key. Who may not read its file sees what is sealed as sealed."""
    if isinstance(value, str):
        raise ValueError("a data key has a file of its own: {file: premblyd-data-key}")
    found = read_if_allowed(value, secret_places(info))
    if found.value is not None:
        DataKey.read(found.value)
    return found


DataKeyValue = Annotated[Secret, PlainValidator(_data_key)]


class Encryption(Model):
    """The data keys: `key` seals what comes, and all of them open what is there. With `old_keys`
    alone nothing is sealed: what another host is to seal with is first known so to all.
    `identity: sealed`: references and user_refs are sealed too."""

    key: DataKeyValue | None = None
    old_keys: tuple[DataKeyValue, ...] = Field(())
    identity: Literal["plain", "sealed"] = "plain"

    @model_validator(mode="after")
    def _has_a_key(self) -> "Encryption":
        if self.key is None and not self.old_keys:
            raise ValueError("should have a `key:`, such as {file: premblyd-data-key}")
        if self.key is None and self.seals_names:
            raise ValueError("`identity: sealed` needs a `key:`, by which names are sealed")
        return self

    @property
    def seals_names(self) -> bool:
        """Whether references and user_refs are sealed too."""
        return self.identity == "sealed"

    @cached_property
    def vault(self) -> Vault:
        """What seals and opens by those of the keys that this user may read. Raise CannotStartError
        when the library for it is not installed."""
        key, *old = (
            None if secret is None or secret.value is None else DataKey.read(secret.value)
            for secret in (self.key, *self.old_keys)
        )
        others = [each for each in old if each is not None]
        return Vault(key, others, seals_names=self.seals_names)

    def require_library(self) -> None:
        """Raise CannotStartError when the library is not installed that seals."""
        Vault(None)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the keys are, in words that name no key."""
        return tuple(each.source if each else "" for each in (self.key, *self.old_keys))
