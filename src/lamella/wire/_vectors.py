"""Vectors on the wire: numbers in JSON, or 32-bit floats in base64."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from typing import Any

import msgspec

from lamella.types import Vector


def vector_of(value: Any) -> Vector:
    """A vector out of a list of numbers, or out of base64. Raises ValueError that says what is wrong."""
    if isinstance(value, str):
        return _from_base64(value)
    try:
        return msgspec.convert(value, Vector)
    except msgspec.ValidationError as error:
        raise ValueError(f'is no list of numbers ({error})') from error


def _from_base64(text: str) -> Vector:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        numbers = array('f', data)
    except ValueError as error:
        raise ValueError(f'is no base64 of 32-bit floats ({error})') from error
    if sys.byteorder == 'big':
        numbers.byteswap()
    return tuple(numbers)


def base64_of(vector: Vector) -> str:
    """32-bit floats, the lowest byte first."""
    numbers = array('f', vector)
    if sys.byteorder == 'big':
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode('ascii')
