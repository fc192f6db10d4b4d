"""The SQL that the picture of the catalogue is made of (tailrace.source.catalogue); each query returns named columns.

It asks pg_catalog and nothing else, and holds from PostgreSQL 15 on.
"""

SERVER = """
SELECT r.rolname AS role, current_database() AS database, current_setting('server_version_num')::int AS version,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       pg_encoding_to_char(d.encoding) AS encoding,
       r.rolreplication OR r.rolsuper AS replication_role
FROM pg_database d, pg_roles r
WHERE d.datname = current_database()
  AND r.rolname = coalesce((SELECT rolname FROM pg_roles WHERE rolname = %s), current_user)
"""
SETTINGS = """
SELECT name, setting FROM pg_settings
WHERE name IN ('wal_level', 'max_slot_wal_keep_size', 'max_replication_slots', 'max_wal_senders')
"""
# Partitions are their root's matter.
NAMES = """
SELECT n.nspname || '.' || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND left(n.nspname, 3) <> 'pg_'
  AND n.nspname <> 'information_schema'
ORDER BY 1
"""
TABLES = """
SELECT c.oid::bigint AS oid, n.nspname || '.' || c.relname AS name, c.relreplident AS identity,
       c.relkind = 'p' AS partitioned, obj_description(c.oid, 'pg_class') AS comment,
       c.reltoastrelid <> 0 OR EXISTS (
           SELECT FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE l.reltoastrelid <> 0
       ) AS toasted,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_constraint p CROSS JOIN unnest(p.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        WHERE p.conrelid = c.oid AND p.contype = 'p') AS key,
       c.relpersistence <> 'u' AS logged,
       (SELECT m.nspname || '.' || o.relname FROM pg_class o JOIN pg_namespace m ON m.oid = o.relnamespace
        WHERE o.oid = pg_partition_root(c.oid) AND o.oid <> c.oid) AS root,
       c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls
           OR (pg_has_role(r.oid, c.relowner, 'USAGE') AND NOT c.relforcerowsecurity)) AS hidden,
       has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'SELECT') AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = %s
WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname = ANY (%s)
ORDER BY 2
"""
COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.atttypid AS type, a.atttypmod AS modifier, a.attnotnull AS required
    FROM pg_attribute a WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attrelid, b.attnum, t.typbasetype, CASE WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE b.modifier END,
           b.required OR t.typnotnull
    FROM base b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT b.attrelid::bigint AS oid, a.attname AS name, t.typname AS type,
       format_type(a.atttypid, a.atttypmod) AS shown, b.modifier, NOT b.required AS nullable,
       t.typtype = 'e' AS enum, a.attgenerated <> '' AS generated, a.atthasdef AS defaulted,
       a.attstorage AS storage, coalesce(col_description(a.attrelid, a.attnum), '') AS comment,
       coalesce(i.typname, '') AS item, coalesce(i.typtype, t.typtype) AS sort, a.attndims AS dimensions,
       coalesce(NOT l.collisdeterministic, false) AS loose
FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd'
LEFT JOIN pg_type i ON i.typarray = t.oid
JOIN pg_attribute a ON a.attrelid = b.attrelid AND a.attnum = b.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
ORDER BY b.attrelid, b.attnum
"""
FOREIGN_KEYS = """
SELECT f.conrelid::bigint AS oid, f.conname AS name,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number) AS columns,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.conrelid AND i.indpred IS NULL
               AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey) AS indexed
FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = ANY (%s)
ORDER BY 2
"""
PUBLICATIONS = """
SELECT p.pubname AS name, p.puballtables AS all_tables, p.pubviaroot AS via_root, p.pubinsert AS insert,
       p.pubupdate AS update, p.pubdelete AS delete, p.pubtruncate AS truncate,
       coalesce((SELECT array_agg(n.nspname::text) FROM pg_publication_namespace s
                 JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid), '{}') AS schemas,
       coalesce(array_agg(m.nspname || '.' || c.relname ORDER BY m.nspname, c.relname)
                FILTER (WHERE c.oid IS NOT NULL), '{}') AS tables,
       coalesce(array_agg(m.nspname || '.' || c.relname)
                FILTER (WHERE r.prqual IS NOT NULL OR r.prattrs IS NOT NULL), '{}') AS filtered
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
LEFT JOIN pg_class c ON c.oid = r.prrelid
LEFT JOIN pg_namespace m ON m.oid = c.relnamespace
GROUP BY p.oid
"""
SLOTS = """
SELECT slot_name AS name, coalesce(plugin, '') AS plugin, coalesce(database, '') AS database, active,
       coalesce(wal_status, '') AS wal_status,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS retained
FROM pg_replication_slots
"""
OTHERS = """
SELECT n.nspname || '.' || c.relname AS name, c.relkind AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm', 'f') AND n.nspname || '.' || c.relname = ANY (%s)
"""
# Columns of an index over an expression are shown as empty names.
UNIQUES = """
SELECT i.indrelid::bigint AS oid, x.relname AS name,
       array_agg(coalesce(a.attname::text, '') ORDER BY k.place) AS columns,
       i.indisprimary AS primary, i.indimmediate AS immediate, i.indpred IS NULL AS whole, i.indisvalid AS valid,
       i.indisreplident AS identity
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = ANY (%s) AND i.indisunique AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, x.relname
ORDER BY 2
"""
LEAVES = """
SELECT r.oid::bigint AS oid, n.nspname || '.' || c.relname AS name, c.relreplident AS identity,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE i.indrelid = c.oid AND i.indisreplident AND k.place <= i.indnkeyatts) AS columns,
       c.reltoastrelid <> 0 AS toasted, c.relpersistence <> 'u' AS logged, c.relkind = 'f' AS "foreign"
FROM pg_class r CROSS JOIN pg_partition_tree(r.oid) t JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.oid = ANY (%s) AND r.relkind = 'p' AND t.isleaf
ORDER BY 2
"""
