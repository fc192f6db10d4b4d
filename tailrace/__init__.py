"""Tailrace keeps DynamoDB tables, an S3 data lake and a search index true to a PostgreSQL database."""
