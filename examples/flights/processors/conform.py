"""What rows of the data set become. All tables but flights are conformed by name and type."""

from tailrace import Row, conform


@conform("public.flights", to="flights")
def flight(row: Row) -> Row:
    """Say whether the flight was cancelled: it then never left, and every measured column is null."""
    return {**row, "cancelled": row["dep_time"] is None}
