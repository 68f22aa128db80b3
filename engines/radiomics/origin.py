"""How features were measured, in the words that decide whether two values may be compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOrigin:
    """How features were measured: those of two origins are two measurements and never feed one model.

    Attributes:
        extractor: ``fast`` or ``pyradiomics``.
        settings_sha256: hash of the settings document.
        mask_provider: who drew the masks.
        mask_version: version of the provider.
    """

    extractor: str
    settings_sha256: str
    mask_provider: str
    mask_version: str

    def text(self) -> str:
        """Returns the origin in words."""
        masks = f"{self.mask_provider} {self.mask_version}"
        return f"{self.extractor}, settings {self.settings_sha256[:12]}, masks of {masks}"
