"""One DynamoDB table for the application's reads.

A customer with all accounts is one Query on CUSTOMER#id; all preferred customers are one Query on the index
`preferred`, which holds nobody else.
"""

from tailrace import DynamoDBTable, Index

profiles = DynamoDBTable(
    "bank",
    record="customers",
    pk="CUSTOMER#{id}",
    sk="PROFILE",
    indexes=(Index("preferred", pk="PREFERRED", sk="CUSTOMER#{id}", when="preferred"),),
)
accounts = DynamoDBTable("bank", record="accounts", pk="CUSTOMER#{customer_id}", sk="ACCOUNT#{id}")
