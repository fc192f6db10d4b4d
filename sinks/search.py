"""Customers by name, e-mail and city. The address itself stays out: a search index holds what is searched for."""

from tailrace import SearchIndex

customers = SearchIndex(
    "customers",
    record="customers",
    fields=("id", "name", "email", "city", "phone", "date_of_birth", "preferred", "created_at", "updated_at"),
    text=("name", "email", "city"),
)
