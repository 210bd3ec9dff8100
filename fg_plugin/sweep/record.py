"""What a check found out about one architecture."""

from typing import Any, NamedTuple


class Record(NamedTuple):
    """The result of one check of one architecture.

    Attributes:
        architecture: Name in timm, without ``fg_``.
        failures: What does not hold, empty if the check passed.
        facts: What was measured, as far as the check came; ready for ``json.dumps``.
        seconds: How long it took.
    """

    architecture: str
    failures: list[str]
    facts: dict[str, Any]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return not self.failures
