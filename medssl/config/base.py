"""What every settings class shares."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

MAX_SEED = 2**31 - 1


def _as_text(value: Any) -> Any:
    """Take the number 1 where a label value is meant; true and false came from yes and no."""
    if isinstance(value, bool):
        raise ValueError("YAML reads yes and no as true and false; put the value in quotes")
    return str(value) if isinstance(value, int | float) else value


LabelText = Annotated[str, BeforeValidator(_as_text)]
Precision = Annotated[Literal["32", "bf16"], BeforeValidator(_as_text)]


class Settings(BaseModel):
    """Frozen settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def digest(self) -> str:
        """Return the SHA-256 of the complete settings, as hex."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
