"""The one module that imports `phonenumbers`: which digits are a telephone number. Loaded when a layer wants phones."""

from __future__ import annotations

import re
from typing import Any

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata

REGIONS = frozenset(phonenumbers.SUPPORTED_REGIONS)


class Region:
    """Numbers as they are dialled within one country (ISO 3166, such as `US`)."""

    def __init__(self, name: str) -> None:
        metadata: Any = PhoneMetadata.metadata_for_region(name)
        self._name = name
        self._trunk: str = metadata.national_prefix or ''
        self._any = re.compile(metadata.general_desc.national_number_pattern)
        self._mobile = re.compile(metadata.mobile.national_number_pattern or r'(?!)')
        lengths = metadata.general_desc.possible_length
        self.lengths = {*lengths, *(length + len(self._trunk) for length in lengths)}
        self.is_american = metadata.country_code == 1  # the North American plan, with its one way to write a number

    def has(self, digits: str) -> bool:
        """Whether these digits are a number here. Without the trunk prefix `0`, where there is one, only a mobile's."""
        if len(digits) not in self.lengths or not self._may_be(digits):
            return False
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(digits, self._name))
        except NumberParseException:
            return False

    def _may_be(self, digits: str) -> bool:
        """A cheap look beforehand."""
        if self._trunk and digits.startswith(self._trunk) and self._any.fullmatch(digits, len(self._trunk)):
            return True
        return (self._mobile if self._trunk == '0' else self._any).fullmatch(digits) is not None


def is_international(digits: str) -> bool:
    """Whether the digits behind a plus sign are somebody's number."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(f'+{digits}', None))
    except NumberParseException:
        return False
