"""What rows of the bank become. accounts and transfers have no function here: they are conformed by name and type."""

import json

from tailrace import Row, conform


@conform("public.customers", to="customers")
def customer(row: Row) -> Row:
    """Add the city, which search and people ask for, beside the address it stands in."""
    return {**row, "city": city(row["address"])}


def city(address: str | None) -> str | None:
    """Return the city of an address (JSON text), where it names one."""
    parsed = json.loads(address) if address else None
    found = parsed.get("city") if isinstance(parsed, dict) else None
    return found if isinstance(found, str) else None
