"""Check settings against a schema, say what is wrong in one line, and fill in the defaults."""

from difflib import get_close_matches
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from regulonformer.errors import InputError


def read_yaml(path) -> dict:
    """Read a YAML file; an empty file is an empty mapping.

    Raises
    ------
    InputError
        If the file is missing or is not valid YAML.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(path, "no such file", "Check the path; it is relative to the working directory") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        raise InputError(path, f"not valid YAML{line}", "Check indentation, colons and quotes there") from None
    return content or {}


def check_settings(settings: dict, schema: dict, where: str) -> dict:
    """Return the settings with defaults filled in and keys sorted, or raise at the first fault.

    Parameters
    ----------
    settings
        Nested plain dictionaries and lists.
    schema
        JSON schema (draft 2020-12) whose properties carry `default`; so may those of `allOf` branches of if and then.
    where
        File to name in errors.

    Raises
    ------
    InputError
        Names the key, its value and what is allowed there.
    """
    fault = next(
        iter(sorted(Draft202012Validator(schema).iter_errors(settings), key=lambda e: list(map(str, e.path)))), None
    )
    if fault is not None:
        raise _explain(fault, where)
    return _filled(settings, schema)


def _explain(fault, where: str) -> InputError:
    """Word one schema fault as key, value and fix."""
    key = "/".join(map(str, fault.absolute_path)) or "top level"
    if fault.validator == "additionalProperties":
        known = sorted(fault.schema.get("properties", {}))
        unknown = sorted(set(fault.instance) - set(known))[0]
        close = get_close_matches(unknown, known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Allowed here: {', '.join(known)}"
        return InputError(where, f"unknown key '{unknown}' at {key}", hint)
    if fault.validator == "required":
        return InputError(
            where, f"{fault.message} at {key}", "Add it; its description is in the schema beside the workflow"
        )
    if fault.validator == "type":
        wanted = fault.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        hint = f"Give a value of type {wanted}"
        if isinstance(fault.instance, str) and "number" in wanted:
            hint += "; YAML reads 1e-4 as text, write 1.0e-4"
        return InputError(where, f"{key} is {fault.instance!r}", hint)
    if fault.validator == "enum":
        return InputError(
            where, f"{key} is {fault.instance!r}", f"Choose one of {', '.join(map(str, fault.validator_value))}"
        )
    return InputError(where, f"{key} is {fault.instance!r}: {fault.message}", "See the key's description in the schema")


def _filled(value, schema: dict):
    """Fill defaults depth first, and sort keys so that their order in the file is without meaning."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for branch in schema.get("allOf", []):
            if Draft202012Validator(branch["if"]).is_valid(value):
                properties = branch["then"]["properties"] | properties
        extra = schema.get("additionalProperties")
        extra = extra if isinstance(extra, dict) else {}
        present = {key: rule["default"] for key, rule in properties.items() if "default" in rule} | value
        return {key: _filled(present[key], properties.get(key, extra)) for key in sorted(present)}
    if isinstance(value, list):
        return [_filled(item, schema.get("items", {})) for item in value]
    return value
