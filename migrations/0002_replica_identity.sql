-- What the write-ahead log says about the row before a change.
-- accounts: the DynamoDB key of an account holds customer_id, which is not in its primary key, so deletes and moves
--           between customers need the old row.
-- customers, transfers: address and note may be long enough to be stored out of line (TOAST); with the full old row
--           Debezium sends their value also when they did not change.
alter table customers replica identity full;
alter table accounts replica identity full;
alter table transfers replica identity full;
