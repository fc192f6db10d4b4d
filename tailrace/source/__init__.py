"""The source side seen from outside the data path: the Postgres catalogue, its types, Kafka Connect."""
