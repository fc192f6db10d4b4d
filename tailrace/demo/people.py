"""Made-up customers: every detail is drawn from the random source that is given, so a seed repeats them exactly.

Names carry letters outside ASCII, phones and addresses are sometimes NULL, and some addresses are long enough to be
stored out of line: what a real table holds.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

FIRST = (
    "Ada", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Grace", "Hiro", "Inés", "João", "Kateřina", "Liam", "Mei",
    "Noor", "Olga", "Paweł", "Quinn", "Rosa", "Søren", "Tomás", "Uma", "Víctor", "Wanda", "Yusuf", "Zoë",
)  # fmt: skip
LAST = (
    "Adeyemi", "Becker", "Castro", "Dvořák", "Eriksen", "Fischer", "García", "Hansen", "Ito", "Jansen", "Kowalska",
    "Lindqvist", "Moreau", "Nguyen", "O'Brien", "Papadopoulou", "Quispe", "Rossi", "Schmidt", "Tanaka", "Unger",
    "Vargas", "Weiß", "Yavuz", "Zhang",
)  # fmt: skip
CITIES = (
    "Amsterdam", "Barcelona", "Córdoba", "Dublin", "Edinburgh", "Florence", "Gdańsk", "Helsinki", "İzmir", "Kraków",
    "Lisbon", "Malmö", "Nairobi", "Osaka", "Porto", "Quito", "Reykjavík", "São Paulo", "Tromsø", "Zürich",
)  # fmt: skip
STREETS = ("Harbour Road", "Mill Lane", "Station Street", "Ringvägen", "Rua do Ouro", "Ulica Długa")
_ASCII = str.maketrans({"'": "", " ": ""})


def person(rng: Random, number: int) -> dict[str, Any]:
    """Return the columns of a new customer, key and times aside; ``number`` keeps the e-mail apart."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    return {
        "name": f"{first} {last}",
        "email": email(first, last, number),
        "phone": phone(rng),
        "date_of_birth": date_of_birth(rng),
        "address": address(rng),
        "preferred": rng.random() < 0.1,
    }


def email(first: str, last: str, number: int) -> str:
    """Return an address in a domain that is reserved for examples."""
    local = f"{first}.{last}".lower().translate(_ASCII)
    return f"{local}.{number}@example.com"


def phone(rng: Random) -> str | None:
    """Return a phone number, or NULL for one customer in eight."""
    return None if rng.random() < 0.125 else f"+{rng.randint(1, 98)} {rng.randint(10**8, 10**9 - 1)}"


def date_of_birth(rng: Random) -> date | None:
    """Return a day between 1930 and 2005, or NULL for one customer in ten."""
    return None if rng.random() < 0.1 else date(1930, 1, 1) + timedelta(days=rng.randrange(27_000))


def address(rng: Random) -> str | None:
    """Return JSON text, or NULL for one customer in twelve; one in fifty is too long to be stored in the row."""
    if rng.random() < 1 / 12:
        return None
    found: dict[str, Any] = {
        "street": f"{rng.choice(STREETS)} {rng.randint(1, 240)}",
        "city": rng.choice(CITIES),
        "postcode": f"{rng.randrange(100_000):05d}",
        "geo": {"lat": round(rng.uniform(-60, 70), 6), "lon": round(rng.uniform(-180, 180), 6)},
    }
    if rng.random() < 0.1:
        found["city"] = None
    if rng.random() < 0.02:
        found["directions"] = long_text(rng)
    return json.dumps(found, ensure_ascii=False)


def note(rng: Random) -> str | None:
    """Return what a transfer is for: often nothing, now and then much."""
    drawn = rng.random()
    if drawn < 0.3:
        return None
    if drawn > 0.99:
        return long_text(rng)
    return rng.choice(("rent", "gift 🎁", "", "invoice #", "groceries", "Miete März", "split bill")) + str(
        rng.randrange(99)
    )


def long_text(rng: Random) -> str:
    """Return 3,000 characters that do not compress, which Postgres stores out of line (TOAST)."""
    return rng.randbytes(1500).hex()
