"""The rules of ``tailrace check``: pure functions over the project's files and one picture of the catalogue."""
