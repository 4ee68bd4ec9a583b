"""Read settings by pydantic-settings. Its sources are ours: they never expand `${…}`, and say where a value is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Find = Callable[[str], str | None]


class Environment(BaseSettings):
    """The settings as they are written, each from `AIHUB_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="AIHUB_", hide_input_in_errors=True, str_strip_whitespace=True)

    api_key: SecretStr | None = None
    api_root: str = ""
    context: str | None = None  # an empty one is set on purpose


class _Source(PydanticBaseSettingsSource):
    """One of our sources of settings, in the form that pydantic-settings expects."""

    def __init__(self, settings: type[BaseSettings], find: Find) -> None:
        super().__init__(settings)
        self._find = find

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a setting, or None. Only the context may be empty."""
        value = self._find((self.config.get("env_prefix", "") + field_name).upper())
        is_set = value is not None and (field_name == "context" or value.strip())
        return (value if is_set else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all settings that this source has."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def read_environment(sources: Sequence[Find]) -> Environment:
    """Return the settings of these sources, the strongest first. Each finds a variable by its name."""

    class FromSources(Environment):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_unused: Any, **_also_unused: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(_Source(settings_cls, find) for find in sources)

    return FromSources()
