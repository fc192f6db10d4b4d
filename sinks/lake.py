"""The whole history of all three tables as Parquet, for analytics."""

from tailrace import LakeTable

customers = LakeTable("customers", record="customers")
accounts = LakeTable("accounts", record="accounts")
transfers = LakeTable("transfers", record="transfers")
